# frozen_string_literal: true

require "json"
require_relative "amounts"
require_relative "decision"
require_relative "errors"
require_relative "failure"
require_relative "headers"
require_relative "lease"
require_relative "mock_clock"
require_relative "names"
require_relative "native"
require_relative "permits"
require_relative "state"

module Grate
  # Providers, capabilities, quotas, health and leases. All methods may be called on any thread at any time, in fibers and
  # in signal handlers; none waits for anything.
  #
  # All raise {ClosedEngineError} after {#close}, {ForkedEngineError} in a child that was forked after the engine was made
  # without a `state_path`, and {InvalidArgumentError} or {InvalidNameError} for arguments that are out of range or of the
  # wrong type.
  class Engine
    # @param config [Hash, String, nil] applied as by {#configure}
    # @param clock [MockClock, nil] nil for the system's time
    # @param state_path [String, nil] a file in which the state lives, shared by all processes of this host that give the
    #   same path, and kept over restarts; made if it is not there. nil: the state is this engine's own.
    # @param state_size [Integer, nil] its size in bytes if it is made; nil is 16 MiB
    # @param replace_unusable_state [Boolean] whether a file that cannot be used is replaced by a new one
    # @raise [InvalidConfigError, UnknownProviderError]
    # @raise [StateFileError] if the file cannot be used
    def initialize(config = nil, clock: nil, state_path: nil, state_size: nil, replace_unusable_state: false)
      settings = Layouts::EngineConfig.make
      settings[:clock] = pointer_of(clock) if clock
      settings[:state_path] = FFI::MemoryPointer.from_string(File.path(state_path)) if state_path
      settings[:state_size] = Amounts.unsigned(state_size) if state_size
      settings[:state_flags] = Constants::STATE_REPLACE_UNUSABLE if replace_unusable_state
      out = FFI::MemoryPointer.new(:pointer)
      error = Scratch.new
      code = Native.grate_engine_new(settings, out, error + Scratch::ERROR)
      raise error.failure(code) unless code == Constants::OK

      pointer = out.read_pointer
      @permits = Permits.new(pointer, shared: !state_path.nil?)
      @idle = @permits.idle
      @pointer = FFI::AutoPointer.new(pointer, @permits)
      @address = @pointer.address
      @providers = { 0 => nil } # names by address, which they keep as long as the engine
      @handle = @permits.handle = Fast && Fast::Handle.new(@address, @providers)
      apply(config) if config
    end

    # Frees the engine: at once, or, if other threads have calls under way, after these. Leases need not be settled before.
    # May be called again.
    # @return [nil]
    def close
      @permits.close
      nil
    end

    # @return [Boolean] whether {#close} was called
    def closed?
      @permits.closed?
    end

    # @!group Configuration

    # Applies a configuration, whole or not at all. It registers or changes what it names and leaves the rest, or, with
    # `"replace": true`, removes what it does not name. Usage, health and leases are kept.
    #
    # @param config [Hash, String] in the JSON form of the main README, or a JSON document as text
    # @return [nil]
    # @raise [InvalidJSONError, InvalidConfigError, UnknownProviderError, InvalidNameError, CapacityError]
    def configure(config)
      document = config.is_a?(String) ? config : JSON.generate(config)
      cold { |s| Native.grate_engine_configure_json(@address, document, document.bytesize, s.address + Scratch::ERROR) }
      nil
    rescue JSON::GeneratorError, JSON::NestingError => e
      raise InvalidConfigError, e.message
    end

    # Removes a provider, also from every capability. Its leases can still be settled, and if it comes back it finds its
    # usage and health again.
    # @param name [String, Symbol]
    # @return [nil]
    # @raise [UnknownProviderError]
    def remove_provider(name)
      cold { |s| Native.grate_engine_remove_provider(@address, Names[name], s.address + Scratch::ERROR) }
      nil
    end

    # Removes a capability; its providers and leases stay.
    # @param name [String, Symbol]
    # @return [nil]
    # @raise [UnknownCapabilityError]
    def remove_capability(name)
      cold { |s| Native.grate_engine_remove_capability(@address, Names[name], s.address + Scratch::ERROR) }
      nil
    end

    # @!endgroup
    # @!group Routing

    # Chooses a provider and changes nothing: a look, not a promise. Arguments and errors as for {#acquire}.
    # @return [Decision]
    def select(capability, tokens: nil, input_tokens: nil, output_tokens: nil, bytes: nil, cost_micro_usd: nil,
               exclude: nil, headroom: nil, explain: false)
      route(false, capability, tokens, input_tokens, output_tokens, bytes, cost_micro_usd, exclude, headroom, explain)
    end

    # Chooses a provider and reserves one request, the estimated usage and a concurrency slot, all or nothing.
    #
    # With a block, the lease is settled when the block is left, unless it was settled in it: the block means that the
    # request is sent, and what may have been sent is counted.
    #
    # - At its end: as a success with the estimated usage.
    # - By an exception: as {Failure.outcome} tells, which is a timeout, a server error if the connection failed, else
    #   cancelled, which leaves the provider's health alone. If nothing was sent, call `lease.cancel` before raising.
    # - By `break`, `return` or `throw` (some timeouts are a `throw`): as cancelled.
    #
    # @param capability [String, Symbol]
    # @param tokens [Integer, nil] estimate of input and output tokens together, corrected when the lease is completed. Of
    #   all estimates: nil is "unknown", for which what was used before stands, and 0 is zero.
    # @param input_tokens [Integer, nil] estimate
    # @param output_tokens [Integer, nil] estimate
    # @param bytes [Integer, nil] estimate
    # @param cost_micro_usd [Integer, nil] estimate, in millionths of a US dollar
    # @param exclude [Array<String>, String, nil] providers that must not be chosen, such as the one that just failed; at
    #   most 64
    # @param headroom [Float, nil] share of every quota that must stay free, >= 0 and < 1: batch work with 0.3 leaves 30 %
    # @param explain [Boolean] whether to record the other providers as well ({Decision#candidates})
    # @yieldparam lease [Lease]
    # @return [Lease, Object] the lease, or what the block returns
    # @raise [NoProviderAvailableError, UnknownCapabilityError, InvalidArgumentError, CapacityError]
    def acquire(capability, tokens: nil, input_tokens: nil, output_tokens: nil, bytes: nil, cost_micro_usd: nil,
                exclude: nil, headroom: nil, explain: false)
      # Not by `&block`, with which the keywords of every call would take a slower way.
      if defined?(yield)
        return settling([capability, tokens, input_tokens, output_tokens, bytes, cost_micro_usd, exclude, headroom,
                         explain]) { |lease| yield lease }
      end

      @handle&.acquire(self, capability, tokens, input_tokens, output_tokens, bytes, cost_micro_usd, exclude, headroom,
                       explain) ||
        route(true, capability, tokens, input_tokens, output_tokens, bytes, cost_micro_usd, exclude, headroom, explain)
    end

    # Settles the lease of a request that was sent: frees its slot, corrects the estimate to the actual usage, and learns
    # from the outcome.
    #
    # @param lease [Lease, Integer] a lease, or its number
    # @param outcome [Symbol, String, nil] `:success`, `:rate_limited`, `:quota_exhausted`, `:forbidden`, `:server_error`,
    #   `:overloaded`, `:timeout`, `:client_error` or `:cancelled`; nil: derived from `http_status`, a success without both
    # @param http_status [Integer, nil] as it came, at least 100
    # @param latency_ms [Numeric, nil] milliseconds from sending to the end of the answer; nil: since {#acquire}
    # @param tokens [Integer, nil] usage. Of all usage: nil is "as estimated" (none, of a request that was refused), and 0
    #   is zero.
    # @param input_tokens [Integer, nil] usage
    # @param output_tokens [Integer, nil] usage
    # @param requests [Integer, nil] usage; nil is 1
    # @param bytes [Integer, nil] usage
    # @param cost_micro_usd [Integer, nil] usage, in millionths of a US dollar
    # @param retry_after_ms [Numeric, nil] how many milliseconds the provider says to stay away, if not in the headers
    # @param headers [#each, nil] those of the response, names and values: a Hash, pairs, a Net::HTTPResponse, Faraday's
    # @return [nil]
    # @raise [StaleLeaseError, InvalidArgumentError]
    def complete(lease, outcome: nil, http_status: nil, latency_ms: nil, tokens: nil, input_tokens: nil,
                 output_tokens: nil, requests: nil, bytes: nil, cost_micro_usd: nil, retry_after_ms: nil, headers: nil)
      if lease.is_a?(Lease)
        own(lease).complete(outcome: outcome, http_status: http_status, latency_ms: latency_ms, tokens: tokens,
                            input_tokens: input_tokens, output_tokens: output_tokens, requests: requests, bytes: bytes,
                            cost_micro_usd: cost_micro_usd, retry_after_ms: retry_after_ms, headers: headers)
      else
        settle(Amounts.unsigned(lease), outcome, http_status, latency_ms, retry_after_ms, requests, tokens,
               input_tokens, output_tokens, bytes, cost_micro_usd, headers)
        nil
      end
    end

    # Gives the lease of a request back that was not sent, with all it reserved.
    # @param lease [Lease, Integer] a lease, or its number
    # @return [nil]
    # @raise [StaleLeaseError]
    def cancel(lease)
      lease.is_a?(Lease) ? own(lease).cancel : give_back(Amounts.unsigned(lease))
      nil
    end

    # Reports a request that was sent without a lease. Arguments as for {#complete}; an unknown latency is left out.
    # @param provider [String, Symbol]
    # @return [nil]
    # @raise [UnknownProviderError, InvalidArgumentError]
    def observe(provider, outcome: nil, http_status: nil, latency_ms: nil, tokens: nil, input_tokens: nil,
                output_tokens: nil, requests: nil, bytes: nil, cost_micro_usd: nil, retry_after_ms: nil, headers: nil)
      name = Names[provider]
      cold do |s|
        fill_response(s, outcome, http_status, latency_ms, retry_after_ms, requests, tokens, input_tokens,
                      output_tokens, bytes, cost_micro_usd, headers)
        base = s.address
        Native.grate_engine_observe(@address, name, base + Scratch::FULL_RESPONSE, base + Scratch::ERROR)
      end
      nil
    end

    # @!endgroup
    # @!group Inspection

    # @param provider [String, Symbol]
    # @return [Float] health now, in [0, 1]
    # @raise [UnknownProviderError]
    def provider_health(provider)
      out = FFI::MemoryPointer.new(:double)
      cold { |s| Native.grate_engine_provider_health(@address, Names[provider], out, s.address + Scratch::ERROR) }
      out.read_double
    end

    # @param provider [String, Symbol]
    # @return [Boolean] whether it is cooling down now
    # @raise [UnknownProviderError]
    def provider_in_cooldown?(provider)
      out = FFI::MemoryPointer.new(:int32)
      cold { |s| Native.grate_engine_provider_in_cooldown(@address, Names[provider], out, s.address + Scratch::ERROR) }
      out.read_int32 == 1
    end

    # @param provider [String, Symbol]
    # @param dimension [Symbol, String] `:requests`, `:tokens`, `:input_tokens`, `:output_tokens`, `:concurrency`, `:bytes`
    #   or `:cost_micro_usd`
    # @return [Integer, nil] how many units may be reserved now: the least over its quotas of that dimension, nil if it has
    #   none
    # @raise [UnknownProviderError, InvalidArgumentError]
    def remaining_quota(provider, dimension)
      out = FFI::MemoryPointer.new(:uint64)
      number = Amounts.number(dimension, Constants::DIMENSIONS, "dimension")
      cold do |s|
        Native.grate_engine_remaining_quota(@address, Names[provider], number, out, s.address + Scratch::ERROR)
      end
      units = out.read_uint64
      units unless units == Constants::UNLIMITED
    end

    # @param provider [String, Symbol]
    # @return [ProviderState] all that is known of a provider and of its quotas
    # @raise [UnknownProviderError]
    def provider_state(provider)
      rows = FFI::MemoryPointer.new(Layouts::QuotaState, MAX_QUOTAS)
      rows.put_uint32(0, Layouts::QuotaState.size)
      out = Layouts::ProviderState.make
      out[:quotas] = rows
      out[:quotas_capacity] = MAX_QUOTAS
      cold do |s|
        code = Native.grate_engine_provider_state(@address, Names[provider], out, s.address + Scratch::ERROR)
        next code unless code == Constants::OK

        # Read here, where the engine cannot be freed: the names of pools live no longer.
        quotas = Array.new(out[:quotas_len]) do |i|
          QuotaState.read(Layouts::QuotaState.new(rows + (i * Layouts::QuotaState.size)))
        end
        return ProviderState.read(out, quotas)
      end
    end

    # @return [Metrics] the engine's counters
    def metrics
      out = Layouts::Metrics.make
      cold { |s| Native.grate_engine_metrics(@address, out, s.address + Scratch::ERROR) }
      Metrics.read(out)
    end

    # @return [String] all metrics in the Prometheus text format, engine-wide and per provider
    def prometheus
      length = FFI::MemoryPointer.new(:uint64)
      capacity = 8192
      loop do
        buffer = FFI::MemoryPointer.new(capacity)
        fits = true
        cold do |s|
          code = Native.grate_engine_prometheus(@address, buffer, capacity, length, s.address + Scratch::ERROR)
          fits = code != Constants::ERR_BUFFER_TOO_SMALL
          fits ? code : Constants::OK
        end
        return buffer.read_string(length.read_uint64).force_encoding(Encoding::UTF_8) if fits

        capacity = length.read_uint64 + 1
      end
    end

    # @return [String]
    def inspect
      "#<#{self.class}#{' closed' if closed?}>"
    end

    # @!endgroup

    # {#complete} for a number; positional, which makes it cheaper.
    # @api private
    def settle(lease, outcome, http_status, latency_ms, retry_after_ms, requests, tokens, input_tokens, output_tokens,
               bytes, cost_micro_usd, headers)
      cold do |s|
        fill_response(s, outcome, http_status, latency_ms, retry_after_ms, requests, tokens, input_tokens,
                      output_tokens, bytes, cost_micro_usd, headers)
        base = s.address
        Native.grate_engine_complete(@address, lease, base + Scratch::FULL_RESPONSE, base + Scratch::ERROR)
      end
    end

    # The same for the common case.
    # @api private
    def settle_plainly(lease, http_status, tokens)
      unless Integer === http_status && http_status >= 0 && http_status < 1000
        http_status = Amounts.http_status(http_status || 200)
      end
      tokens = Amounts.units(tokens) unless Integer === tokens && tokens > 0 && tokens <= Amounts::MOST_PLAIN
      idle = @idle
      s = idle.pop || @permits.another
      begin
        s.put_int32(Scratch::RESPONSE_HTTP_STATUS, http_status)
        s.put_uint64(Scratch::RESPONSE_TOKENS, tokens)
        base = s.address
        code = Native.grate_engine_complete(@address, lease, base + Scratch::RESPONSE, base + Scratch::ERROR)
        raise s.failure(code) unless code == Constants::OK
      ensure
        idle << s
      end
    end

    # {#cancel} for a number.
    # @api private
    def give_back(lease)
      cold { |s| Native.grate_engine_cancel(@address, lease, s.address + Scratch::ERROR) }
    end

    private

    MAX_QUOTAS = 32 # of a provider
    private_constant :MAX_QUOTAS

    def pointer_of(clock)
      raise InvalidArgumentError, "a clock must be a MockClock, not #{clock.class}" unless clock.is_a?(MockClock)

      clock.to_ptr
    end

    def apply(config)
      configure(config)
    rescue StandardError
      close
      raise
    end

    # A call that need not be as fast. The block returns its status.
    def cold
      idle = @idle
      s = idle.pop || @permits.another
      begin
        code = yield s
        raise s.failure(code) unless code == Constants::OK
      ensure
        idle << s
      end
    end

    # Lease numbers of two engines look alike: here the mistake can still be seen.
    def own(lease)
      raise InvalidArgumentError, "this lease was made by another engine" unless equal?(lease.engine)

      lease
    end

    # {#acquire} with a block. The thread may be killed at any time, but not while the lease is made or settled.
    def settling(wish)
      lease = nil
      settlement = { outcome: :cancelled }
      Thread.handle_interrupt(Lease::UNDISTURBED) { lease = @handle&.acquire(self, *wish) || route(true, *wish) }
      value = yield lease
      settlement = {}
      value
    rescue Exception => e
      settlement = { outcome: Failure.outcome(e) } if lease
      raise
    ensure
      Thread.handle_interrupt(Lease::UNDISTURBED) { lease&.ensure_settled(**settlement) }
    end

    # {#select} and {#acquire}.
    def route(reserve, capability, tokens, input_tokens, output_tokens, bytes, cost_micro_usd, exclude, headroom, explain)
      name = Names::CACHE[capability] || Names[capability]
      tokens = Amounts.units(tokens) unless Integer === tokens && tokens > 0 && tokens <= Amounts::MOST_PLAIN
      idle = @idle
      s = idle.pop || @permits.another
      begin
        base = s.address
        if input_tokens || output_tokens || bytes || cost_micro_usd || exclude || headroom
          fill_request(s, tokens, input_tokens, output_tokens, bytes, cost_micro_usd, exclude, headroom)
          request = base + Scratch::FULL_REQUEST
        else
          s.put_uint64(Scratch::REQUEST_TOKENS, tokens)
          request = base + Scratch::REQUEST
        end
        candidates = s.candidates if explain
        at = explain ? Scratch::EXPLAINED : Scratch::DECISION
        code = if reserve
                 Native.grate_engine_acquire(@address, name, request, base + at, base + Scratch::ERROR)
               else
                 Native.grate_engine_select(@address, name, request, base + at, base + Scratch::ERROR)
               end
        raise s.failure(code) unless code == Constants::OK || code == Constants::ERR_NO_PROVIDER_AVAILABLE

        address = s.get_uint64(at + Scratch::PROVIDER)
        provider = @providers[address] || name_at(address)
        raw = s.get_bytes(at, Scratch::DECISION_BYTES)
        lease = s.get_uint64(at + Scratch::LEASE) if reserve
        candidates &&= read_candidates(candidates, s.get_uint64(Scratch::EXPLAINED_CANDIDATES_LEN))
      ensure
        idle << s
      end
      none_available(provider, raw, candidates) unless code == Constants::OK
      reserve ? Lease.new(self, lease, provider, raw, candidates) : Decision.new(provider, raw, candidates)
    end

    def none_available(provider, raw, candidates)
      raise NoProviderAvailableError, Decision.new(provider, raw, candidates)
    end

    # Writes the full request; `tokens` is converted already.
    def fill_request(scratch, tokens, input_tokens, output_tokens, bytes, cost_micro_usd, exclude, headroom)
      unless headroom.nil? || (headroom.is_a?(Numeric) && headroom.real?)
        raise InvalidArgumentError, "headroom must be a number, not #{headroom.inspect}"
      end

      rows, count = scratch.excluded = Names.array(exclude)
      amounts = [input_tokens, output_tokens, bytes, cost_micro_usd].map { |value| Amounts.units(value) }
      scratch.put_array_of_uint64(Scratch::FULL_REQUEST_AMOUNTS, [tokens, *amounts])
      scratch.put_double(Scratch::FULL_REQUEST_HEADROOM, headroom || 0.0)
      scratch.put_array_of_uint64(Scratch::FULL_REQUEST_EXCLUDE, [rows.address, count])
    end

    # Writes the full response.
    def fill_response(scratch, outcome, http_status, latency_ms, retry_after_ms, requests, tokens, input_tokens,
                      output_tokens, bytes, cost_micro_usd, headers)
      outcome = :success unless outcome || http_status
      fields, count = headers && Headers.lay_out(headers, scratch)
      times = [latency_ms, retry_after_ms].map { |value| Amounts.nanoseconds(value) }
      amounts = [requests, tokens, input_tokens, output_tokens, bytes, cost_micro_usd].map { |v| Amounts.units(v) }
      scratch.put_int32(Scratch::FULL_RESPONSE_OUTCOME, Amounts.number(outcome, Constants::OUTCOMES, "outcome"))
      scratch.put_int32(Scratch::FULL_RESPONSE_HTTP_STATUS, Amounts.http_status(http_status))
      scratch.put_array_of_uint64(Scratch::FULL_RESPONSE_AMOUNTS,
                                  [*times, *amounts, fields ? fields.address : 0, count || 0])
    end

    def read_candidates(rows, count)
      Array.new(count) do |i|
        at = i * Scratch::CANDIDATE_BYTES
        address = rows.get_uint64(at + Scratch::CANDIDATE_PROVIDER)
        Candidate.new(@providers[address] || name_at(address), rows.get_bytes(at, Scratch::CANDIDATE_BYTES))
      end.freeze
    end

    def name_at(address)
      return if address.zero?

      @providers[address] = FFI::Pointer.new(address).read_string.force_encoding(Encoding::UTF_8).freeze
    end
  end
end
