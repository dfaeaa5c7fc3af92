# frozen_string_literal: true

require "delegate"
require "faraday"
require "uri"
require_relative "../grate"

module Grate
  # Faraday middleware that sends each request to the provider which the engine chooses, tells the engine what became of it,
  # and tries another provider where that is safe. For Faraday 1 and 2, with any adapter that is not parallel.
  #
  #     connection = Faraday.new do |f|
  #       f.use Grate::FaradayMiddleware, engine: engine, capability: "chat", providers: {
  #         "primary" => "https://api.one.example/v1",
  #         "backup" => { url: "https://api.two.example", headers: { "Authorization" => "Bearer ..." } }
  #       }
  #     end
  #     connection.post("/chat") { |request| request.options.context = { grate: { tokens: 1200 } } }
  #
  # It belongs behind (nearer to the adapter than) `:retry`, which would repeat what was given up here, and before a
  # middleware that follows redirects, whose requests it cannot count; without one, a redirect is an answer like others.
  #
  # A lease is settled on every path, also if the thread is killed:
  #
  # - An answer: with its status and headers, and, if it is a success, what the `usage` hook reads from its body.
  # - No connection could be made, or no TLS on it: as a server error, with nothing counted, because nothing was sent.
  # - A timeout, or a connection that breaks: as such, with the estimated usage, because the provider may have counted it.
  # - The caller gives up (an exception of its own, also in `on_data`, `throw`, the end of the thread), or the body of the request
  #   cannot be read: as cancelled, counted too.
  # - A header with a line break is refused with an ArgumentError, and given back.
  #
  # Another provider is tried after an answer that says that the request was not carried out (401, 402, 403, 429, 503, 529)
  # or if no connection could be made, or no TLS on it; after 408, other 5xx, timeouts and broken connections only if the
  # method is idempotent. If there is no other, the caller gets the last answer or exception as without this middleware. So it
  # does if the body cannot be sent again (a pipe, or what else cannot be rewound), or if `on_data` has taken part of an answer.
  # Since Faraday 2.5, which tells it of the status, it gets nothing of an answer after which another provider is tried.
  #
  # The capability and the arguments of {Engine#acquire} can be given per request in `context[:grate]`: `capability`,
  # `tokens`, `input_tokens`, `output_tokens`, `bytes`, `cost_micro_usd`, `exclude`, `headroom`.
  class FaradayMiddleware < ::Faraday::Middleware
    # Statuses that say that the request was not carried out.
    REFUSALS = [401, 402, 403, 429, 503, 529].freeze

    # Methods of which a request may be repeated that was perhaps carried out.
    IDEMPOTENT = %i[get head options trace put delete].freeze

    NOTHING_SENT = { outcome: :server_error, requests: 0, tokens: 0, input_tokens: 0, output_tokens: 0, bytes: 0,
                     cost_micro_usd: 0 }.freeze
    SHORTEST_NAP = 0.001 # seconds, so that a wait that is over while others are served does not become a busy one
    # Seconds. However long the wait, it looks again then: leases end when they end, on the provider that frees first or on
    # another, and give back what they did not use.
    LONGEST_NAP = 0.05
    ESTIMATED = %i[concurrency probe].freeze # what holds a provider for a time that is only estimated
    MOST_EXCLUDED = 64 # names that a request may exclude
    # How far a request has come: what is asked, until when, the providers that were tried, the latest first, what gives the
    # last result to the caller, whether `on_data` has taken data, or it or the body that is sent has broken off, and what is
    # held back from it.
    Course = Struct.new(:asked, :deadline, :tried, :last, :taken, :broken_off, :held)
    private_constant :NOTHING_SENT, :SHORTEST_NAP, :LONGEST_NAP, :ESTIMATED, :MOST_EXCLUDED, :Course

    # A body that is read, which tells if that fails: it looks like a failure of the connection.
    class Upload < SimpleDelegator
      # Not what is but a path, which is opened by who sends it.
      def self.of?(body)
        body.respond_to?(:read) && (body.is_a?(IO) || !body.respond_to?(:to_path))
      end

      def initialize(body, &failed)
        super(body)
        @failed = failed
      end

      def read(*arguments)
        __getobj__.read(*arguments)
      rescue StandardError
        @failed.call
        raise
      end

      # IO.copy_stream would read past this.
      def respond_to_missing?(name, include_private)
        !%i[to_io to_path readpartial].include?(name) && super
      end
    end
    private_constant :Upload

    # @param app [#call] the rest of the stack
    # @param engine [Engine]
    # @param providers [Hash] by name: the base URL, or `{ url:, headers: }`. The URL takes the place of the connection's;
    #   the path of the request is appended to its path, the query to its query.
    # @param capability [String, Symbol, nil] needed if the requests do not tell theirs
    # @param usage [#call, nil] takes the Faraday::Response of a success, returns the usage for {Engine#complete}, such as
    #   `{ tokens: 1043 }`, or nil. What it raises becomes a warning, and the usage is as estimated.
    # @param prepare [#call, nil] takes the Faraday::Env and the provider before each attempt, to change the body or headers
    # @param max_attempts [Integer] how many providers to try, at least 1; all by default
    # @param max_wait [Numeric] for how many seconds in all a request may wait until a provider is available
    # @param idempotent [Array<Symbol>] methods, in lower case, as {IDEMPOTENT}
    def initialize(app, engine:, providers:, capability: nil, usage: nil, prepare: nil, max_attempts: providers.size,
                   max_wait: 0, idempotent: IDEMPOTENT)
      super(app)
      raise InvalidArgumentError, "max_attempts must be at least 1" unless max_attempts.positive?

      @engine = engine
      @capability = capability
      @usage = usage
      @prepare = prepare
      @max_attempts = max_attempts
      @max_wait = max_wait
      @idempotent = idempotent
      @targets = providers.to_h do |name, target|
        target = { url: target } unless target.is_a?(Hash)
        [name.to_s, [URI(target.fetch(:url)).freeze, target.fetch(:headers, {}).freeze].freeze]
      end
    end

    # @param env [Faraday::Env]
    # @return [Faraday::Response]
    # @raise [NoProviderAvailableError] if none was tried and the wait would be too long
    # @raise [Error] as of {Engine#acquire}
    def call(env)
      raise InvalidArgumentError, "parallel requests cannot be routed" if env.parallel?

      asked = { capability: @capability, **(env.request.context || {}).fetch(:grate, {}) }
      asked[:exclude] = Array(asked[:exclude]).map(&:to_s)
      course = Course.new(asked, now + @max_wait, [])
      rewind = rewinding(env.body)
      on_data = env.request.on_data
      env = watched(env, course) if on_data
      @max_attempts.times do
        again = try(env, course)
        break unless again && rewind && !course.taken && !course.broken_off

        rewind.call
      end
      course.held.each { |data| on_data.call(*data) }
      course.last.call
    end

    private

    # @return [Boolean, nil] whether another provider may be tried; nil if there is nobody else
    def try(env, course)
      response = send_to_next(env, course) or return
      course.last = -> { response }
      repeat?(env.method, response.status)
    rescue ::Faraday::Error => e
      course.last = -> { raise e }
      repeat?(env.method, answer_of(e).first, e)
    end

    # One attempt, which settles the lease however it ends.
    # @return [Faraday::Response, nil] nil if there is nobody else to try
    def send_to_next(env, course)
      lease = aimed = told = nil
      acquire(course) { |made| lease = made } or return
      course.tried.unshift(lease.provider)
      course.held = []
      aimed = aim(env, lease.provider, course)
      response = @app.call(aimed)
      told = { http_status: response.status, headers: response.headers }
      tell_usage(lease, told, response) if @usage && response.success?
      response
    rescue Exception => e
      told ||= settlement(e, course) if aimed
      raise
    ensure
      Thread.handle_interrupt(Lease::UNDISTURBED) { settle(lease, aimed, told) if lease }
    end

    # @yieldparam lease [Lease] to be kept: the thread cannot be killed meanwhile
    # @return [Object, nil] what the block returns; nil if there is nobody else to try
    def acquire(course)
      asked = course.asked
      exclude = asked[:exclude]
      # The caller's all, even if they are too many.
      wish = { **asked.except(:capability), exclude: (exclude + course.tried).first([exclude.size, MOST_EXCLUDED].max) }
      Thread.handle_interrupt(Lease::UNDISTURBED) { yield @engine.acquire(asked.fetch(:capability), **wish) }
    rescue NoProviderAvailableError => e
      unless (seconds = nap(e, course.deadline - now))
        return if course.last

        raise
      end

      sleep([seconds, SHORTEST_NAP].max)
      retry
    end

    # @return [Numeric, nil] seconds until it is worth while to try again, of the seconds left; nil if there are too few
    def nap(none, left)
      wait = none.retry_after
      return unless wait && left.positive? && (wait <= left || ESTIMATED.include?(none.held_by))

      [wait, LONGEST_NAP, left].min
    end

    # The request as it goes to the provider.
    def aim(env, provider, course)
      base, headers = @targets.fetch(provider) do
        raise InvalidArgumentError, "there is no base URL for provider #{provider.inspect}"
      end
      aimed = env.dup
      aimed.url = base.dup.tap do |url|
        url.path = base.path.chomp("/") + env.url.path
        url.query = [base.query, env.url.query].compact.join("&") if env.url.query
      end
      aimed.request_headers = env.request_headers.merge(headers)
      @prepare&.call(aimed, provider)
      # Adapters refuse it only once they are connected.
      if aimed.request_headers.to_a.flatten.any? { |text| text.to_s.b.match?(/[\r\n]/) }
        raise ArgumentError, "a line break in a header of the request"
      end

      aimed.body = Upload.new(aimed.body) { course.broken_off = true } if Upload.of?(aimed.body)
      aimed
    end

    # @return [Proc, nil] what puts a body that is read back to where it is now; nil if that cannot be done
    def rewinding(body)
      return -> {} unless body.respond_to?(:read)
      return (-> { body.rewind } if body.respond_to?(:rewind)) unless body.respond_to?(:pos)

      start = body.pos
      -> { body.seek(start) }
    rescue SystemCallError
      nil # a pipe has no position
    end

    # The request, of which the course tells what its `on_data` does. What that raises is the caller's, such as a broken pipe
    # to whom it passes the data on, and not the provider's, unless it tells of a status. Of an answer after which another
    # provider may be tried it gets nothing yet, if its status is known.
    def watched(env, course)
      on_data = env.request.on_data
      env = env.dup
      env.request = env.request.dup
      env.request.on_data = proc do |*data|
        status = data[2]&.status
        next course.held << data if status && repeat?(env.method, status)

        on_data.call(*data)
        course.taken ||= !data[0].empty?
      rescue Exception => e
        course.broken_off = answer_of(e).empty?
        raise
      end
      env
    end

    # Settles the lease of a success with its usage. If the hook fails, the caller gets the answer all the same.
    def tell_usage(lease, told, response)
      lease.ensure_settled(**told, **(@usage.call(response) || {}))
    rescue StandardError => e
      warn("libgrate: the usage of a response cannot be told, it counts as estimated: #{e.class}: #{e.message[0, 200]}")
    end

    # Settles the lease unless that is done.
    def settle(lease, aimed, told)
      lease.ensure_settled(sent: !aimed.nil?, **(told || { outcome: :cancelled }))
    rescue InvalidArgumentError
      lease.ensure_settled(outcome: :cancelled) # the status is none
    end

    def settlement(error, course)
      return { outcome: :cancelled } if course.broken_off

      status, headers = answer_of(error)
      return { http_status: status, headers: headers || {} } if status

      Failure.unsent?(error) ? NOTHING_SENT : { outcome: Failure.outcome(error) }
    end

    # Status and headers, if there was an answer: middleware behind this one raises for statuses, or fails to parse a body.
    # @return [Array] empty if there was none
    def answer_of(error)
      case (response = error.is_a?(::Faraday::Error) && error.response)
      when Hash then response.values_at(:status, :headers)
      when ::Faraday::Response then [response.status, response.headers]
      else []
      end
    end

    def repeat?(method, status, error = nil)
      return REFUSALS.include?(status) || (idempotent?(method) && (status == 408 || status >= 500)) if status

      Failure.unsent?(error) || (idempotent?(method) && Failure.outcome(error) != :cancelled)
    end

    def idempotent?(method)
      @idempotent.include?(method)
    end

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
