# frozen_string_literal: true

require_relative "constants"
require_relative "errors"

module Grate
  # Numbers as the library takes them: 0 is "not given" there, GRATE_ZERO a true zero. ffi itself would wrap negative
  # numbers and cut fractions silently.
  # @api private
  module Amounts
    ZERO = Constants::ZERO
    private_constant :ZERO

    # What Ruby holds without an object. Where it matters, callers ask themselves whether a number is an Integer up to this,
    # and so goes to the library as it is: asking here would cost as much as the rest.
    MOST_PLAIN = (2**62) - 1

    # @param value [Integer, nil] units, nil for "not given"
    # @return [Integer]
    def self.units(value)
      return 0 if value.nil?
      raise InvalidArgumentError, "an amount must be an Integer, not #{value.inspect}" unless value.is_a?(Integer)
      raise InvalidArgumentError, "the amount #{value} is out of its range" unless value >= 0 && value < ZERO

      value.zero? ? ZERO : value
    end

    # @param milliseconds [Numeric, nil] nil for "not given"
    # @return [Integer] nanoseconds, exact for integers
    def self.nanoseconds(milliseconds)
      return 0 if milliseconds.nil?
      unless milliseconds.is_a?(Numeric) && milliseconds.real? && milliseconds.finite?
        raise InvalidArgumentError, "a time must be a finite number of milliseconds, not #{milliseconds.inspect}"
      end

      units((milliseconds * 1_000_000).round)
    end

    # @param value [Integer]
    # @return [Integer] the value itself
    def self.unsigned(value)
      return value if value.is_a?(Integer) && value >= 0 && value <= ZERO

      raise InvalidArgumentError, "#{value.inspect} is not an unsigned Integer of 64 bits"
    end

    # @param status [Integer, nil] of HTTP, nil for none; the library looks whether it is one
    # @return [Integer]
    def self.http_status(status)
      return 0 if status.nil?
      return status if status.is_a?(Integer) && status >= 0 && status < (1 << 31)

      raise InvalidArgumentError, "an HTTP status must be an Integer of at least 100, not #{status.inspect}"
    end

    # @param name [Symbol, String, nil]
    # @param known [Array<Symbol, nil>] where the name's place is its number
    # @return [Integer]
    def self.number(name, known, what)
      number = known.index(name&.to_sym) if name.nil? || name.respond_to?(:to_sym)
      return number if number

      raise InvalidArgumentError, "unknown #{what} #{name.inspect}, expected one of #{known.compact.join(', ')}"
    end
  end
end
