# frozen_string_literal: true

require_relative "helper"

# Replays the scenarios of conformance/; its README has the format and the rules.
class ConformanceTest < Minitest::Test
  include Helper

  FILES = Dir[File.join(Helper::ROOT, "conformance", "*.json")].sort
  SCENARIOS = FILES.flat_map { |file| JSON.parse(File.read(file, encoding: "UTF-8")) }.freeze

  def self.announce
    puts "conformance: #{SCENARIOS.size} scenarios"
  end

  def test_names_are_unique
    refute_empty SCENARIOS
    assert_equal SCENARIOS.size, SCENARIOS.map { |scenario| scenario["name"] }.uniq.size
  end

  SCENARIOS.each do |scenario|
    define_method("test_#{scenario.fetch('name')}") do
      first, second = Array.new(2) { Replay.new(self, scenario).trace }
      assert first == second, "a second replay gave other decisions" # bit for bit, which is what == is on strings
    end
  end

  # One scenario, on its own engine.
  class Replay
    ESTIMATE = %w[tokens input_tokens output_tokens bytes cost_micro_usd headroom exclude].freeze
    RESPONSE = %w[outcome http_status latency_ms retry_after_ms requests tokens input_tokens output_tokens bytes
                  cost_micro_usd].freeze
    COMPONENTS = %w[quota health priority latency].freeze
    ROW = %w[within provider held_by held_dimension held_window_ns score seconds_to_exhaustion retry_after_ns
             weights].freeze + COMPONENTS
    NEVER = (2**64) - 1

    # @return [Array<String>] all decisions: what can be read of them, doubles as their bits
    attr_reader :trace

    def initialize(test, scenario)
      @test = test
      only(scenario, %w[name about unix_ms config steps])
      @trace = []
      @leases = {}
      @clock = Grate::MockClock.new(unix_ms: scenario.fetch("unix_ms", Helper::NEW_YEAR))
      @engine = Grate::Engine.new(clock: @clock)
      @engine.configure(scenario.fetch("config"))
      walk(scenario.fetch("steps"), "")
    end

    private

    def walk(steps, place)
      steps.each.with_index(1) do |step, i|
        @test.assert_equal 1, step.size, "#{place}step #{i}"
        verb, fields = step.first
        @here = "#{place}step #{i} (#{verb})"
        next repeat(fields, @here) if verb == "repeat"

        @test.assert_includes VERBS, verb, @here
        __send__("do_#{verb}", fields)
      end
    end

    def repeat(fields, here)
      only(fields, %w[times steps])
      1.upto(fields.fetch("times")) { |turn| walk(fields.fetch("steps"), "#{here}, round #{turn}, ") }
    end

    def do_advance(fields)
      only(fields, %w[secs ms ns])
      @clock.advance_secs(fields.fetch("secs", 0)).advance_ms(fields.fetch("ms", 0))
      @clock.set_ns(@clock.now_ns + fields["ns"]) if fields.key?("ns")
    end

    def do_set_ns(fields)
      only(fields, %w[ns])
      @clock.set_ns(fields.fetch("ns"))
    end

    def do_select(fields)
      only(fields, %w[capability expect] + ESTIMATE)
      route(:select, fields)
    end

    def do_acquire(fields)
      only(fields, %w[capability as expect] + ESTIMATE)
      lease = route(:acquire, fields)
      @leases[fields["as"]] = lease.id if fields.key?("as") && lease
    end

    # @return [Grate::Decision, nil] nil if the call failed
    def route(method, fields)
      expect = fields.fetch("expect", {})
      only(expect, ROW + %w[error candidates])
      status, decision = attempt do
        @engine.public_send(method, fields.fetch("capability"), explain: true, **given(fields, ESTIMATE))
      end
      same("error", expect.fetch("error", "GRATE_OK"), status)
      granted = status == "GRATE_OK"
      decision = decision.decision if decision.is_a?(Grate::NoProviderAvailableError)
      return unless decision.is_a?(Grate::Decision)

      same("held_by and wait", [nil, 0], [decision.held_by, decision.retry_after_ns]) if granted
      same("a lease", method == :acquire && granted, decision.is_a?(Grate::Lease) && decision.id.positive?)
      [decision, *decision.candidates].each { |row| record(row) }
      compare_row(expect, decision)
      compare_candidates(expect["candidates"], decision.candidates) if expect.key?("candidates")
      decision if granted
    end

    def record(row)
      numbers = [row.score, *row.breakdown.to_a]
      @test.assert numbers.all? { |number| number >= 0 && number <= 1 }, "#{@here}: out of range: #{numbers}"
      @trace << [row.provider, row.held_by, row.held_dimension, row.held_window_ns, row.retry_after_ns, row.index,
                 [*numbers, row.seconds_to_exhaustion].pack("G*").unpack1("H*")].inspect
    end

    def do_complete(fields)
      only(fields, %w[lease expect] + RESPONSE)
      settled(fields) { @engine.complete(lease(fields), **response(fields)) }
    end

    def do_cancel(fields)
      only(fields, %w[lease expect])
      settled(fields) { @engine.cancel(lease(fields)) }
    end

    def do_observe(fields)
      only(fields, %w[provider expect] + RESPONSE)
      settled(fields) { @engine.observe(fields.fetch("provider"), **response(fields)) }
    end

    def do_configure(fields)
      only(fields, %w[config text expect])
      settled(fields) { @engine.configure(fields["text"] || fields.fetch("config")) }
    end

    def do_remove_provider(fields)
      only(fields, %w[name expect])
      settled(fields) { @engine.remove_provider(fields.fetch("name")) }
    end

    def do_remove_capability(fields)
      only(fields, %w[name expect])
      settled(fields) { @engine.remove_capability(fields.fetch("name")) }
    end

    def do_check_health(fields)
      only(fields, %w[provider value within error])
      checked(fields) { @engine.provider_health(fields.fetch("provider")) }
    end

    def do_check_remaining(fields)
      only(fields, %w[provider dimension value error])
      checked(fields) { @engine.remaining_quota(fields.fetch("provider"), fields.fetch("dimension")) || NEVER }
    end

    def do_check_in_cooldown(fields)
      only(fields, %w[provider value])
      same("in cooldown", fields.fetch("value"), @engine.provider_in_cooldown?(fields.fetch("provider")))
    end

    def do_check_circuit(fields)
      only(fields, %w[provider value])
      same("circuit", fields.fetch("value"), @engine.provider_state(fields.fetch("provider")).circuit.to_s)
    end

    def do_check_metrics(fields)
      counters = fields.key?("provider") ? @engine.provider_state(fields["provider"]) : @engine.metrics
      fields.each { |name, value| compare(name, value, counters[name]) unless name == "provider" }
    end

    VERBS = private_instance_methods(false).grep(/\Ado_/).map { |name| name.to_s.delete_prefix("do_") }.freeze

    def lease(fields)
      fields["lease"].is_a?(String) ? @leases.fetch(fields["lease"]) : fields.fetch("lease")
    end

    def response(fields)
      found = given(fields, RESPONSE)
      # Without both, the binding takes a success; C does not.
      found[:http_status] = 0 unless found.key?(:outcome) || found.key?(:http_status)
      found
    end

    def given(fields, keys)
      fields.slice(*keys).transform_keys(&:to_sym)
    end

    # @return [Array(String, Object)] the name of the status, and the result or the error
    def attempt
      ["GRATE_OK", yield]
    rescue Grate::Error => e
      [e.name, e]
    end

    def settled(fields, &call)
      expect = fields.fetch("expect", {})
      only(expect, %w[error])
      same("error", expect.fetch("error", "GRATE_OK"), attempt(&call).first)
    end

    def checked(fields, &call)
      status, value = attempt(&call)
      same("error", fields.fetch("error", "GRATE_OK"), status)
      compare("value", fields.fetch("value"), value, fields.fetch("within", 1e-9)) if status == "GRATE_OK"
    end

    def compare_candidates(expected, rows)
      expected = expected.map { |want| want.is_a?(String) ? { "provider" => want } : want }
      same("candidates", expected.map { |want| want["provider"] }, rows.map(&:provider))
      expected.zip(rows) do |want, row|
        only(want, ROW)
        compare_row(want, row)
      end
    end

    def compare_row(expect, row)
      within = expect.fetch("within", 1e-9)
      exact = { "provider" => row.provider, "held_by" => (row.held_by || :nothing).to_s,
                "held_dimension" => row.held_dimension&.to_s }
      exact.each { |what, got| same(what, expect[what], got) if expect.key?(what) }
      numbers = { "held_window_ns" => row.held_window_ns, "retry_after_ns" => row.retry_after_ns || NEVER,
                  "score" => row.score, "seconds_to_exhaustion" => row.seconds_to_exhaustion,
                  **row.breakdown.to_h.transform_keys(&:to_s) }
      numbers.each { |what, got| compare(what, expect[what], got, within) if expect.key?(what) }
      compare_weights(expect["weights"], numbers, within) if expect.key?("weights")
    end

    def compare_weights(weights, numbers, within)
      same("weights", COMPONENTS.sort, weights.keys.sort)
      compare("the score", weights.sum { |what, weight| weight * numbers.fetch(what) }, numbers.fetch("score"), within)
    end

    # Integers are equal or not; doubles are close.
    def compare(what, expected, got, within = 1e-9)
      fits = case expected
             when "never" then got == (got.is_a?(Float) ? Float::INFINITY : NEVER)
             when Hash
               only(expected, %w[min max])
               got >= expected.fetch("min", -Float::INFINITY) && got <= expected.fetch("max", Float::INFINITY)
             else got.is_a?(Float) ? (got - expected).abs <= within : got == expected
             end
      @test.assert fits, "#{@here}: #{what}: expected #{expected.inspect}, got #{got.inspect}"
    end

    def same(what, expected, got)
      @test.assert expected == got, "#{@here}: #{what}: expected #{expected.inspect}, got #{got.inspect}"
    end

    # A misspelt key would be a check that is never made.
    def only(fields, known)
      @test.assert_empty fields.keys - known, "#{@here}: unknown keys"
    end
  end
end
