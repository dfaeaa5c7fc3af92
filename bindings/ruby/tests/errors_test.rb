# frozen_string_literal: true

require_relative "helper"

# Every error: its class, code and name; and that nothing wraps or is cut silently.
class ErrorsTest < Minitest::Test
  include Helper

  def test_unknown_names
    error = assert_raises(Grate::UnknownCapabilityError) { engine.acquire("nope") }
    assert_equal [7, "GRATE_ERR_UNKNOWN_CAPABILITY"], [error.code, error.name]
    assert_includes error.message, "nope"
    [
      -> { engine.observe("nope") }, -> { engine.provider_health("nope") }, -> { engine.provider_in_cooldown?("nope") },
      -> { engine.remaining_quota("nope", :requests) }, -> { engine.provider_state("nope") },
      -> { engine.remove_provider("nope") }
    ].each { |call| assert_includes assert_raises(Grate::UnknownProviderError, &call).message, "nope" }
    assert_raises(Grate::UnknownCapabilityError) { engine.remove_capability("nope") }
  end

  def test_invalid_names
    ["", "x" * 129, "a\nb", "a\0b", "a\xff", "\xff".b].each do |name|
      assert_raises(Grate::InvalidNameError, name.inspect) { engine.acquire(name) }
    end
    ["x" * 129, "a\0b", "a\xff"].each do |name|
      assert_raises(Grate::InvalidNameError, name.inspect) { engine.acquire("api", exclude: [name]) }
    end
    [nil, 3, Object].each { |wrong| assert_raises(Grate::InvalidArgumentError) { engine.acquire(wrong) } }
  end

  def test_amounts_that_do_not_fit
    [-1, 2**64, (2**64) - 1, 1.5, "7", :many].each do |wrong|
      %i[tokens bytes].each do |field|
        assert_raises(Grate::InvalidArgumentError, wrong.inspect) { engine.select("api", field => wrong) }
        assert_raises(Grate::InvalidArgumentError, wrong.inspect) { engine.acquire("api", field => wrong) }
        assert_raises(Grate::InvalidArgumentError, wrong.inspect) { engine.observe("a", field => wrong) }
      end
      lease = engine.acquire("api")
      %i[tokens requests cost_micro_usd].each do |field|
        assert_raises(Grate::InvalidArgumentError, wrong.inspect) { lease.complete(http_status: 200, field => wrong) }
      end
      lease.cancel
    end
    assert_equal 2**63, Grate::Amounts.units(2**63)
    [-1, 2**64, 1.5, "7", nil].each do |wrong|
      assert_raises(Grate::InvalidArgumentError) { engine.cancel(wrong) }
      assert_raises(Grate::InvalidArgumentError) { engine.complete(wrong) }
      assert_raises(Grate::InvalidArgumentError) { Grate::MockClock.new(unix_ms: wrong) }
      assert_raises(Grate::InvalidArgumentError) { clock.advance_ms(wrong) }
    end
  end

  def test_times_that_do_not_fit
    [-1, Float::NAN, Float::INFINITY, "soon", 2i, 2**64].each do |wrong|
      assert_raises(Grate::InvalidArgumentError, wrong.inspect) { engine.observe("a", latency_ms: wrong) }
      assert_raises(Grate::InvalidArgumentError) { engine.observe("a", http_status: 429, retry_after_ms: wrong) }
    end
    assert_equal [0, Grate::Constants::ZERO, 1_500_000, 500_000],
                 [nil, 0, 1.5, 1/2r].map { |time| Grate::Amounts.nanoseconds(time) }
  end

  def test_arguments_out_of_range
    assert_match(/rate_limited/, assert_raises(Grate::InvalidArgumentError) do
      engine.observe("a", outcome: :ratelimited)
    end.message)
    [99, 0, -1, 2**31, 200.5, "200"].each do |status|
      assert_raises(Grate::InvalidArgumentError, status.inspect) { engine.observe("a", http_status: status) }
      assert_raises(Grate::InvalidArgumentError, status.inspect) { engine.acquire("api").complete(http_status: status) }
    end
    [1.0, -0.1, "half", 2i, Float::NAN].each do |share|
      assert_raises(Grate::InvalidArgumentError, share.inspect) { engine.select("api", headroom: share) }
    end
    assert_match(/cost_micro_usd/, assert_raises(Grate::InvalidArgumentError) do
      engine.remaining_quota("a", "request")
    end.message)
    assert_raises(Grate::InvalidArgumentError) { engine.remaining_quota("a", nil) }
    assert_raises(Grate::InvalidArgumentError) { engine.select("api", exclude: ["a"] * 65) }
    assert_raises(Grate::InvalidArgumentError) { engine.observe("a", headers: 7) }
    assert_raises(Grate::InvalidArgumentError) { Grate::Engine.new(clock: 7) }
  end

  def test_configurations
    ["{", '{"nope": 1}', "\xff".b].each do |text|
      assert_raises(Grate::InvalidJSONError) { engine.configure(text) }
    end
    assert_raises(Grate::InvalidConfigError) { engine.configure({ providers: [{ name: "c", weight: Float::NAN }] }) }
    assert_raises(Grate::InvalidConfigError) do
      engine.configure({ providers: [{ name: "c", quotas: [{ dimension: "requests", limit: 1 }] }] })
    end
    assert_raises(Grate::UnknownProviderError) do
      engine.configure({ capabilities: [{ name: "x", providers: [{ provider: "nope" }] }] })
    end
    assert_raises(Grate::InvalidConfigError) { Grate::Engine.new({ engine: { ewma_alpha: 7 } }) }
    deep = (1..200).reduce({}) { |inner, _| { engine: inner } }
    assert_raises(Grate::InvalidConfigError) { Grate::Engine.new(deep) }
  end

  def test_stale_leases
    lease = engine.acquire("api")
    lease.complete
    [-> { lease.complete }, -> { lease.cancel }, -> { engine.complete(lease) }, -> { engine.cancel(lease) },
     -> { engine.cancel(12_345) }, -> { engine.complete(0) }].each do |settle|
      error = assert_raises(Grate::StaleLeaseError, &settle)
      assert_equal [10, "GRATE_ERR_STALE_LEASE"], [error.code, error.name]
    end
  end

  def test_a_lease_of_another_engine
    other = Grate::Engine.new(config(a: []))
    lease = other.acquire("api")
    %i[complete cancel].each do |settle|
      error = assert_raises(Grate::InvalidArgumentError) { engine.public_send(settle, lease) }
      assert_includes error.message, "another engine"
    end
    lease.cancel
  end

  def test_no_provider_available
    2.times do
      engine.acquire("api", exclude: ["b"]).complete
      clock.advance_secs(12)
    end
    error = assert_raises(Grate::NoProviderAvailableError) { engine.acquire("api", exclude: ["b"], explain: true) }
    assert_equal [9, "GRATE_ERR_NO_PROVIDER_AVAILABLE"], [error.code, error.name]
    assert_equal ["a", :quota], [error.provider, error.held_by]
    assert_in_delta 36.0, error.retry_after, 0.1
    assert_equal error.retry_after, error.retry_after_ns / 1e9
    assert_equal [:requests, 60_000_000_000], [error.decision.held_dimension, error.decision.held_window_ns]
    assert_equal %i[quota exclusion], error.decision.held.map(&:held_by)
    assert_empty error.decision.alternatives
    assert_match(/"a" frees first, in 360\d\d ms \(quota of requests per 60 s\)/, error.message)
  end

  def test_no_provider_ever_available
    error = assert_raises(Grate::NoProviderAvailableError) { engine.select("api", tokens: 1001, exclude: "b") }
    assert_match(/waiting does not help/, error.message)
    assert_nil error.retry_after_ns
    assert_nil error.retry_after
    engine.configure({ capabilities: [{ name: "empty" }] })
    error = assert_raises(Grate::NoProviderAvailableError) { engine.select("empty") }
    assert_match(/has none/, error.message)
    assert_equal [nil, nil], [error.provider, error.held_by]
  end

  def test_closed
    lease = engine.acquire("api")
    2.times { assert_nil engine.close }
    assert engine.closed?
    assert_equal "#<Grate::Engine closed>", engine.inspect
    [
      -> { engine.acquire("api") }, -> { engine.select("api") }, -> { engine.complete(lease) }, -> { lease.cancel },
      -> { lease.complete(tokens: 1, http_status: 200) }, -> { engine.observe("a") }, -> { engine.configure({}) },
      -> { engine.metrics }, -> { engine.prometheus }, -> { engine.provider_health("a") },
      -> { engine.remove_provider("a") }, -> { engine.provider_state("a") }
    ].each do |call|
      error = assert_raises(Grate::ClosedEngineError, &call)
      assert_equal [nil, "ClosedEngineError", "this engine is closed"], [error.code, error.name, error.message]
    end
    assert_equal "a", lease.provider
    assert_operator lease.score, :>, 0
  end

  def test_errors_travel_between_processes
    error = in_child { Grate::Engine.new.select("nope") }
    assert_equal [Grate::UnknownCapabilityError, 7, "unknown capability: 'nope'"],
                 [error.class, error.code, error.message]
    error = in_child { Grate::Engine.new(config(a: []), clock: clock).acquire("api", exclude: "a") }
    assert_equal ["a", :exclusion], [error.provider, error.held_by]
  end

  def test_a_library_that_cannot_be_loaded
    out, = ruby("require 'grate'", "GRATE_LIBRARY" => "/nowhere.so")
    assert_match(/GRATE_LIBRARY.*nowhere\.so.*LoadError/m, out)
    out, = ruby("require 'grate'", "GRATE_LIBRARY" => "", "LD_LIBRARY_PATH" => "/nowhere")
    assert_match(/make install.*libgrate\.so\.0.*LoadError/m, out)
  end

  def test_a_library_that_is_another
    out, = ruby("require 'grate'", "GRATE_LIBRARY" => "libm.so.6")
    assert_match(/not a libgrate that this gem can use.*LoadError/m, out)
  end
end
