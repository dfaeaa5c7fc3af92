# frozen_string_literal: true

module Grate
  # The `GRATE_` constants of grate.h. In the lists, the place of a name is its number.
  # @api private
  module Constants
    HEADER_VERSION = 1000 # GRATE_VERSION of the header that the layouts mirror

    # GRATE_ZERO, GRATE_NEVER, GRATE_ABSENT, and what remaining_quota says where there is no such quota.
    ZERO = NEVER = ABSENT = UNLIMITED = (2**64) - 1

    DIMENSIONS = [nil, :requests, :tokens, :input_tokens, :output_tokens, :concurrency, :bytes, :cost_micro_usd].freeze
    STRATEGIES = [nil, :rolling, :token_bucket, :fixed_window, :concurrency].freeze
    CIRCUITS = %i[closed open half_open ramping].freeze
    LIMITS = %i[configured learned told].freeze
    HELD_BY = [nil, :cooldown, :health, :quota, :concurrency, :probe, :exclusion].freeze
    OUTCOMES = [nil, :success, :rate_limited, :quota_exhausted, :forbidden, :server_error, :overloaded, :timeout,
                :client_error, :cancelled].freeze

    OK = 0
    ERR_INVALID_NAME = 3
    ERR_INVALID_ARGUMENT = 4
    ERR_INVALID_CONFIG = 5
    ERR_INVALID_JSON = 6
    ERR_UNKNOWN_CAPABILITY = 7
    ERR_UNKNOWN_PROVIDER = 8
    ERR_NO_PROVIDER_AVAILABLE = 9
    ERR_STALE_LEASE = 10
    ERR_BUFFER_TOO_SMALL = 11
    ERR_CAPACITY = 12
    ERR_PANIC = 13
    ERR_STATE_FILE = 14

    STATE_REPLACE_UNUSABLE = 1
  end
end
