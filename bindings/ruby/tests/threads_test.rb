# frozen_string_literal: true

require_relative "helper"
require "minitest/mock"

# Many threads on one engine, closing under load, signals, and the garbage collector.
class ThreadsTest < Minitest::Test
  include Helper

  THREADS = 16
  ROUNDS = 300

  def together(&work)
    Array.new(THREADS) do |i|
      Thread.new do
        Thread.current.report_on_exception = false
        work.call(i)
      end
    end.each(&:join)
  end

  def test_slots_and_usage_add_up
    engine = Grate::Engine.new(config(a: [quota(3, "concurrency"), quota(10**6), quota(10**9, "tokens")]), clock: clock)
    lock = Mutex.new
    in_flight = most = 0
    together do |i|
      done = 0
      while done < ROUNDS
        begin
          lease = engine.acquire("api", tokens: i + 1)
        rescue Grate::NoProviderAvailableError => e
          raise unless e.held_by == :concurrency

          next Thread.pass
        end
        lock.synchronize { most = [most, in_flight += 1].max }
        Thread.pass
        lock.synchronize { in_flight -= 1 }
        lease.complete(tokens: 10 * (i + 1), headers: { "x-thread" => i })
        done += 1
      end
    end
    assert_operator most, :<=, 3
    used = engine.provider_state("a").quotas.to_h { |quota| [quota.dimension, quota.used] }
    assert_equal [THREADS * ROUNDS, ROUNDS * THREADS.times.sum { |i| 10 * (i + 1) }], used.values_at(:requests, :tokens)
    metrics = engine.metrics
    assert_equal [THREADS * ROUNDS] * 2 + [0], [metrics.acquires, metrics.completions, metrics.leases_in_flight]
  end

  def test_decisions_do_not_mix
    names = Array.new(THREADS) { |i| "p#{i}" }
    engine = Grate::Engine.new({ providers: names.map { |name| { name: name } },
                                 capabilities: names.map { |name| { name: name, providers: [{ provider: name }] } } },
                               clock: clock)
    together do |i|
      ROUNDS.times do
        lease = engine.acquire("p#{i}", explain: true)
        Thread.pass
        raise "mixed" unless lease.provider == "p#{i}" && lease.candidates.map(&:provider) == ["p#{i}"]

        lease.cancel
      end
    end
    assert_equal THREADS * ROUNDS, engine.metrics.cancellations
  end

  # Permits are taken and given back by threads that are stopped anywhere.
  def test_closing_under_load
    20.times do |turn|
      engine = Grate::Engine.new(config(a: [quota(10**6)]), clock: clock)
      started = Queue.new
      together do |i|
        started << i
        Thread.pass until started.size == THREADS
        if i.zero?
          sleep(0.0005 * (turn % 4))
          engine.close
          next
        end
        begin
          loop do
            engine.acquire("api", explain: i.even?) { |lease| lease.complete(tokens: 1) }
            engine.provider_state("a")
            Thread.pass # or each would run for its whole time slice of 100 ms
          end
        rescue Grate::ClosedEngineError
          nil
        end
      end
      assert_raises(Grate::ClosedEngineError) { engine.metrics }
      GC.start
    end
  end

  # A call that is under way when the engine is closed still finds it there. Who comes home last frees it.
  def test_closing_during_a_call
    Dir.mktmpdir do |dir|
      path = File.join(dir, "state")
      engine = Grate::Engine.new(config(a: []), state_path: path)
      there = -> { File.read("/proc/self/maps").include?(path) }
      headers = Enumerator.new do |fields|
        engine.close
        assert_raises(Grate::ClosedEngineError) { engine.acquire("api") }
        assert_raises(Grate::ClosedEngineError) { engine.metrics }
        assert there.call, "the engine was freed under a call"
        fields.yield("x-thread", "1")
      end
      engine.acquire("api").complete(headers: headers)
      refute there.call, "the engine was not freed"
      engine.close
      assert_raises(Grate::ClosedEngineError) { engine.metrics }
    end
  end

  # Calls of other threads while the one that closes the engine is stopped half way.
  def test_calls_during_closing
    engine = Grate::Engine.new(config(a: []), clock: clock)
    events = []
    engine.instance_variable_get(:@idle).define_singleton_method(:extend) do |kind|
      super(kind)
      2.times { events << engine.metrics.acquires }
    end
    Grate::Native.stub(:grate_engine_free, ->(_) { events << :freed }) { engine.close }
    assert_equal [0, 0, :freed], events
    assert_raises(Grate::ClosedEngineError) { engine.metrics }
  end

  def test_threads_that_are_killed
    engine = Grate::Engine.new(config(a: []))
    stop = false
    work = lambda do
      Thread.new do
        until stop
          engine.acquire("api") { |lease| lease.complete(tokens: 1) }
          Thread.pass
        end
      end
    end
    workers = Array.new(4) { work.call }
    100.times do |i|
      sleep(0.0002)
      workers[i % 4].kill.join
      workers[i % 4] = work.call
    end
    stop = true
    workers.each(&:join)
    engine.acquire("api", &:complete)
    engine.close
  end

  def test_signal_handlers_may_use_the_engine
    engine = Grate::Engine.new(config(a: []), clock: clock)
    count = 0
    before = trap("USR1") do
      engine.acquire("api", tokens: 1) { |lease| lease.complete(tokens: 1) }
      count += 1
    end
    sender = Thread.new { Process.kill("USR1", Process.pid) && sleep(0.0002) while count < 50 }
    while count < 50
      engine.acquire("api", tokens: 2) { |lease| lease.complete(tokens: 2) }
      Thread.pass
    end
    sender.join
    assert_equal 0, engine.metrics.leases_in_flight
  ensure
    trap("USR1", before || "DEFAULT")
  end

  # At exit, finalizers run in any order.
  def test_finalizers_may_use_an_engine_that_is_gone
    out, status = ruby(<<~RUBY)
      require "grate"
      engine = nil
      use = proc do
        puts engine.acquire("api").complete(http_status: 200) || "open"
      rescue => e
        puts e.message
        engine.close
      end
      watched = Array.new(20) { Object.new.tap { |object| ObjectSpace.define_finalizer(object, use) } }
      engine = Grate::Engine.new({ providers: [{ name: "a" }], capabilities: [{ name: "api", providers: [{ provider: "a" }] }] })
      watched << Array.new(20) { Object.new.tap { |object| ObjectSpace.define_finalizer(object, use) } }
    RUBY
    assert status.success?, out
    assert_equal ["open\n", "this engine is closed\n"], out.lines.uniq.sort
  end

  def test_engines_and_clocks_are_collected_in_any_order
    out, status = ruby(<<~RUBY)
      require "grate"
      made = Array.new(200) do
        clock = Grate::MockClock.new
        engine = Grate::Engine.new({ providers: [{ name: "a" }],
                                     capabilities: [{ name: "api", providers: [{ provider: "a" }] }] }, clock: clock)
        [clock, engine, engine.acquire("api", explain: true)]
      end
      made.flatten.shuffle.each_slice(50) { |some| made = made.flatten - some; GC.start }
      GC.stress = true
      engine = Grate::Engine.new({ providers: [{ name: "a" }],
                                   capabilities: [{ name: "api", providers: [{ provider: "a" }] }] })
      engine.acquire("api", exclude: "b", explain: true).complete(headers: { "a" => "b" * 20_000 })
      engine.close
      GC.stress = false
      print GC.respond_to?(:compact) && GC.compact ? "done" : "done"
    RUBY
    assert_equal ["done", true], [out, status.success?]
  end
end
