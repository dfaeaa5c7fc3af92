# frozen_string_literal: true

require_relative "constants"
require_relative "native"

module Grate
  # Base of all errors of this gem. `message` says what is wrong and what to do about it.
  class Error < StandardError
    # @return [Integer, nil] the status in grate.h; nil for the errors of this gem alone ({ClosedEngineError},
    #   {ForkedEngineError})
    attr_reader :code

    # @param message [String, nil]
    # @param code [Integer, nil]
    def initialize(message = nil, code = self.class::CODE)
      super(message)
      @code = code
    end

    CODE = nil

    # @return [String] symbolic name of the status, such as `"GRATE_ERR_STALE_LEASE"`, or of the class if there is none
    def name
      code ? Grate.status_name(code) : self.class.name.split("::").last
    end
  end

  # A name is empty, longer than 128 bytes, not UTF-8, or contains control characters.
  class InvalidNameError < Error
    CODE = Constants::ERR_INVALID_NAME
  end

  # A value is out of its range, or of the wrong type.
  class InvalidArgumentError < Error
    CODE = Constants::ERR_INVALID_ARGUMENT
  end

  # A configuration contradicts itself or the one in force; nothing was applied.
  class InvalidConfigError < Error
    CODE = Constants::ERR_INVALID_CONFIG
  end

  # A configuration is malformed, or has fields that do not exist; nothing was applied.
  class InvalidJSONError < InvalidConfigError
    CODE = Constants::ERR_INVALID_JSON
  end

  # No capability of that name is registered.
  class UnknownCapabilityError < Error
    CODE = Constants::ERR_UNKNOWN_CAPABILITY
  end

  # No provider of that name is registered.
  class UnknownProviderError < Error
    CODE = Constants::ERR_UNKNOWN_PROVIDER
  end

  # The lease was settled already, has expired, or never existed.
  class StaleLeaseError < Error
    CODE = Constants::ERR_STALE_LEASE
  end

  # Too many providers, quotas or leases in flight for one engine.
  class CapacityError < Error
    CODE = Constants::ERR_CAPACITY
  end

  # The state file cannot be used: it is damaged, not one, of another version, or cannot be opened.
  class StateFileError < Error
    CODE = Constants::ERR_STATE_FILE
  end

  # A bug in libgrate or in this gem. Please report it.
  class InternalError < Error
    CODE = Constants::ERR_PANIC
  end

  # The engine was used after `close`.
  class ClosedEngineError < Error; end

  # The engine has no state file, was made before a fork, and used in the child, which has only a copy. Make an engine after
  # the fork, or with a `state_path`.
  class ForkedEngineError < Error; end

  # No provider can take the request now. {#decision} has all that is known, the other readers what matters most.
  class NoProviderAvailableError < Error
    CODE = Constants::ERR_NO_PROVIDER_AVAILABLE

    # @return [Decision]
    attr_reader :decision

    # @param decision [Decision]
    def initialize(decision)
      super(nil)
      @decision = decision
    end

    # @return [String, nil] the provider that frees first; nil if the capability has none
    def provider
      decision.provider
    end

    # @return [Integer, nil] nanoseconds until then; nil if waiting does not help, as for a request larger than the limit
    def retry_after_ns
      decision.retry_after_ns
    end

    # @return [Float, nil] the same in seconds, for `sleep`
    def retry_after
      decision.retry_after
    end

    # @return [Symbol, nil] what holds that provider: `:cooldown`, `:health`, `:quota`, `:concurrency`, `:probe` or
    #   `:exclusion`
    def held_by
      decision.held_by
    end

    # Made only when asked for: under load this error is raised often, rescued, and never printed.
    # @return [String]
    def to_s
      return "no provider available: the capability has none" unless provider

      if retry_after_ns
        format("no provider available: %p frees first, in %.0f ms (%s)", provider, retry_after_ns / 1e6, reason)
      else
        "no provider available: #{provider.inspect} is held by its #{reason}, and waiting does not help"
      end
    end

    private

    def reason
      return held_by.to_s unless held_by == :quota

      format("quota of %s per %g s", decision.held_dimension, decision.held_window_ns / 1e9)
    end
  end

  class Error
    CLASSES = [InvalidNameError, InvalidArgumentError, InvalidConfigError, InvalidJSONError, UnknownCapabilityError,
               UnknownProviderError, StaleLeaseError, CapacityError,
               StateFileError].to_h { |kind| [kind::CODE, kind] }.freeze
    private_constant :CLASSES

    # @api private
    # @return [Error] the error for a status
    def self.for(code, message)
      CLASSES.fetch(code, InternalError).new(message, code)
    end
  end
end
