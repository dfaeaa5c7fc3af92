# frozen_string_literal: true

require "ffi"

module Grate
  # The structs of grate.h, field by field.
  # @api private
  module Layouts
    # A struct that begins with its size.
    class Sized < FFI::Struct
      # @return [Sized] zeroed but for `struct_size`, as GRATE_..._INIT makes it
      def self.make
        new.tap { |struct| struct[:struct_size] = size }
      end
    end

    class Error < Sized
      layout :struct_size, :uint32, :code, :int32, :message, [:char, 504]
    end

    class EngineConfig < Sized
      layout :struct_size, :uint32,
             :cooldown_trigger_count, :uint32,
             :clock, :pointer,
             :weight_quota, :double,
             :weight_health, :double,
             :weight_priority, :double,
             :weight_latency, :double,
             :min_health_for_selection, :double,
             :ewma_alpha, :double,
             :recovery_half_life_secs, :double,
             :cooldown_threshold, :double,
             :cooldown_multiplier, :double,
             :max_cooldown_secs, :double,
             :lease_ttl_ns, :uint64,
             :skew_ns, :uint64,
             :estimate_quantile, :double,
             :max_retry_after_ns, :uint64,
             :state_path, :pointer,
             :state_size, :uint64,
             :state_flags, :uint64
    end

    class Metrics < Sized
      layout :struct_size, :uint32,
             :reserved, :uint32,
             :selects, :uint64,
             :acquires, :uint64,
             :completions, :uint64,
             :cancellations, :uint64,
             :expired_leases, :uint64,
             :observations, :uint64,
             :cooldowns_triggered, :uint64,
             :none_available, :uint64,
             :rate_limited_responses, :uint64,
             :leases_in_flight, :uint64,
             :capped_waits, :uint64
    end

    class QuotaState < Sized
      layout :struct_size, :uint32,
             :dimension, :int32,
             :strategy, :int32,
             :reserved, :uint32,
             :limit, :uint64,
             :window_ns, :uint64,
             :used, :uint64,
             :remaining, :uint64,
             :predicted_share, :double,
             :burn_per_sec, :double,
             :seconds_to_exhaustion, :double,
             :pool, :pointer,
             :effective_limit, :uint64,
             :margin, :uint64,
             :limit_source, :int32,
             :reserved2, :uint32
    end

    class ProviderState < Sized
      layout :struct_size, :uint32,
             :circuit, :int32,
             :health, :double,
             :cooldown_remaining_ns, :uint64,
             :latency_ns, :uint64,
             :consecutive_failures, :uint32,
             :reserved, :uint32,
             :leases_in_flight, :uint64,
             :selects, :uint64,
             :acquires, :uint64,
             :completions, :uint64,
             :cancellations, :uint64,
             :expired_leases, :uint64,
             :observations, :uint64,
             :cooldowns_triggered, :uint64,
             :rate_limited_responses, :uint64,
             :quotas, :pointer,
             :quotas_capacity, :uint64,
             :quotas_len, :uint64,
             :quotas_total, :uint64
    end

    class Request < Sized
      layout :struct_size, :uint32,
             :reserved, :uint32,
             :tokens, :uint64,
             :input_tokens, :uint64,
             :output_tokens, :uint64,
             :bytes, :uint64,
             :cost_micro_usd, :uint64,
             :headroom, :double,
             :exclude, :pointer,
             :exclude_len, :uint64
    end

    class Candidate < Sized
      layout :struct_size, :uint32,
             :held_by, :int32,
             :provider, :pointer,
             :score, :double,
             :quota_score, :double,
             :health_score, :double,
             :priority_score, :double,
             :latency_score, :double,
             :seconds_to_exhaustion, :double,
             :retry_after_ns, :uint64,
             :held_dimension, :int32,
             :index, :uint32,
             :held_window_ns, :uint64
    end

    class Decision < Sized
      layout :struct_size, :uint32,
             :held_by, :int32,
             :lease, :uint64,
             :provider, :pointer,
             :score, :double,
             :quota_score, :double,
             :health_score, :double,
             :priority_score, :double,
             :latency_score, :double,
             :seconds_to_exhaustion, :double,
             :retry_after_ns, :uint64,
             :held_dimension, :int32,
             :index, :uint32,
             :held_window_ns, :uint64,
             :candidates, :pointer,
             :candidates_capacity, :uint64,
             :candidates_len, :uint64,
             :candidates_total, :uint64
    end

    class Response < Sized
      layout :struct_size, :uint32,
             :outcome, :int32,
             :http_status, :int32,
             :reserved, :uint32,
             :latency_ns, :uint64,
             :retry_after_ns, :uint64,
             :requests, :uint64,
             :tokens, :uint64,
             :input_tokens, :uint64,
             :output_tokens, :uint64,
             :bytes, :uint64,
             :cost_micro_usd, :uint64,
             :headers, :pointer,
             :headers_len, :uint64
    end

    # The one struct without a size.
    class Header < FFI::Struct
      layout :name, :pointer, :name_len, :uint64, :value, :pointer, :value_len, :uint64
    end

    class HeaderQuota < Sized
      layout :struct_size, :uint32,
             :dimension, :int32,
             :limit, :uint64,
             :remaining, :uint64,
             :reset_in_ms, :uint64,
             :window_ms, :uint64
    end

    class HeaderReport < Sized
      layout :struct_size, :uint32,
             :cached, :int32,
             :retry_after_ms, :uint64,
             :quotas, :pointer,
             :quotas_capacity, :uint64,
             :quotas_len, :uint64,
             :quotas_total, :uint64
    end
  end
end
