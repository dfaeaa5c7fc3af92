# frozen_string_literal: true

require_relative "helper"

# The part in C does what the methods in Ruby do, and leaves to them what is unusual. All of this holds in both forms.
class FastTest < Minitest::Test
  include Helper

  # By ./test; without it, either will do.
  def test_the_form_that_was_asked_for_is_tested
    asked = ENV.fetch("GRATE_PURE_RUBY", nil)
    assert asked.nil? || Grate.fast? == (asked == "0")
  end

  def test_forms_of_acquire
    ["api", :api, "api".encode("UTF-16LE"), "api".b, "api".encode("US-ASCII"), "xapi"[1..]].each do |name|
      assert_equal "b", engine.acquire(name, tokens: nil, exclude: "a").provider
      assert_equal "a", engine.acquire(name, tokens: 0, bytes: nil, cost_micro_usd: 2**62).tap(&:cancel).provider
    end
    [-> { engine.acquire }, -> { engine.acquire("api", 5) }, -> { engine.acquire("api", { tokens: 5 }) },
     -> { engine.acquire("api", nonsense: 5) }].each { |call| assert_raises(ArgumentError, &call) }
    assert_equal 994, engine.acquire("api", **{ tokens: 6 }) { engine.remaining_quota("a", :tokens) }
    assert_nil engine.acquire("api") { |lease| break if lease.settled? }
    error = assert_raises(Grate::NoProviderAvailableError) do
      engine.configure({ capabilities: [{ name: "one", providers: [{ provider: "a" }] }] })
      engine.acquire("one", tokens: 1001)
    end
    assert_equal ["a", nil, :tokens], [error.provider, error.retry_after_ns, error.decision.held_dimension]
    assert_raises(Grate::Error) { error.decision.candidates }
    assert_equal 1, engine.metrics.none_available
  end

  def test_forms_of_complete
    done = [
      {}, { http_status: 200 }, { http_status: nil }, { http_status: 200, tokens: nil }, { tokens: 5 },
      { http_status: 200, tokens: 0 }, { http_status: 200, latency_ms: 3 }, { outcome: :success, http_status: 200 },
      { http_status: 200, bytes: 7, requests: 1, input_tokens: 1, output_tokens: 2**63, cost_micro_usd: 3 }
    ].each do |settlement|
      lease = engine.acquire("api", exclude: "a").complete(http_status: 200) || engine.acquire("api", bytes: 1)
      assert_nil lease.complete(**settlement)
      assert lease.settled?
      assert_raises(Grate::StaleLeaseError) { lease.complete(http_status: 200) }
      clock.advance_secs(60)
    end
    assert_equal 2 * done.size, engine.metrics.completions
    lease = engine.acquire("api")
    [{ http_status: 99 }, { http_status: 200, tokens: -1 }, { http_status: 200, tokens: 2.5 }].each do |wrong|
      assert_raises(Grate::InvalidArgumentError) { lease.complete(**wrong) }
    end
    [-> { lease.complete(200) }, -> { lease.complete(http_status: 200, nonsense: 1) },
     -> { lease.complete({ http_status: 200 }) }].each { |call| assert_raises(ArgumentError, &call) }
    refute lease.settled?
    engine.complete(lease, http_status: 429)
    assert_equal 1, engine.metrics.rate_limited_responses
  end

  # Both ways of a number to the library say the same.
  def test_usage
    usage = { tokens: 10, input_tokens: 20, output_tokens: 30, bytes: 40, cost_micro_usd: 50 }
    quotas = usage.keys.map { |dimension| quota(1000, dimension.to_s) }
    [{}, { explain: true }].each do |more|
      engine = Grate::Engine.new(config(a: [quota(1000), *quotas]), clock: clock)
      left = -> { usage.keys.map { |dimension| 1000 - engine.remaining_quota("a", dimension) } }
      lease = engine.acquire("api", **usage, **more)
      assert_equal usage.values, left.call
      settlement = usage.transform_values { |units| units + 1 }
      lease.complete(http_status: 200, requests: 3, **settlement, **(more.empty? ? more : { latency_ms: 1 }))
      assert_equal [settlement.values, 997], [left.call, engine.remaining_quota("a", :requests)]
    end
  end

  def test_a_copy_of_a_lease
    lease = engine.acquire("api", tokens: 1)
    copy = lease.dup
    assert_equal [lease.id, lease.provider, lease.score], [copy.id, copy.provider, copy.score]
    copy.complete(http_status: 200)
    assert_equal [true, false], [copy.settled?, lease.settled?]
    assert_equal lease.id, lease.clone(freeze: false).id
    assert_raises(NoMethodError) { Grate::Lease.allocate.complete(http_status: 200) }
  end

  def test_subclasses
    mine = Class.new(Grate::Engine) do
      attr_reader :seen

      def acquire(capability, **more)
        @seen = capability
        super
      end
    end
    engine = mine.new(config(a: []), clock: clock)
    engine.acquire("api", tokens: 1).complete(http_status: 200)
    engine.acquire("api") { |lease| lease.complete(http_status: 200) }
    assert_equal ["api", 2], [engine.seen, engine.metrics.completions]
  end

  def test_collection
    out, status = ruby(<<~RUBY)
      require "grate"
      make = lambda do
        Grate::Engine.new({ providers: [{ name: "a" }], capabilities: [{ name: "api", providers: [{ provider: "a" }] }] })
      end
      # Leases keep their engine; engines that nothing reaches are freed.
      leases = Array.new(3000) { |i| make.call.acquire("api", tokens: 1) if (i % 30).zero? }.compact
      GC.start
      GC.compact if GC.respond_to?(:compact)
      GC.stress = true
      leases.first(20).each { |lease| lease.complete(http_status: 200, tokens: 1) }
      5.times { leases << make.call.acquire("api", tokens: 1) }
      GC.stress = false
      print leases.map(&:provider).uniq, leases.count(&:settled?), leases.all? { |lease| lease.score.positive? }
      leases = nil
      GC.start
      print " ", ObjectSpace.each_object(Grate::Engine).count < 50
    RUBY
    assert_equal ['["a"]20true true', true], [out, status.success?]
  end
end
