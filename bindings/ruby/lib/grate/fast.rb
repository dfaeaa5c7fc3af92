# frozen_string_literal: true

require_relative "engine"

module Grate
  # The optional part in C, `ext/grate_fast`, if it was built: acquire and complete in their common form. It leaves to the
  # methods in Ruby all that is unusual. `GRATE_PURE_RUBY=1` leaves it out, and so does a Ruby that has no hook for forks.
  begin
    require "grate/grate_fast" if ["", "0"].include?(ENV["GRATE_PURE_RUBY"].to_s) && Process.respond_to?(:_fork)
  rescue ::LoadError
    nil
  end

  # @api private
  Fast = nil unless const_defined?(:Fast, false)

  # @return [Boolean] whether the part in C is in use
  def self.fast?
    !Fast.nil?
  end

  if Fast
    library = Native.ffi_libraries.first
    functions = %w[grate_engine_acquire grate_engine_complete grate_version].map do |name|
      library.find_function(name).address
    end
    struct = lambda do |layout, *amounts|
      [layout.make.to_ptr.read_bytes(layout.size), amounts.map { |amount| layout.offset_of(amount) }]
    end
    estimate = %i[tokens input_tokens output_tokens bytes cost_micro_usd]
    Fast.bind(Lease, struct[Layouts::Request, *estimate], struct[Layouts::Response, :requests, *estimate],
              struct[Layouts::Decision],
              [*functions, Layouts::Response.offset_of(:http_status), Scratch::LEASE, Scratch::PROVIDER,
               Scratch::DECISION_BYTES, Constants::ERR_NO_PROVIDER_AVAILABLE])
  end
end
