# frozen_string_literal: true

require_relative "constants"
require_relative "layouts"

module Grate
  # Counters of an engine since it was made. `leases_in_flight` is a present number; `rate_limited_responses` is the one
  # that libgrate exists to keep at 0.
  Metrics = Struct.new(*(Layouts::Metrics.members - %i[struct_size reserved]), keyword_init: true) do
    # @api private
    def self.read(struct)
      new(**members.to_h { |field| [field, struct[field]] }).freeze
    end
  end

  # One quota, as it stands. Units: `limit` per window as configured (nil if nobody did, but one was learned),
  # `effective_limit` the one in force, `used`, `remaining`, and `margin`, which is kept free of others who share the
  # quota. `window_ns` is 0 for concurrency, `predicted_share` in [0, 1], `burn_per_sec` units per second,
  # `seconds_to_exhaustion` infinity if it will not be spent, `pool` its name or nil, `limit_source` one of `:configured`,
  # `:learned` and `:told`.
  QuotaState = Struct.new(:dimension, :strategy, :limit, :window_ns, :used, :remaining, :predicted_share, :burn_per_sec,
                          :seconds_to_exhaustion, :pool, :effective_limit, :margin, :limit_source,
                          keyword_init: true) do
    # @api private
    def self.read(struct)
      plain = %i[window_ns used remaining predicted_share burn_per_sec seconds_to_exhaustion effective_limit margin]
      limit = struct[:limit]
      pool = struct[:pool]
      new(**plain.to_h { |field| [field, struct[field]] },
          dimension: Constants::DIMENSIONS[struct[:dimension]], strategy: Constants::STRATEGIES[struct[:strategy]],
          limit: (limit unless limit == Constants::UNLIMITED), limit_source: Constants::LIMITS[struct[:limit_source]],
          pool: (pool.read_string.force_encoding(Encoding::UTF_8).freeze unless pool.null?)).freeze
    end
  end

  # One provider, as it stands: `circuit` is `:closed`, `:open`, `:half_open` or `:ramping`, `health` in [0, 1],
  # `cooldown_remaining_ns` and `latency_ns` (an average, 0 if unknown) nanoseconds, `quotas` an Array of {QuotaState}, the
  # rest counters.
  ProviderState = Struct.new(:circuit, :health, :cooldown_remaining_ns, :latency_ns, :consecutive_failures,
                             :leases_in_flight, :selects, :acquires, :completions, :cancellations, :expired_leases,
                             :observations, :cooldowns_triggered, :rate_limited_responses, :quotas,
                             keyword_init: true) do
    # @api private
    def self.read(struct, quotas)
      plain = members - %i[circuit quotas]
      new(**plain.to_h { |field| [field, struct[field]] }, circuit: Constants::CIRCUITS[struct[:circuit]],
          quotas: quotas.freeze).freeze
    end
  end
end
