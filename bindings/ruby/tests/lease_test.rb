# frozen_string_literal: true

require_relative "helper"
require "net/http"
require "openssl"
require "timeout"

# How blocks settle, and what exceptions mean.
class LeaseTest < Minitest::Test
  include Helper

  def counts
    metrics = engine.metrics
    assert_equal 0, metrics.leases_in_flight
    [metrics.completions, metrics.cancellations]
  end

  def failed
    engine.provider_state("a").consecutive_failures
  end

  def test_the_end_of_the_block_is_a_success
    assert_equal(:value, engine.acquire("api", tokens: 300) { |lease| :value if lease.provider == "a" })
    assert_equal [1, 0], counts
    assert_equal 700, engine.remaining_quota("a", :tokens)
  end

  def test_what_was_settled_in_the_block_stays
    engine.acquire("api") { |lease| lease.complete(http_status: 503) }
    assert_equal [[1, 0], 1], [counts, failed]
    engine.acquire("api", &:cancel)
    engine.acquire("api") { |lease| engine.cancel(lease) }
    engine.acquire("api") { |lease| engine.complete(lease.id, tokens: 1) }
    engine.acquire("api") { |lease| engine.complete(lease, tokens: 1) }
    assert_equal [3, 2], counts
  end

  def test_a_lease_that_expires_in_the_block
    engine.acquire("api") { clock.advance_secs(3600) }
    assert_equal [0, 0], counts
    assert_equal 1, engine.metrics.expired_leases
  end

  def test_an_exception_of_the_caller_counts_and_leaves_health_alone
    assert_raises(KeyError) { engine.acquire("api", tokens: 300) { raise KeyError } }
    assert_equal [[1, 0], 0], [counts, failed]
    assert_equal [1, 700], [engine.remaining_quota("a", :requests), engine.remaining_quota("a", :tokens)]
    assert_equal 1.0, engine.provider_health("a")
  end

  def test_an_exception_of_the_connection_counts_as_a_failure
    [Net::ReadTimeout, Errno::ECONNRESET, EOFError].each_with_index do |kind, i|
      assert_raises(kind) { engine.acquire("api", exclude: "b", headroom: 0) { raise kind } }
      assert_equal [[i + 1, 0], i + 1], [counts, failed]
      clock.advance_secs(61)
    end
  end

  def test_other_ways_out_of_the_block
    engine.acquire("api") { break }
    catch(:done) { engine.acquire("api") { throw :done } }
    assert_equal [[2, 0], 0], [counts, failed]
    assert_raises(Timeout::Error) { Timeout.timeout(0.01) { engine.acquire("api") { sleep } } }
    thread = Thread.new { engine.acquire("api") { Thread.stop } }
    Thread.pass until thread.stop?
    thread.kill.join
    assert_equal [4, 0], counts
  end

  def test_a_thread_that_is_killed_at_the_worst_time
    %i[made completed].each do |time|
      @engine = killing(:a, time)
      Thread.new { engine.acquire("api", explain: true) { :sent } }.join
      assert_equal [1, 0], counts
    end
  end

  def test_a_refused_complete_is_an_exception_of_the_caller
    assert_raises(Grate::InvalidArgumentError) { engine.acquire("api") { |lease| lease.complete(outcome: :sucess) } }
    assert_equal [1, 0], counts
  end

  def test_closing_in_the_block
    engine.acquire("api") { engine.close }
    assert engine.closed?
  end

  def test_settled
    lease = engine.acquire("api")
    refute lease.settled?
    lease.complete
    assert lease.settled?
    lease = engine.acquire("api")
    engine.cancel(lease)
    assert lease.settled?
    assert_same engine, lease.engine
  end

  def test_outcomes_of_exceptions
    wrapping = Class.new(StandardError) do
      def wrapped_exception
        Errno::ECONNREFUSED.new
      end
    end
    caused = begin
      begin
        raise Net::OpenTimeout
      rescue Net::OpenTimeout
        raise "in my words"
      end
    rescue StandardError => e
      e
    end
    {
      Timeout::Error.new => [:timeout, false], Errno::ETIMEDOUT.new => [:timeout, false], caused => [:timeout, true],
      Errno::ECONNREFUSED.new => [:server_error, true], SocketError.new => [:server_error, true],
      Errno::EHOSTUNREACH.new("connect(2) for 10.0.0.1:80") => [:server_error, true],
      Errno::ETIMEDOUT.new("connect(2) for 10.0.0.1:80") => [:timeout, true],
      Errno::EHOSTUNREACH.new => [:server_error, false], Errno::ENETUNREACH.new => [:server_error, false],
      wrapping.new => [:server_error, true], EOFError.new => [:server_error, false],
      OpenSSL::SSL::SSLError.new("SSL_connect: certificate verify failed") => [:server_error, true],
      OpenSSL::SSL::SSLError.new("SSL_read: unexpected eof") => [:server_error, false],
      Errno::ECONNRESET.new("SSL_connect") => [:server_error, true], IOError.new("SSL_connect") => [:cancelled, false],
      Errno::ENOENT.new => [:cancelled, false], ArgumentError.new => [:cancelled, false], Interrupt.new => [:cancelled, false]
    }.each do |error, (outcome, unsent)|
      assert_equal [outcome, unsent], [Grate::Failure.outcome(error), Grate::Failure.unsent?(error)], error.inspect
    end
  end
end
