# frozen_string_literal: true

require_relative "amounts"
require_relative "errors"
require_relative "layouts"
require_relative "native"
require_relative "scratch"

module Grate
  # Header fields as the library takes them.
  # @api private
  module Headers
    ROW = Layouts::Header.size
    private_constant :ROW

    # Lays out an array of `grate_header` and, behind it, the bytes that it points to.
    # @param headers [#each] names and values: a Hash, pairs, a Net::HTTPResponse, Faraday's headers
    # @return [Array(FFI::Pointer, Integer)] the array and its length
    def self.lay_out(headers, scratch)
      texts = collect(headers)
      count = texts.size / 2
      blob = texts.join
      memory = scratch.header_room((count * ROW) + blob.bytesize)
      at = memory.address + (count * ROW)
      words = texts.flat_map do |text|
        row = [at, text.bytesize]
        at += text.bytesize
        row
      end
      memory.put_array_of_uint64(0, words).put_bytes(count * ROW, blob)
      [memory, count]
    end

    # Names and values in turn. A value that is an Array is that many fields, as in Net::HTTPResponse#to_hash.
    def self.collect(headers)
      unless headers.respond_to?(:each)
        raise InvalidArgumentError, "headers must be a Hash or pairs, not #{headers.class}"
      end

      texts = []
      headers.each do |name, values|
        (values.is_a?(Array) ? values : [values]).each { |value| texts << bytes(name) << bytes(value) }
      end
      texts
    end
    private_class_method :collect

    def self.bytes(text)
      text = text.to_s
      text.ascii_only? ? text : text.b # or they could not be joined
    end
    private_class_method :bytes
  end

  # What headers tell of one quota. `limit` and `remaining` are units, `reset_in_ms` milliseconds from receipt until it is
  # filled up, `window_ms` the window that the limit is for; nil is what the headers do not tell.
  HeaderQuota = Struct.new(:dimension, :limit, :remaining, :reset_in_ms, :window_ms, keyword_init: true)

  # What the headers of one response tell about rate limits: `cached` whether it comes from a cache, `retry_after_ms` how
  # long to wait from receipt (milliseconds, nil if they do not tell), `quotas` an Array of {HeaderQuota}.
  HeaderReport = Struct.new(:cached, :retry_after_ms, :quotas, keyword_init: true)

  MAX_HEADER_QUOTAS = 16
  private_constant :MAX_HEADER_QUOTAS

  # Reads rate-limit headers without an engine, as {Engine#complete} and {Engine#observe} do. What cannot be read is
  # absent. Safe on any thread.
  #
  # @param headers [#each] names and values: a Hash, pairs, a Net::HTTPResponse, Faraday's headers
  # @param received_at_unix_ms [Integer] the time of receipt, to which instants in the headers are made relative:
  #   milliseconds since the epoch
  # @return [HeaderReport]
  # @raise [InvalidArgumentError]
  def self.parse_headers(headers, received_at_unix_ms: Process.clock_gettime(Process::CLOCK_REALTIME, :millisecond))
    scratch = Scratch.new
    fields, count = Headers.lay_out(headers, scratch)
    rows = FFI::MemoryPointer.new(Layouts::HeaderQuota, MAX_HEADER_QUOTAS)
    rows.put_uint32(0, Layouts::HeaderQuota.size)
    report = Layouts::HeaderReport.make
    report[:quotas] = rows
    report[:quotas_capacity] = MAX_HEADER_QUOTAS
    code = Native.grate_parse_headers(fields, count, Amounts.unsigned(received_at_unix_ms), report,
                                      scratch + Scratch::ERROR)
    raise scratch.failure(code) unless code == Constants::OK

    told = ->(number) { number unless number == Constants::ABSENT }
    quotas = Array.new(report[:quotas_len]) do |i|
      row = Layouts::HeaderQuota.new(rows + (i * Layouts::HeaderQuota.size))
      HeaderQuota.new(dimension: Constants::DIMENSIONS[row[:dimension]], limit: told[row[:limit]],
                      remaining: told[row[:remaining]], reset_in_ms: told[row[:reset_in_ms]],
                      window_ms: told[row[:window_ms]]).freeze
    end
    HeaderReport.new(cached: report[:cached] == 1, retry_after_ms: told[report[:retry_after_ms]],
                     quotas: quotas.freeze).freeze
  end
end
