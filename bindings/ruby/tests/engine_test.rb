# frozen_string_literal: true

require_relative "helper"

# What the binding offers, used as its README says.
class EngineTest < Minitest::Test
  include Helper

  def test_the_documented_example
    requests = ->(limit) { [quota(limit)] }
    engine = Grate::Engine.new(
      {
        providers: [
          { name: "primary", priority: 10, cooldown_seconds: 30, quotas: requests[2] },
          { name: "backup", priority: 5, cooldown_seconds: 30, quotas: requests[100] }
        ],
        capabilities: [{ name: "api", providers: [{ provider: "primary" }, { provider: "backup" }] }]
      }, clock: clock
    )
    3.times do
      clock.advance_secs(1)
      engine.observe("primary", outcome: :rate_limited, latency_ms: 50, requests: 1)
    end
    assert_equal "backup", engine.select("api").provider
    assert engine.provider_in_cooldown?("primary")
    clock.advance_secs(60)
    assert_equal "primary", engine.select("api").provider
    refute engine.provider_in_cooldown?("primary")
  end

  def test_acquire_and_complete
    lease = engine.acquire("api", tokens: 300)
    assert_equal ["a", nil, 0], [lease.provider, lease.held_by, lease.retry_after_ns]
    assert_operator lease.id, :>, 0
    assert_equal [1, 700], [engine.remaining_quota("a", :requests), engine.remaining_quota("a", "tokens")]
    assert_nil engine.remaining_quota("b", :tokens)
    assert_nil engine.complete(lease, outcome: :success, latency_ms: 120.5, tokens: 280)
    assert_equal 720, engine.remaining_quota("a", :tokens)
    assert_equal 120_500_000, engine.provider_state("a").latency_ns
  end

  def test_settling_by_number
    engine.complete(engine.acquire("api").id)
    engine.complete(engine.acquire("api").id, http_status: 200, tokens: 1)
    engine.cancel(engine.acquire("api").id)
    engine.cancel(engine.acquire("api"))
    metrics = engine.metrics
    assert_equal [4, 2, 2, 0],
                 [metrics.acquires, metrics.completions, metrics.cancellations, metrics.leases_in_flight]
  end

  def test_select_reserves_nothing
    5.times { assert_equal "a", engine.select("api", tokens: 10).provider }
    refute_kind_of Grate::Lease, engine.select("api")
    assert_equal 6, engine.metrics.selects
    assert_equal 2, engine.remaining_quota("a", :requests)
  end

  def test_names_may_be_symbols_and_in_any_encoding
    engine.configure(config("ä": []))
    ["ä", :ä, "ä".encode("ISO-8859-1"), "ä".encode("UTF-16LE"), "ä".b].each do |name|
      assert_equal 1.0, engine.provider_health(name)
    end
    assert_equal [Encoding::UTF_8, "ä"], [engine.select(:api).provider.encoding, engine.select(:api).provider]
  end

  def test_not_given_and_true_zero
    engine.acquire("api", tokens: 300).complete
    assert_equal 700, engine.remaining_quota("a", :tokens)
    engine.acquire("api", tokens: 300).complete(tokens: 0, requests: 0)
    assert_equal [1, 700], [engine.remaining_quota("a", :requests), engine.remaining_quota("a", :tokens)]
    engine.acquire("api", tokens: 300).complete(http_status: 200, tokens: 0)
    assert_equal 700, engine.remaining_quota("a", :tokens)
  end

  def test_an_estimate_of_zero
    engine.acquire("api", tokens: 0).cancel
    engine.acquire("api", tokens: 0, input_tokens: 0, bytes: 0).complete(tokens: 0)
    assert_equal 1000, engine.remaining_quota("a", :tokens)
  end

  def test_http_status_and_outcome
    engine.observe("a", http_status: 429)
    assert_equal 1, engine.metrics.rate_limited_responses
    engine.observe("a", outcome: :success, http_status: 429)
    engine.observe("a", http_status: 200)
    engine.observe("a")
    assert_equal 1, engine.metrics.rate_limited_responses
    assert_equal 0, engine.provider_state("a").consecutive_failures
    engine.observe("b", http_status: 503)
    assert_equal 1, engine.provider_state("b").consecutive_failures
    engine.acquire("api", exclude: "a").complete(http_status: 500)
    assert_equal 2, engine.provider_state("b").consecutive_failures
  end

  def test_every_outcome
    Grate::Constants::OUTCOMES.compact.each do |outcome|
      engine = Grate::Engine.new(config(a: []), clock: clock)
      engine.acquire("api").complete(outcome: outcome)
      failed = %i[success client_error cancelled].include?(outcome) ? 0 : 1
      assert_equal [1, failed], [engine.metrics.completions, engine.provider_state("a").consecutive_failures], outcome
    end
  end

  def test_retry_after
    engine.observe("a", outcome: "rate_limited", retry_after_ms: 45_000)
    state = engine.provider_state("a")
    assert_equal [:open, 45_000_000_000], [state.circuit, state.cooldown_remaining_ns]
  end

  def test_scores
    engine.observe("a", latency_ms: 100, requests: 0)
    engine.observe("b", latency_ms: 50, requests: 0)
    decision = engine.select("api", exclude: ["b"])
    weights = { quota: 0.40, health: 0.35, priority: 0.20, latency: 0.05 }
    assert_in_delta decision.score, weights.sum { |name, weight| weight * decision.breakdown[name] }, 1e-12
    assert_equal [1.0, 1.0, 0.5], decision.breakdown.to_a.drop(1)
    assert_operator decision.seconds_to_exhaustion, :>, 0
    assert_equal 0, decision.index
    assert_match(/\A#<Grate::Decision provider="a" score=0\.\d+>\z/, decision.inspect)
  end

  def test_explained
    engine.observe("b", outcome: :rate_limited, retry_after_ms: 5000)
    engine.configure({ providers: [{ name: "c" }] })
    everyone = %w[b c a].map { |name| { provider: name } }
    engine.configure({ capabilities: [{ name: "api", providers: everyone }] })
    lease = engine.acquire("api", explain: true)
    row = ->(candidate) { [candidate.provider, candidate.held_by, candidate.retry_after_ns, candidate.index] }
    assert_equal [["a", nil, 0, 2], ["c", nil, 0, 1], ["b", :cooldown, 5_000_000_000, 0]], lease.candidates.map(&row)
    assert_equal %w[c], lease.alternatives.map(&:provider)
    assert_equal %w[b], lease.held.map(&:provider)
    assert_in_delta 5.0, lease.held.first.retry_after
    assert_equal [lease.score, lease.breakdown], [lease.candidates[0].score, lease.candidates[0].breakdown]
    assert_equal Float::INFINITY, lease.candidates[1].seconds_to_exhaustion
    assert_match(/provider="b" score=\d\.\d+ held_by=cooldown/, lease.held.first.inspect)
    %i[candidates alternatives held].each do |what|
      assert_match(/explain: true/, assert_raises(Grate::Error) { engine.select("api").public_send(what) }.message)
    end
  end

  def test_estimates_exclusion_and_headroom
    assert_equal "b", engine.select("api", exclude: %w[a unknown]).provider
    assert_equal "b", engine.select("api", exclude: :a).provider
    assert_equal "a", engine.select("api", exclude: []).provider
    assert_equal "a", engine.select("api", tokens: 900).provider
    assert_equal "b", engine.select("api", tokens: 900, headroom: 0.3).provider
    assert_equal "b", engine.select("api", input_tokens: 600, output_tokens: 600).provider
    assert_equal "a", engine.select("api").provider # nothing of the last request is left
  end

  def test_every_dimension
    amounts = %i[tokens input_tokens output_tokens bytes cost_micro_usd]
    quotas = amounts.each_with_index.map { |name, i| quota(10 * (i + 1), name) }
    engine = Grate::Engine.new(config(a: [*quotas, quota(3), quota(2, "concurrency")]), clock: clock)
    estimate = amounts.each_with_index.to_h { |name, i| [name, i + 1] }
    lease = engine.acquire("api", **estimate)
    amounts.each_with_index { |name, i| assert_equal 9 * (i + 1), engine.remaining_quota("a", name) }
    assert_equal 1, engine.remaining_quota("a", :concurrency)
    engine.complete(lease, **estimate.transform_values { |n| 2 * n }, requests: 2)
    amounts.each_with_index { |name, i| assert_equal 8 * (i + 1), engine.remaining_quota("a", name) }
    assert_equal [1, 2], [engine.remaining_quota("a", :requests), engine.remaining_quota("a", :concurrency)]
  end

  def test_configurations
    text = '{"providers": [{"name": "ä", "quotas": [{"dimension": "requests", "limit": 1, "window": "hour"}]}]}'
    assert_equal 1, Grate::Engine.new(text, clock: clock).remaining_quota("ä", :requests)
    engine = Grate::Engine.new(config(a: [quota(5)], b: []), clock: clock)
    engine.observe("a")
    engine.configure({ providers: [{ name: "a", quotas: [quota(9)] }] })
    assert_equal 8, engine.remaining_quota("a", :requests)
    engine.remove_provider("a")
    assert_equal "b", engine.select("api").provider
    engine.remove_capability(:api)
    assert_raises(Grate::UnknownCapabilityError) { engine.select("api") }
  end

  def test_the_systems_clock
    engine = Grate::Engine.new(config(a: [quota(5)]))
    engine.acquire("api").complete
    assert_equal 4, engine.remaining_quota("a", :requests)
  end

  def test_mock_clock
    assert_equal 0, clock.now_ns
    assert_equal 2_005_000_000, clock.advance_ms(5).advance_secs(2).now_ns
    assert_equal 7, clock.set_ns(7).now_ns
    engine = Grate::Engine.new(config(a: []), clock: Grate::MockClock.new)
    GC.start
    assert_equal "a", engine.select("api").provider # the engine keeps its clock
  end

  def test_provider_state
    pooled = quota(50, pool: "account")
    engine.configure({ providers: [{ name: "p", quotas: [pooled, quota(4, "concurrency")] }] })
    engine.observe("p", outcome: :timeout, latency_ms: 700, requests: 3)
    state = engine.provider_state("p")
    assert_equal [:closed, 1, 1], [state.circuit, state.consecutive_failures, state.observations]
    assert_in_delta 0.8, state.health, 0.001
    assert_equal state.health, engine.provider_health("p")
    rate, slots = %i[requests concurrency].map { |name| state.quotas.find { |quota| quota.dimension == name } }
    assert_equal [:rolling, 50, 3, 47, "account", 60_000_000_000, 50, :configured],
                 [rate.strategy, rate.limit, rate.used, rate.remaining, rate.pool, rate.window_ns,
                  rate.effective_limit, rate.limit_source]
    assert_equal [:concurrency, 4, nil], [slots.strategy, slots.limit, slots.pool]
    assert state.frozen? && state.quotas.frozen? && rate.frozen?
  end

  def test_prometheus
    engine.configure({ providers: Array.new(100) { |i| { name: format("provider-%03d", i) } } })
    engine.acquire("api")
    text = engine.prometheus
    assert_operator text.bytesize, :>, 8192 # needs a second call with a larger buffer
    assert_match(/^grate_acquires_total 1$/, text)
    assert_includes text, "provider-099"
    assert_equal [Encoding::UTF_8, "\n"], [text.encoding, text[-1]]
  end

  def test_the_cache_of_names_is_bounded
    (2 * Grate::Names::MOST).times do |i|
      assert_raises(Grate::UnknownCapabilityError) { engine.select("user-#{i}") }
    end
    assert_operator Grate::Names::CACHE.size, :<=, Grate::Names::MOST
  end

  def test_versions
    assert_match(/\A\d+\.\d+\.\d+\z/, Grate.library_version)
    assert_equal "GRATE_ERR_STALE_LEASE", Grate.status_name(10)
    assert_equal "GRATE_ERR_UNKNOWN", Grate.status_name(-1)
  end

  def test_a_copy_is_the_same_engine
    copy = engine.dup
    copy.close
    assert engine.closed?
    copy = @engine = nil
    GC.start
    assert_nil copy
  end
end
