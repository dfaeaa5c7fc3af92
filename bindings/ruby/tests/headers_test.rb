# frozen_string_literal: true

require_relative "helper"
require "net/http"

# How header fields reach the library.
class HeadersTest < Minitest::Test
  include Helper

  PAIRS = [%w[Retry-After 45], ["x-empty", ""], %w[X-Twice 1], %w[X-Twice 2]].freeze

  # What the library sees.
  def read_back(headers)
    @scratch = Grate::Scratch.new
    memory, count = Grate::Headers.lay_out(headers, @scratch)
    memory.get_array_of_uint64(0, 4 * count).each_slice(2).map do |address, length|
      FFI::Pointer.new(address).read_bytes(length)
    end.each_slice(2).to_a
  end

  def test_forms
    response = Net::HTTPResponse.new("1.1", "429", "")
    response["Retry-After"] = "45"
    response["x-empty"] = ""
    response.add_field("X-Twice", "1")
    response.add_field("X-Twice", "2")
    lower = [%w[retry-after 45], ["x-empty", ""]]
    assert_equal PAIRS, read_back(PAIRS)
    assert_equal PAIRS, read_back(PAIRS.each)
    assert_equal PAIRS, read_back({ "Retry-After" => 45, "x-empty": nil, "X-Twice" => %w[1 2] })
    assert_equal [*lower, ["x-twice", "1, 2"]], read_back(response)
    assert_equal [*lower, %w[x-twice 1], %w[x-twice 2]], read_back(response.to_hash)
    assert_empty read_back({})
  end

  def test_odd_bytes
    odd = [["n", "caf\u00e9"], ["\xff\0".b, "\xe9".dup.force_encoding("ISO-8859-1")]]
    assert_equal odd.map { |pair| pair.map(&:b) }, read_back(odd)
    long = [["x", "y" * 100_000]]
    assert_equal long, read_back(long)
  end

  def test_they_take_effect
    engine.observe("b", http_status: 429, headers: { "Retry-After" => "45" })
    assert_equal 45_000_000_000, engine.provider_state("b").cooldown_remaining_ns
    engine.acquire("api", tokens: 100).complete(
      http_status: 200,
      headers: { "x-ratelimit-limit-tokens" => "1000", "x-ratelimit-remaining-tokens" => "250",
                 "x-ratelimit-reset-tokens" => "30s" }
    )
    assert_equal 250, engine.remaining_quota("a", :tokens)
    engine.acquire("api").complete(http_status: 200, headers: {})
  end

  def test_parse_headers
    report = Grate.parse_headers(
      { "Retry-After" => "Thu, 01 Jan 2026 00:00:30 GMT", "x-ratelimit-limit-requests" => "60",
        "x-ratelimit-remaining-requests" => "7", "x-ratelimit-reset-requests" => "1m30s", "Age" => "3" },
      received_at_unix_ms: NEW_YEAR
    )
    assert_equal [true, 30_000], [report.cached, report.retry_after_ms]
    assert_equal [Grate::HeaderQuota.new(dimension: :requests, limit: 60, remaining: 7, reset_in_ms: 90_000)],
                 report.quotas
    nothing = Grate.parse_headers({})
    assert_equal [false, nil, []], nothing.to_a
    assert_raises(Grate::InvalidArgumentError) { Grate.parse_headers({}, received_at_unix_ms: -1) }
  end
end
