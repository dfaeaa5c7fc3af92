# frozen_string_literal: true

require_relative "errors"
require_relative "native"
require_relative "scratch"

module Grate
  # Who may call an engine, and when its memory may go.
  #
  # A call takes a permit, which is the scratch memory that it needs anyway, and gives it back (`idle.pop || another`,
  # `idle << scratch`). To close an engine is to make `pop` raise; as soon as all permits are at home, no call is under way
  # and none can begin, so the engine is freed. If one never comes home, because its thread was killed, the garbage collector
  # frees the engine. So a call pays for nothing but a stack, whose operations are atomic under the interpreter lock: it works
  # in signal handlers, where a Mutex does not.
  #
  # It is also the releaser of the engine's FFI::AutoPointer.
  # @api private
  class Permits
    # Those of engines in use, to be found after a fork.
    LIVE = {}.compare_by_identity
    CLOSED = [ClosedEngineError, "this engine is closed"].freeze
    private_constant :LIVE, :CLOSED

    # What `idle` does when no further call may begin: it gives nothing away, and looks whether all is there.
    module Closing
      def pop
        @permits.another
      end

      def <<(scratch)
        super
        @permits.free_if_unused
      end
    end
    private_constant :Closing

    # In a child that was forked: no engine that was made before may be used there, unless its state is shared.
    def self.forked
      LIVE.each_key(&:forked)
      LIVE.clear
    end

    # @return [Array<Scratch>] the permits that nobody has
    attr_reader :idle

    # @param pointer [FFI::Pointer] the engine
    # @param shared [Boolean] whether a forked child may use the engine as well
    def initialize(pointer, shared: false)
      @engine = [pointer] # whoever takes it out frees it
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
      return Scratch.new unless @refusal

      @made.pop
      free_if_unused
      raise(*@refusal)
    end

    # Lets no further call begin, and frees the engine after the last one.
    # @return [void]
    def close
      refuse(CLOSED) unless @refusal
      free_if_unused
    end

    # Frees the engine if all permits are at home and no more are given.
    # @return [void]
    def free_if_unused
      free if @refusal && @idle.size == @made.size
    end

    # @return [Boolean]
    def closed?
      @refusal == CLOSED
    end

    # This process is a child of the one that made the engine.
    # @return [void]
    def forked
      refuse([ForkedEngineError, "this engine was made in process #{@pid}, of which this process (#{Process.pid}) is a " \
                                 "fork: make an engine after the fork, or with a state_path"])
    end

    # Nothing refers to the engine any more, or the process ends. Then finalizers of others may still call it: they find no
    # permit.
    # @return [void]
    def call(_pointer)
      @handle&.close
      @idle.clear
      @refusal ||= CLOSED
      free
    end

    private

    # Frees the engine, once. A child that has only a copy leaves it alone.
    def free
      LIVE.delete(self)
      pointer = @engine.pop
      Native.grate_engine_free(pointer) if pointer && (@shared || Process.pid == @pid)
    end

    # @param refusal [Array(Class, String)] what calls raise from now on
    def refuse(refusal)
      @handle&.close
      @idle.instance_variable_set(:@permits, self)
      @idle.extend(Closing)
      @refusal = refusal # last: until then `another` gives permits, from then on none leaves home
    end

    # For Ruby 3.0, which has no hook for forks: asks at each call who is calling.
    def check_each_call
      permits = self
      pid = @pid
      @idle.extend(Module.new do
        define_method(:pop) do
          next super() if Process.pid == pid

          permits.forked
          pop
        end
      end)
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
