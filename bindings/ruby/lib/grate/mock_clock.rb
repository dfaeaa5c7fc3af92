# frozen_string_literal: true

require_relative "amounts"
require_relative "native"

module Grate
  # A clock for tests and simulations: it stands still until it is moved. It starts at 0 ns and at `unix_ms`.
  # All methods may be called on any thread. An engine keeps what it needs of its clock.
  class MockClock
    # @param unix_ms [Integer] milliseconds since the epoch at the start
    # @raise [InvalidArgumentError]
    def initialize(unix_ms: 0)
      @pointer = FFI::AutoPointer.new(Native.grate_clock_mock_new(Amounts.unsigned(unix_ms)),
                                      Native.method(:grate_clock_free))
    end

    # Moves the clock, monotonic and Unix time alike.
    # @param milliseconds [Integer]
    # @return [self]
    def advance_ms(milliseconds)
      Native.grate_clock_advance_ms(@pointer, Amounts.unsigned(milliseconds))
      self
    end

    # Moves the clock, monotonic and Unix time alike.
    # @param seconds [Integer]
    # @return [self]
    def advance_secs(seconds)
      Native.grate_clock_advance_secs(@pointer, Amounts.unsigned(seconds))
      self
    end

    # Sets the clock to so many nanoseconds after its start. Going back counts as "no time has passed".
    # @param nanoseconds [Integer]
    # @return [self]
    def set_ns(nanoseconds)
      Native.grate_clock_set_ns(@pointer, Amounts.unsigned(nanoseconds))
      self
    end

    # @return [Integer] nanoseconds since its start
    def now_ns
      Native.grate_clock_now_ns(@pointer)
    end

    # @api private
    def to_ptr
      @pointer
    end
  end
end
