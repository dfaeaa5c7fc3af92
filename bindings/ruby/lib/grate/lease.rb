# frozen_string_literal: true

require_relative "decision"
require_relative "errors"

module Grate
  # A decision with a reservation, which is settled once: by {#complete} if the request was sent, by {#cancel} if it was
  # not. One that never is expires after `lease_ttl_ms` (10 minutes): its slot is freed, its usage stays counted.
  #
  # The part in C, if there is one, keeps the fields and goes over the methods that know them: `initialize`, the readers, `raw`,
  # `settle` and `settled!`.
  class Lease < Decision
    # For Thread.handle_interrupt: a lease is made and kept, or settled, without the end of the thread in between.
    # @api private
    UNDISTURBED = { Object => :never }.freeze

    # @return [Integer] the number that {Engine#complete} and {Engine#cancel} take as well
    attr_reader :id

    # @return [Engine] the engine that made it
    attr_reader :engine

    # @api private
    def initialize(engine, id, provider, raw, candidates)
      # Not by `super`, which would take as long again.
      @engine = engine
      @id = id
      @provider = provider
      @raw = raw
      @candidates = candidates if candidates
    end

    # Settles the lease of a request that was sent. See {Engine#complete} for the arguments and errors.
    # @return [nil]
    def complete(outcome: nil, http_status: nil, latency_ms: nil, tokens: nil, input_tokens: nil, output_tokens: nil,
                 requests: nil, bytes: nil, cost_micro_usd: nil, retry_after_ms: nil, headers: nil)
      settle(outcome, http_status, latency_ms, retry_after_ms, requests, tokens, input_tokens, output_tokens, bytes,
             cost_micro_usd, headers)
    end

    # Gives the lease of a request back that was not sent, with all it reserved. See {Engine#cancel}.
    # @return [nil]
    def cancel
      engine.give_back(id)
      settled!
      nil
    end

    # @return [Boolean] whether {#complete} or {#cancel} was called on this object, or the engine's with it
    def settled?
      @settled == true
    end

    # Settles the lease unless that is done: for blocks and clients that must not leave one behind.
    # @param sent [Boolean] whether to complete it, or to cancel it
    # @param settlement [Hash] arguments for {#complete}
    # @return [nil]
    # @api private
    def ensure_settled(sent: true, **settlement)
      return if settled?

      sent ? complete(**settlement) : cancel
    rescue StaleLeaseError, ClosedEngineError, ForkedEngineError
      nil # settled through its number, expired, gone with the engine, or the parent's: nothing is left to settle
    end

    private

    # {#complete}, positional.
    def settle(outcome, http_status, latency_ms, retry_after_ms, requests, tokens, input_tokens, output_tokens, bytes,
               cost_micro_usd, headers)
      if outcome || latency_ms || input_tokens || output_tokens || requests || bytes || cost_micro_usd ||
         retry_after_ms || headers
        engine.settle(id, outcome, http_status, latency_ms, retry_after_ms, requests, tokens, input_tokens,
                      output_tokens, bytes, cost_micro_usd, headers)
      else
        engine.settle_plainly(id, http_status, tokens)
      end
      settled!
      nil
    end

    def settled!
      @settled = true
    end
  end
end
