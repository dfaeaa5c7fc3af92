# frozen_string_literal: true

module Grate
  # What an exception means for the request in whose course it was raised.
  module Failure
    # No connection was made.
    UNSENT = %w[Errno::ECONNREFUSED Errno::EADDRNOTAVAIL SocketError Net::OpenTimeout].freeze
    TIMEOUT = %w[Timeout::Error Timeout::ExitException Errno::ETIMEDOUT IO::TimeoutError Faraday::TimeoutError].freeze
    BROKEN = [*UNSENT, *%w[Errno::EHOSTUNREACH Errno::ENETUNREACH Errno::ECONNRESET Errno::ECONNABORTED Errno::EPIPE
                           Errno::ENOTCONN Errno::ENETDOWN Errno::EHOSTDOWN EOFError OpenSSL::SSL::SSLError
                           Net::ProtocolError Net::HTTPBadResponse Net::HTTPHeaderSyntaxError Faraday::ConnectionFailed
                           Faraday::SSLError]].freeze
    # What the system says of a connection that was not made, and OpenSSL of a handshake, before which nothing is sent.
    UNMADE = /connect\(2\)|SSL_connect|certificate verify failed|does not match the server certificate/.freeze
    private_constant :UNSENT, :TIMEOUT, :BROKEN, :UNMADE

    # The outcome of a request that may have been sent: `:timeout`, `:server_error` if the connection failed, or
    # `:cancelled` for all else, such as a bug of the caller, which says nothing of the provider. It looks at the
    # exception, at what it wraps and at its causes.
    # @param exception [Exception]
    # @return [Symbol]
    def self.outcome(exception)
      return :timeout if any?(exception, TIMEOUT)

      any?(exception, BROKEN) ? :server_error : :cancelled
    end

    # Whether the exception says that no connection was made, or no TLS on it, so that nothing can have been sent. Only ask
    # if it can have come from nothing but the request.
    # @param exception [Exception]
    # @return [Boolean]
    def self.unsent?(exception)
      any?(exception, UNSENT) || any?(exception, BROKEN + TIMEOUT) { |found| UNMADE.match?(found.message.b) }
    end

    # By name, as most of these classes belong to libraries that need not be loaded. A block tells more of those found.
    def self.any?(exception, names)
      chain = [exception]
      while (found = chain.last)
        named = found.class.ancestors.any? { |kind| names.include?(kind.name) }
        return true if named && (!block_given? || yield(found))

        inner = found.respond_to?(:wrapped_exception) && found.wrapped_exception
        chain << (inner.is_a?(Exception) ? inner : found.cause)
        break if chain.size > DEEPEST
      end
      false
    end
    DEEPEST = 16 # a chain may be a ring
    private_constant :DEEPEST
    private_class_method :any?
  end
end
