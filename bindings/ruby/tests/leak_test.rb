# frozen_string_literal: true

require_relative "helper"

# A million leases leave nothing behind.
class LeakTest < Minitest::Test
  include Helper

  # Beside the lease, in C: the keywords of two calls. In Ruby: its copy of the decision; and its number may be too large
  # to be held without an object.
  def test_objects_per_call
    engine = Grate::Engine.new(config(a: []))
    work = -> { engine.acquire("api", tokens: 1).complete(http_status: 200, tokens: 1) }
    100.times { work.call }
    before = GC.stat(:total_allocated_objects)
    1000.times { work.call }
    assert_operator GC.stat(:total_allocated_objects) - before, :<=, 3050
  end

  def test_memory
    out, status = ruby(<<~RUBY)
      require "grate"
      resident = lambda do
        GC.start
        File.read("/proc/self/status")[/^VmRSS:\\s+(\\d+) kB/, 1].to_i
      end
      engine = Grate::Engine.new({ providers: [{ name: "a" }, { name: "b" }],
                                   capabilities: [{ name: "api", providers: [{ provider: "a" }, { provider: "b" }] }] })
      headers = { "x-ratelimit-limit-requests" => "1000000000", "x-ratelimit-remaining-requests" => "900000000",
                  "content-type" => "application/json", "server" => "nginx" }
      before = nil
      1_000_000.times do |i|
        before = resident.call if i == 100_000
        if i % 10 == 0
          engine.acquire("api", tokens: 100, exclude: "b") do |lease|
            lease.complete(http_status: 200, tokens: 90, headers: headers)
          end
        else
          engine.acquire("api", tokens: 100).complete(http_status: 200, tokens: 90)
        end
      end
      print resident.call - before
    RUBY
    assert status.success?, out
    assert_operator Integer(out), :<, 4 * 1024, "resident memory grew by #{out} KiB"
  end
end
