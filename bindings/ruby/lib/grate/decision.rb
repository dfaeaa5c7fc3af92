# frozen_string_literal: true

require_relative "constants"
require_relative "layouts"

module Grate
  # The components of a score, each in [0, 1]. The score is their sum, weighted.
  Breakdown = Struct.new(:quota, :health, :priority, :latency, keyword_init: true)

  # What a decision says of a provider.
  #
  # It reads the struct of the library when it is asked: most of it mostly is not.
  module Verdict
    # @return [Float] weighted sum of the breakdown, in [0, 1]; also of providers that are held
    def score
      read(:score)
    end

    # @return [Breakdown] the components of the score
    def breakdown
      Breakdown.new(quota: read(:quota_score), health: read(:health_score), priority: read(:priority_score),
                    latency: read(:latency_score)).freeze
    end

    # @return [Float] seconds until the first quota is spent if the present burn goes on; infinity if none will be
    def seconds_to_exhaustion
      read(:seconds_to_exhaustion)
    end

    # @return [Symbol, nil] nil if it can be chosen; else what holds it longest: `:cooldown`, `:health`, `:quota`,
    #   `:concurrency`, `:probe` or `:exclusion`
    def held_by
      Constants::HELD_BY[read(:held_by)]
    end

    # @return [Integer, nil] nanoseconds until it can take this request: 0 if it can now, nil if waiting does not help.
    #   Exact for cooldown, health and quotas; for concurrency and probes the expected end of the oldest lease.
    def retry_after_ns
      wait = read(:retry_after_ns)
      wait unless wait == Constants::NEVER
    end

    # @return [Float, nil] the same in seconds, for `sleep`
    def retry_after
      wait = retry_after_ns
      wait && (wait / 1e9)
    end

    # @return [Symbol, nil] the dimension of the quota that holds it, if one does
    def held_dimension
      Constants::DIMENSIONS[read(:held_dimension)]
    end

    # @return [Integer] the window of that quota in nanoseconds, else 0
    def held_window_ns
      read(:held_window_ns)
    end

    # @return [Integer] its place in the capability's list, from 0
    def index
      read(:index)
    end

    # The directives of String#unpack1 that read each field.
    # @api private
    def self.directives(layout)
      letters = { FFI::Type::INT32 => "l", FFI::Type::UINT32 => "L", FFI::Type::DOUBLE => "d" }
      layout.new.layout.fields.to_h { |field| [field.name, "@#{field.offset}#{letters.fetch(field.type, 'Q')}"] }
    end
  end

  # One provider of the capability, as a decision saw it.
  class Candidate
    include Verdict

    DIRECTIVES = Verdict.directives(Layouts::Candidate)
    private_constant :DIRECTIVES

    # @return [String] the provider
    attr_reader :provider

    # @api private
    def initialize(provider, raw)
      @provider = provider
      @raw = raw
    end

    # @return [String]
    def inspect
      held = held_by
      format("#<%<class>s provider=%<provider>p score=%<score>.3f%<held>s>",
             class: self.class, provider: provider, score: score, held: held && " held_by=#{held}")
    end

    private

    def read(field)
      @raw.unpack1(DIRECTIVES.fetch(field))
    end
  end

  # Where the next request goes, and why; or, in a {NoProviderAvailableError}, which provider frees first, when, and what
  # holds it. Safe on any thread, and after its engine is closed.
  class Decision
    include Verdict

    DIRECTIVES = Verdict.directives(Layouts::Decision)
    private_constant :DIRECTIVES

    # @return [String, nil] the chosen provider, or the one that frees first; nil if the capability has none
    attr_reader :provider

    # @api private
    def initialize(provider, raw, candidates)
      @provider = provider
      @raw = raw
      @candidates = candidates if candidates
    end

    # All providers of the capability: those that can be chosen, best first, then those that are held, soonest free first.
    # At most 1024.
    # @return [Array<Candidate>]
    # @raise [Error] if the call was made without `explain: true`
    def candidates
      @candidates or raise Error, "this decision was not explained: pass explain: true to select or acquire"
    end

    # @return [Array<Candidate>] the others that could have been chosen, best first
    # @raise [Error] if the call was made without `explain: true`
    def alternatives
      candidates.reject(&:held_by).drop(1)
    end

    # @return [Array<Candidate>] those that could not be chosen, soonest free first
    # @raise [Error] if the call was made without `explain: true`
    def held
      candidates.select(&:held_by)
    end

    # @return [String]
    def inspect
      format("#<%<class>s provider=%<provider>p score=%<score>.3f>", class: self.class, provider: provider, score: score)
    end

    private

    # What is kept of the library's struct.
    attr_reader :raw

    def read(field)
      raw.unpack1(DIRECTIVES.fetch(field))
    end
  end
end
