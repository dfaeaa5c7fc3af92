# frozen_string_literal: true

require_relative "helper"
require "net/http"
require "socket"
require "tempfile"
require "tmpdir"
require "timeout"
require "grate/faraday"

# The middleware against real upstreams: nginx with rate limits (scripts/with-upstreams.sh), and sockets for what nginx does
# not do.
class FaradayTest < Minitest::Test
  include Helper

  NAMES = %w[gold silver bronze].freeze
  UPSTREAMS = NAMES.zip(ENV.fetch("GRATE_UPSTREAMS").split).to_h.freeze
  RATES = { "gold" => [20, 10], "silver" => [12, 6], "bronze" => [6, 3] }.freeze # per second, and burst, of nginx
  WORKERS = 24

  def upstream_config(metered: true)
    providers = NAMES.each_with_index.map do |name, i|
      rate, burst = RATES.fetch(name)
      bucket = { dimension: "requests", limit: rate, window: "second", strategy: "token_bucket", burst: burst + 1 }
      { name: name, priority: 10 - i, quotas: metered ? [bucket] : [] }
    end
    { providers: providers, capabilities: [{ name: "api", providers: NAMES.map { |name| { provider: name } } }] }
  end

  def connect(engine, providers: UPSTREAMS, **options)
    Faraday.new do |f|
      f.headers["Content-Type"] = "text/plain" # or Net::HTTP warns
      yield f if block_given?
      f.use Grate::FaradayMiddleware, engine: engine, capability: "api", providers: providers, **options
      f.adapter :net_http
    end
  end

  # Requests at a steady rate from many threads.
  # @return [Array<Integer, Symbol>] the statuses, and :none where no provider was available
  def load(connection, per_second:, seconds:)
    queue = Queue.new
    statuses = Queue.new
    workers = Array.new(WORKERS) do
      Thread.new do
        while queue.pop
          statuses << begin
            connection.get("/v1/answer").status
          rescue Grate::NoProviderAvailableError
            :none
          end
        end
      end
    end
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    (per_second * seconds).times do |i|
      pause = start + (i / per_second.to_f) - Process.clock_gettime(Process::CLOCK_MONOTONIC)
      sleep(pause) if pause.positive?
      queue << i
    end
    queue.close
    workers.each(&:join)
    Array.new(statuses.size) { statuses.pop }
  end

  def test_429s_are_not_received
    sleep(1) # the upstreams' buckets fill up
    engine = Grate::Engine.new(upstream_config)
    statuses = load(connect(engine, max_wait: 2), per_second: 30, seconds: 6)
    metrics = engine.metrics
    assert_equal({ 200 => 180 }, statuses.tally)
    assert_operator metrics.rate_limited_responses, :<, 0.01 * metrics.completions
    assert_equal 0, metrics.leases_in_flight
    served = NAMES.map { |name| engine.provider_state(name).completions }
    assert_operator served.count(&:positive?), :>, 1, served.inspect
  end

  def test_without_quotas_429s_are_received_and_other_providers_tried
    sleep(1)
    engine = Grate::Engine.new(upstream_config(metered: false))
    statuses = load(connect(engine), per_second: 28, seconds: 4)
    metrics = engine.metrics
    assert_operator metrics.rate_limited_responses, :>, 0
    # Whoever got a 429 from the first was served by another, at the cost of a second attempt.
    answered = statuses.grep(Integer)
    assert_operator metrics.completions, :>, answered.size
    assert_operator metrics.rate_limited_responses, :>, answered.count(429), statuses.tally.inspect
    assert_equal metrics.completions - metrics.rate_limited_responses, answered.count(200)
    assert_equal 0, metrics.leases_in_flight
    assert_operator metrics.cooldowns_triggered, :>, 0 # by the Retry-After of nginx: it was told of the headers
  end

  # ---------------------------------------------------------------- one upstream of ours

  # A server that answers each connection by the block, which gets the socket and the request line.
  def serve
    server = TCPServer.new("127.0.0.1", 0)
    thread = Thread.new do
      loop do
        Thread.new(server.accept) do |socket|
          head = []
          while (line = socket.gets("\r\n")) && line != "\r\n"
            head << line.chomp
          end
          length = head.grep(/\Acontent-length:/i).first.to_s[/\d+/].to_i
          yield socket, head, socket.read(length)
        ensure
          socket.close
        end
      end
    end
    "http://127.0.0.1:#{server.addr[1]}/base/"
  ensure
    (@cleanup ||= []) << [thread, server]
  end

  def teardown
    (@cleanup || []).each do |thread, server|
      thread.kill
      server.close
    end
  end

  def answer(socket, status, body = "", **headers)
    fields = { "Content-Length" => body.bytesize, "Connection" => "close", **headers }
    socket.write("HTTP/1.1 #{status} X\r\n", fields.map { |pair| "#{pair.join(': ')}\r\n" }.join, "\r\n", body)
  end

  def closed_port
    server = TCPServer.new("127.0.0.1", 0)
    "http://127.0.0.1:#{server.addr[1]}"
  ensure
    server.close
  end

  # An engine with `first`, which is preferred, and `second`.
  def two
    @two ||= Grate::Engine.new(config(first: [quota(100), quota(10_000, "tokens")],
                                      second: [quota(100), quota(10_000, "tokens")]))
  end

  def used(provider, dimension = :requests)
    two.provider_state(provider).quotas.find { |quota| quota.dimension == dimension }.used
  end

  def assert_settled(completions)
    metrics = two.metrics
    assert_equal [completions, 0], [metrics.completions, metrics.leases_in_flight]
  end

  def test_what_is_sent_and_told
    seen = nil
    url = serve do |socket, head, body|
      seen = [head, body]
      answer(socket, 200, '{"tokens": 77}', "X-RateLimit-Remaining-Requests" => 5, "X-RateLimit-Limit-Requests" => 100)
    end
    connection = connect(two, providers: { first: { url: url, headers: { "X-Key" => "k1" } }, second: closed_port },
                              usage: ->(response) { { tokens: JSON.parse(response.body)["tokens"] } },
                              prepare: ->(env, provider) { env.body = "#{env.body} for #{provider}" })
    response = connection.post("/chat?x=1", "hello") do |request|
      request.options.context = { grate: { tokens: 500, headroom: 0.1 } }
    end
    assert_equal [200, "/base/chat"], [response.status, response.env.url.path]
    assert_equal ["POST /base/chat?x=1 HTTP/1.1", "hello for first"], [seen[0][0], seen[1]]
    assert_includes seen[0].map(&:downcase), "x-key: k1"
    assert_equal [77, 5], [used("first", :tokens), two.remaining_quota("first", :requests)]
    assert_settled 1
  end

  def test_queries_of_base_urls
    seen = []
    url = serve { |socket, head| seen << head[0].split[1] && answer(socket, 200) }
    connection = connect(two, providers: { first: "#{url}?version=2" })
    ["/chat?x=1", "/chat"].each { |path| connection.get(path) }
    assert_equal ["/base/chat?version=2&x=1", "/base/chat?version=2"], seen
  end

  def test_no_connection
    url = serve { |socket, _head, body| answer(socket, 200, body) }
    connection = connect(two, providers: { "first" => closed_port, "second" => url })
    response = connection.post("/", StringIO.new("again"), "Content-Length" => "5") do |request|
      request.options.context = { grate: { tokens: 500 } }
    end
    assert_equal [200, "again"], [response.status, response.body]
    assert_equal [0, 0, 1], [used("first"), used("first", :tokens), used("second")]
    assert_equal 1, two.provider_state("first").consecutive_failures
    assert_settled 2

    nobody = connect(two, providers: { "first" => closed_port, "second" => closed_port })
    assert_raises(Faraday::ConnectionFailed) { nobody.get("/") }
    assert_settled 4
  end

  # Of a body that is read only what is left of it is sent, as without the middleware.
  def test_bodies_that_are_read
    seen = []
    status = 429
    first = serve { |socket, head, body| seen << [head[0][/\w+/], body] && answer(socket, status) }
    second = serve { |socket, _head, body| seen << body && answer(socket, 200) }
    file = -> { StringIO.new("0123456789").tap { |io| io.seek(8) } }
    pipe = -> { IO.pipe.then { |reader, writer| writer.write("89") && writer.close || reader } }
    able_to = lambda do |*names|
      io = StringIO.new("89")
      Object.new.tap { |body| names.each { |name| body.define_singleton_method(name) { |*of| io.public_send(name, *of) } } }
    end
    only_read = -> { able_to[:read] }
    rewound = -> { able_to[:read, :rewind] }
    { file => 2, pipe => 1, only_read => 1, rewound => 2 }.each do |body, attempts|
      @two = nil
      connection = connect(two, providers: { first: first, second: second })
      answer = connection.put("/", body.call, "Content-Length" => "2")
      assert_equal [attempts == 1 ? 429 : 200, [%w[PUT 89], "89"].first(attempts)], [answer.status, seen]
      assert_settled attempts
      seen.clear
    end
    status = 200
    assert_equal 200, connect(two, providers: { first: first, second: first }).put("/", pipe.call, "Content-Length" => "2").status
    assert_equal [%w[PUT 89]], seen
  end

  # Such as one that is passed on from another server.
  def test_a_body_of_a_request_that_cannot_be_read
    url = serve { |socket, _head, body| answer(socket, 200, body.to_s) }
    both = { first: url, second: url }
    Tempfile.create do |file|
      [IOError, Errno::ECONNREFUSED, Net::ReadTimeout, KeyError, Errno::EISDIR].each do |kind|
        @two = nil
        body = StringIO.new("again").tap { |io| io.define_singleton_method(:read) { |*| raise kind } }
        body = File.open(Dir.tmpdir) if kind == Errno::EISDIR
        error = assert_raises(StandardError) { connect(two, providers: both).put("/", body, "Content-Length" => "5") }
        assert_kind_of kind, error.respond_to?(:wrapped_exception) && error.wrapped_exception || error
        assert_equal [1, 0, 0], [used("first"), two.provider_state("first").consecutive_failures, used("second")], kind
        assert_settled 1
      end
      file.write("once again") && file.seek(5)
      assert_equal "again", connect(two, providers: both).put("/", file, "Content-Length" => "5").body
    end
  end

  # Whoever makes a header of what others wrote must not lose the providers by it.
  def test_a_malformed_request
    url = serve { |socket| answer(socket, 200) }
    [{ "X-User" => "line\nbreak" }, { "X-User" => "line\r\nbreak" }, { "X-User\n" => "\xff" }].each do |headers|
      assert_raises(ArgumentError) { connect(two, providers: { first: url, second: url }).get("/", nil, headers) }
    end
    assert_settled 0
    assert_equal [3, 0], [two.metrics.cancellations, two.provider_state("first").consecutive_failures]
  end

  # What it has taken cannot be taken back.
  def test_nothing_is_added_to_what_on_data_has_taken
    broken = "2\r\nab\r\n5"
    {
      proc { |socket| answer(socket, 503, "refused") } => [503, "refused"],
      proc { |socket| answer(socket, 503) } => [200, "good"],
      proc { |socket| socket.write("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n#{broken}") } => [nil, "ab"]
    }.each do |behaviour, expected|
      @two = nil
      both = { first: serve(&behaviour), second: serve { |socket| answer(socket, 200, "good") } }
      data = +""
      status = begin
        connect(two, providers: both).get("/") { |request| request.options.on_data = ->(chunk, _) { data << chunk } }.status
      rescue Faraday::ConnectionFailed
        nil
      end
      assert_equal expected, [status, data]
      assert_equal 0, two.metrics.leases_in_flight
    end
  end

  # As those of Faraday 2.5 and later, which tell `on_data` of the answer: its status and its chunks.
  class TellingAdapter < Faraday::Adapter
    def initialize(app, answers)
      super(app)
      @answers = answers
    end

    def call(env)
      super
      status, chunks, error = @answers.fetch(env.url.host)
      env.status = status
      size = 0
      chunks.each { |chunk| env.request.on_data.call(chunk, size += chunk.bytesize, env) }
      raise error if error

      save_response(env, status, "")
      @app.call(env)
    end
  end

  # What another provider may be asked after is held back, and forgotten if one is.
  def test_refusals_are_kept_from_on_data_that_is_told_of_the_answer
    refused = [429, %w[re fused]]
    good = [200, %w[go od]]
    broken = [500, %w[bro], Faraday::ConnectionFailed.new("broken")]
    {
      [:post, refused, good] => [200, %w[go od]],
      [:post, [503, [""]], good] => [200, %w[go od]],
      [:post, refused, [503, %w[busy]]] => [503, %w[busy]],
      [:post, [500, %w[x]], good] => [500, %w[x]],
      [:get, [500, %w[x]], good] => [200, %w[go od]],
      [:get, broken, good] => [200, %w[go od]],
      [:get, refused, broken] => [nil, %w[bro]],
      [:post, [200, %w[bro], Faraday::ConnectionFailed.new("broken")], good] => [nil, %w[bro]]
    }.each do |(method, first, second), expected|
      @two = nil
      both = { first: "http://first", second: "http://second" }
      connection = Faraday.new do |f|
        f.use Grate::FaradayMiddleware, engine: two, capability: "api", providers: both
        f.adapter TellingAdapter, { "first" => first, "second" => second }
      end
      data = []
      on_data = proc { |chunk, _, env| data << [chunk, env.status] }
      status = begin
        connection.run_request(method, "/", nil, nil) { |request| request.options.on_data = on_data }.status
      rescue Faraday::ConnectionFailed
        nil
      end
      assert_equal expected, [status, data.map(&:first)]
      assert_equal 1, data.map(&:last).uniq.size
      assert_equal 0, two.metrics.leases_in_flight
    end
  end

  # Such as the connection over which the caller passes the data on.
  def test_what_on_data_raises_is_the_callers
    url = serve { |socket| answer(socket, 200, "good") }
    [Errno::EPIPE, Errno::ECONNREFUSED, Timeout::Error].each do |kind|
      @two = nil
      error = assert_raises(Faraday::Error) do
        connect(two, providers: { first: url, second: url }).get("/") { |request| request.options.on_data = proc { raise kind } }
      end
      assert_kind_of kind, error.wrapped_exception
      assert_equal [1, 0], [used("first"), two.provider_state("first").consecutive_failures]
      assert_settled 1
    end
    refused = serve { |socket| answer(socket, 429, "refused") }
    data = proc { |chunk, _| chunk == "refused" && raise(Faraday::ClientError.new("x", { status: 429, headers: {} })) }
    @two = nil
    response = connect(two, providers: { first: refused, second: url }).get("/") { |request| request.options.on_data = data }
    assert_equal 200, response.status
    assert_equal 1, two.metrics.rate_limited_responses
  end

  def test_more_providers_than_a_request_may_exclude
    names = Array.new(66) { |i| "p#{i}" }
    engine = Grate::Engine.new({ providers: names.map { |name| { name: name } },
                                 capabilities: [{ name: "api", providers: names.map { |name| { provider: name } } }] })
    url = serve { |socket| answer(socket, 429) }
    assert_equal 429, connect(engine, providers: names.to_h { |name| [name, url] }).get("/").status
    assert_equal [66, 0], [engine.metrics.completions, engine.metrics.leases_in_flight]
  end

  def test_no_tls_on_the_connection
    server = TCPServer.new("127.0.0.1", 0)
    thread = Thread.new { loop { server.accept.tap { |socket| socket.write("not TLS\r\n") }.close } }
    (@cleanup ||= []) << [thread, server]
    both = { first: "https://127.0.0.1:#{server.addr[1]}", second: serve { |socket| answer(socket, 200) } }
    assert_equal 200, connect(two, providers: both).post("/", "hello").status
    assert_equal [0, 1, 1], [used("first"), two.provider_state("first").consecutive_failures, used("second")]
    assert_settled 2
  end

  def test_an_answer_that_does_not_come
    slow = serve { sleep }
    good = serve { |socket| answer(socket, 200) }
    impatient = ->(f) { f.options.timeout = 0.2 }
    connection = connect(two, providers: { "first" => slow, "second" => good }, &impatient)
    assert_raises(Faraday::TimeoutError) { connection.post("/", "not repeated") }
    assert_equal [1, 1, 0], [used("first"), two.provider_state("first").consecutive_failures, used("second")]
    assert_settled 1
    @two = nil
    assert_equal 200, connect(two, providers: { "first" => slow, "second" => good }, &impatient).get("/").status
    assert_settled 2
  end

  def test_an_answer_that_breaks_off
    broken = serve { |socket| socket.write("HTTP/1.1 2") }
    both = { "first" => broken, "second" => serve { |socket| answer(socket, 200) } }
    assert_raises(Faraday::ConnectionFailed) { connect(two, providers: both).post("/", "not repeated") }
    assert_equal [1, 1], [used("first"), two.provider_state("first").consecutive_failures]
    assert_settled 1
    @two = nil
    assert_equal 200, connect(two, providers: both).get("/").status
    assert_settled 2
  end

  def test_a_caller_who_gives_up
    slow = serve { sleep }
    connection = connect(two, providers: { "first" => slow, "second" => slow })
    assert_raises(Timeout::Error) { Timeout.timeout(0.1) { connection.get("/") } }
    assert_raises(Interrupt) { Timeout.timeout(0.1, Interrupt) { connection.get("/") } }
    thread = Thread.new { connection.get("/") }
    Thread.pass until two.metrics.leases_in_flight == 1 && thread.stop?
    thread.kill.join
    assert_settled 3
    assert_equal [3, 0], [used("first"), two.provider_state("first").consecutive_failures]
  end

  def test_a_thread_that_is_killed_at_the_worst_time
    url = serve { |socket| answer(socket, 200) }
    %i[made completed].each do |time|
      @two = killing(:first, time)
      connection = connect(two, providers: { first: url })
      Thread.new { connection.get("/") { |request| request.options.context = { grate: { explain: true } } } }.join
      assert_equal [1, 0], [two.metrics.acquires, two.metrics.leases_in_flight], time
    end
  end

  def test_a_caller_who_breaks_off_a_stream
    long = serve { |socket| answer(socket, 200, "x" * 100_000) }
    connection = connect(two, providers: { "first" => long, "second" => long })
    assert_raises(KeyError) do
      connection.get("/") { |request| request.options.on_data = proc { raise KeyError } }
    end
    assert_settled 1
    assert_equal [1, 0], [used("first"), two.provider_state("first").consecutive_failures]
  end

  def test_statuses
    status = 200
    first = serve { |socket| answer(socket, status, "first") }
    second = serve { |socket| answer(socket, 200, "second") }
    {
      [:get, 302] => "first", [:get, 404] => "first", [:get, 429] => "second", [:post, 429] => "second",
      [:post, 403] => "second", [:get, 500] => "second", [:post, 500] => "first", [:post, 503] => "second"
    }.each do |(method, code), expected|
      status = code
      @two = nil
      connection = connect(two, providers: { "first" => first, "second" => second })
      assert_equal expected, connection.public_send(method, "/").body, "#{method} #{code}"
      assert_settled(expected == "first" ? 1 : 2)
    end
    @two = nil
    status = 429
    alone = connect(two, providers: { "first" => first, "second" => first })
    assert_equal 429, alone.get("/").status
    assert_settled 2
    assert_equal [2, 2], [two.metrics.rate_limited_responses, two.metrics.acquires]
    @two = nil
    once = connect(two, providers: { "first" => first, "second" => second }, max_attempts: 1)
    assert_equal 429, once.get("/").status
    assert_settled 1
  end

  def test_exceptions_for_statuses_from_behind
    first = serve { |socket| answer(socket, 429, "", "Retry-After" => 7) }
    second = serve { |socket| answer(socket, 404) }
    connection = Faraday.new do |f|
      f.use Grate::FaradayMiddleware, engine: two, capability: "api", providers: { first: first, second: second }
      f.response :raise_error
      f.adapter :net_http
    end
    assert_raises(Faraday::ResourceNotFound) { connection.get("/") }
    assert_settled 2
    assert_equal 1, two.metrics.rate_limited_responses
    assert_in_delta 7.0, two.provider_state("first").cooldown_remaining_ns / 1e9, 0.5
  end

  def test_an_answer_that_cannot_be_parsed
    url = serve { |socket| answer(socket, 200, "{", "X-RateLimit-Remaining-Requests" => 5) }
    parser = Class.new(Faraday::Middleware) do
      def call(env)
        @app.call(env).on_complete { |done| raise Faraday::ParsingError.new(KeyError.new("x"), done.response) }
      end
    end
    connection = Faraday.new do |f|
      f.use Grate::FaradayMiddleware, engine: two, capability: "api", providers: { first: url, second: url }
      f.use parser
      f.adapter :net_http
    end
    assert_raises(Faraday::ParsingError) { connection.get("/") }
    assert_settled 1
    assert_equal [5, 0], [two.remaining_quota("first", :requests), two.provider_state("first").consecutive_failures]
  end

  def test_a_usage_that_cannot_be_told
    url = serve { |socket| answer(socket, 200) }
    [-> { raise KeyError }, -> { { tokens: -1 } }, -> { { tokns: 1 } }, -> { 7 }].each.with_index(1) do |wrong, i|
      connection = connect(two, providers: { first: url }, usage: ->(_) { wrong.call })
      assert_output("", /usage of a response cannot be told, it counts as estimated/) do
        assert_equal 200, connection.get("/") { |request| request.options.context = { grate: { tokens: 10 } } }.status
      end
      assert_equal 10 * i, used("first", :tokens)
      assert_settled i
    end
  end

  def test_the_usage_of_successes_only
    asked = []
    first = serve { |socket| answer(socket, 429, "not JSON") }
    second = serve { |socket| answer(socket, 200, "[7]") }
    connection = connect(two, providers: { first: first, second: second },
                              usage: ->(response) { (asked << JSON.parse(response.body)) && nil })
    assert_silent { assert_equal 200, connection.post("/", "hello").status }
    assert_equal [[7]], asked
    assert_settled 2
  end

  # The lease is settled even so, and the caller gets the answer.
  def test_a_status_that_is_none
    url = serve { |socket| answer(socket, "099") }
    assert_equal 99, connect(two, providers: { first: url }).get("/").status
    assert_settled 1
  end

  def test_hooks_that_fail
    url = serve { |socket| answer(socket, 200) }
    both = { first: url, second: url }
    assert_raises(KeyError) { connect(two, providers: both, prepare: ->(*) { raise KeyError }).get("/") }
    error = assert_raises(Grate::InvalidArgumentError) { connect(two, providers: { second: url }).get("/") }
    assert_match(/no base URL for provider "first"/, error.message)
    assert_settled 0
    assert_equal [2, 0], [two.metrics.cancellations, used("first")]
    assert_raises(KeyError) { connect(two, providers: both, prepare: ->(*) { two.close || raise(KeyError) }).get("/") }
  end

  def test_waiting
    url = serve { |socket| answer(socket, 200) }
    engine = Grate::Engine.new(config(first: [quota(1, window: "second", strategy: "token_bucket")]))
    connect(engine, providers: { first: url }).get("/")
    assert_raises(Grate::NoProviderAvailableError) { connect(engine, providers: { first: url }).get("/") }
    assert_equal 200, connect(engine, providers: { first: url }, max_wait: 3).get("/").status
    assert_raises(Grate::NoProviderAvailableError) do
      connect(engine, providers: { first: url }, max_wait: 3).get("/") do |request|
        request.options.context = { grate: { exclude: "first" } }
      end
    end
    assert_equal 0, engine.metrics.leases_in_flight
  end

  # How long a slot stays taken is only estimated: without a known latency, as until the lease expires.
  def test_waiting_for_a_slot
    url = serve { |socket| answer(socket, 200) }
    engine = Grate::Engine.new(config(first: [quota(1, "concurrency")]))
    lease = engine.acquire("api")
    error = assert_raises(Grate::NoProviderAvailableError) { connect(engine, providers: { first: url }, max_wait: 0.1).get("/") }
    assert_operator error.retry_after, :>, 60
    thread = Thread.new { sleep(0.1) && lease.complete }
    assert_equal 200, connect(engine, providers: { first: url }, max_wait: 30).get("/").status
    assert_operator engine.metrics.none_available, :<, 20
    thread.join
  end

  # They give quota back, or free another provider, at any time.
  def test_waiting_for_a_quota_sees_leases_end
    url = serve { |socket| answer(socket, 200) }
    hourly = quota(1, window: "hour")
    [{ first: [hourly] }, { first: [hourly], second: [quota(1, "concurrency")] }].each do |quotas|
      engine = Grate::Engine.new(config(**quotas))
      leases = quotas.map { engine.acquire("api") }
      thread = Thread.new { sleep(0.02) && leases.last.cancel }
      connection = connect(engine, providers: { first: url, second: url }, max_wait: 7200)
      assert_equal 200, Timeout.timeout(5) { connection.get("/").status }
      assert_equal 1, engine.provider_state(leases.last.provider).completions
      thread.join
    end
  end

  def test_what_it_does_not_take
    app = ->(_) { flunk }
    middleware = Grate::FaradayMiddleware.new(app, engine: two, providers: UPSTREAMS)
    env = Faraday::Env.from(parallel_manager: Object.new)
    assert_raises(Grate::InvalidArgumentError) { middleware.call(env) }
    assert_raises(Grate::InvalidArgumentError) { connect(two, max_attempts: 0).get("/") }
  end
end
