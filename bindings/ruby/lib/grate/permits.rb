# frozen_string_literal: true

require_relative "errors"
require_relative "native"
require_relative "scratch"

module Grate
  # Who may call an engine, and when its memory may go.
  #
  # A call takes a permit, which is the scratch memory that it needs anyway, and gives it back (`idle.pop || another`,
  # `idle << scratch`). To close an engine is to make `pop` raise and to collect the permits: if all are at home, no call is
  # under way and none can begin, so the engine is freed at once. If not, the garbage collector frees it after the last
  # call. So a call pays for nothing but a stack, whose operations are atomic under the interpreter lock: it works in signal
  # handlers, where a Mutex does not.
  #
  # It is also the releaser of the engine's FFI::AutoPointer.
  # @api private
  class Permits
    # Those of engines in use, to be found after a fork.
    LIVE = {}.compare_by_identity
    private_constant :LIVE

    # In a child that was forked: no engine that was made before may be used there, unless its state is shared.
    def self.forked
      LIVE.each_key(&:forked)
      LIVE.clear
    end

    # @return [Array<Scratch>] the permits that nobody has
    attr_reader :idle

    # @param shared [Boolean] whether a forked child may use the engine as well
    def initialize(shared: false)
      @shared = shared
      @pid = Process.pid
      @made = [] # one element per permit, as only its `<<` is atomic
      @refusal = @handle = nil
      @idle = [another]
      return if shared

      check_each_call unless Process.respond_to?(:_fork)
      LIVE[self] = true
    end

    # Calls in C never wait, so they need no permit, but a handle, which is closed before the engine may go.
    # @param handle [Fast::Handle, nil]
    def handle=(handle)
      @handle = handle
      handle&.close if @refusal
    end

    # One more permit: there were never so many calls at the same time.
    # @return [Scratch]
    def another
      # In this order: `close` first refuses, then counts.
      @made << nil
      raise refusal if @refusal

      Scratch.new
    end

    # Lets no further call begin.
    # @return [Boolean] whether none is under way, so that the engine may be freed now: true once at most
    def close
      refuse(ClosedEngineError, "this engine is closed") unless @refusal
      home = 0
      home += 1 while @idle.shift
      home == @made.size
    end

    # @return [Boolean]
    def closed?
      @refusal == ClosedEngineError
    end

    # This process is a child of the one that made the engine.
    # @return [void]
    def forked
      refuse(ForkedEngineError, "this engine was made in process #{@pid}, of which this process (#{Process.pid}) is a " \
                                "fork: make an engine after the fork, or with a state_path")
    end

    # Frees the engine. A child that has only a copy leaves it alone.
    # @param pointer [FFI::Pointer]
    # @return [void]
    def call(pointer)
      LIVE.delete(self)
      @handle&.close
      Native.grate_engine_free(pointer) if @shared || Process.pid == @pid
    end

    private

    def refusal
      @refusal.new(@message)
    end

    def refuse(error, message)
      @message = message
      @refusal = error
      @handle&.close
      permits = self
      pop_instead { raise permits.send(:refusal) }
    end

    # For Ruby 3.0, which has no hook for forks: asks at each call who is calling.
    def check_each_call
      permits = self
      pid = @pid
      pop_instead do
        next super() if Process.pid == pid

        permits.forked
        pop
      end
    end

    # What `idle.pop` does from now on.
    def pop_instead(&block)
      @idle.extend(Module.new { define_method(:pop, &block) })
    end
  end

  # Reports forks, at no cost per call: `fork` in all its forms goes through `_fork` since Ruby 3.1, `daemon` does not.
  # @api private
  module ForkHook
    def _fork
      super.tap { |pid| Permits.forked if pid.zero? }
    end

    def daemon(*)
      super.tap { Permits.forked }
    end
  end
  Process.singleton_class.prepend(ForkHook) if Process.respond_to?(:_fork)
end
