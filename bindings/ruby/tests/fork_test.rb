# frozen_string_literal: true

require_relative "helper"

# An engine belongs to the process that made it.
class ForkTest < Minitest::Test
  include Helper

  def setup
    @lease = engine.acquire("api")
  end

  def test_a_child_is_told
    error = in_child { engine.acquire("api") }
    assert_equal [Grate::ForkedEngineError, nil, "ForkedEngineError"], [error.class, error.code, error.name]
    assert_match(/made in process #{Process.pid}, .* make an engine after the fork/, error.message)
    %i[complete cancel].each { |settle| assert_kind_of Grate::ForkedEngineError, in_child { @lease.public_send(settle) } }
    assert_kind_of(Grate::ForkedEngineError, in_child { engine.metrics })
    assert_kind_of(Grate::ForkedEngineError, in_child { in_child { engine.metrics } })
    @lease.complete
  end

  def test_a_child_may_make_its_own
    assert_equal [1, "a"], in_child {
      own = Grate::Engine.new(config(a: [quota(1)]), clock: clock)
      provider = own.acquire("api", &:provider)
      [own.metrics.completions, provider]
    }
  end

  def test_a_child_may_close_and_collect_what_it_inherits
    assert_equal(:alive, in_child do
      engine.close
      @engine = @lease = @clock = nil
      GC.start
      :alive
    end)
    assert_equal(:closed, in_child { engine.close || (engine.closed? ? :open : :closed) })
    engine.close
    assert_kind_of(Grate::ClosedEngineError, in_child { engine.metrics })
  end

  def test_a_child_leaves_the_block_of_its_parent
    result = nil
    engine.acquire("api") do |lease|
      result = in_child { lease.ensure_settled || :left }
    end
    assert_equal :left, result
    assert_equal 1, engine.metrics.completions
  end

  def test_every_way_to_fork
    assert_every_way("")
  end

  # What Ruby 3.0 does, which has no hook.
  def test_every_way_to_fork_without_a_hook
    assert_every_way(<<~RUBY)
      def Process.respond_to?(name, *)
        name != :_fork && super
      end
    RUBY
  end

  def assert_every_way(before)
    code = <<~RUBY
      #{before}
      require "grate"
      $stdout.sync = true
      engine = Grate::Engine.new
      tell = lambda do |how|
        print how, " ", (engine.metrics && "used" rescue $!.name), "\n"
      end
      Process.wait(fork { tell["fork"]; exit!(0) })
      Process.wait(Process.fork { tell["Process.fork"]; exit! })
      pid = fork
      pid ? Process.wait(pid) : (tell["without a block"]; exit!)
      IO.popen("-") { |io| io ? print(io.read) : tell["popen"] }
      tell["parent"]
      Process.daemon(true, true)
      tell["daemon"]
    RUBY
    out, = ruby(code)
    told = ["fork", "Process.fork", "without a block", "popen", "daemon"].map { |how| "#{how} ForkedEngineError\n" }
    assert_equal ["parent used\n", *told].sort, out.lines.sort
  end

  def test_forking_while_other_threads_call
    engine = Grate::Engine.new(config(a: []))
    stop = false
    thread = Thread.new { engine.acquire("api") { |lease| lease.complete(tokens: 1) } until stop }
    10.times do
      assert_equal(1, in_child do
        begin
          engine.acquire("api")
        rescue Grate::ForkedEngineError
          own = Grate::Engine.new(config(a: []))
          own.acquire("api", &:complete)
          own.metrics.completions
        end
      end)
    end
  ensure
    stop = true
    thread&.join
  end
end
