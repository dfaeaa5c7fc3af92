# frozen_string_literal: true

require_relative "layouts"

module Grate
  # The arguments of one call, in one piece of memory: whoever has one has it alone. As a pointer itself it is read and
  # written without a detour.
  # @api private
  class Scratch < FFI::MemoryPointer
    # Where each struct begins. Of the first request and response only the fields below ever change, which is the common
    # case; all else goes through the second ones, which are written in full each time.
    REQUEST = 0
    FULL_REQUEST = REQUEST + Layouts::Request.size
    RESPONSE = FULL_REQUEST + Layouts::Request.size
    FULL_RESPONSE = RESPONSE + Layouts::Response.size
    DECISION = FULL_RESPONSE + Layouts::Response.size
    EXPLAINED = DECISION + Layouts::Decision.size # a decision with room for candidates
    ERROR = EXPLAINED + Layouts::Decision.size
    SIZE = ERROR + Layouts::Error.size

    REQUEST_TOKENS = REQUEST + Layouts::Request.offset_of(:tokens)
    FULL_REQUEST_AMOUNTS = FULL_REQUEST + Layouts::Request.offset_of(:tokens)
    FULL_REQUEST_HEADROOM = FULL_REQUEST + Layouts::Request.offset_of(:headroom)
    FULL_REQUEST_EXCLUDE = FULL_REQUEST + Layouts::Request.offset_of(:exclude)
    RESPONSE_HTTP_STATUS = RESPONSE + Layouts::Response.offset_of(:http_status)
    RESPONSE_TOKENS = RESPONSE + Layouts::Response.offset_of(:tokens)
    FULL_RESPONSE_OUTCOME = FULL_RESPONSE + Layouts::Response.offset_of(:outcome)
    FULL_RESPONSE_HTTP_STATUS = FULL_RESPONSE + Layouts::Response.offset_of(:http_status)
    FULL_RESPONSE_AMOUNTS = FULL_RESPONSE + Layouts::Response.offset_of(:latency_ns)
    EXPLAINED_CANDIDATES_LEN = EXPLAINED + Layouts::Decision.offset_of(:candidates_len)
    ERROR_MESSAGE = ERROR + Layouts::Error.offset_of(:message)

    # Within a decision; what is kept of one is all but the array of candidates.
    LEASE = Layouts::Decision.offset_of(:lease)
    PROVIDER = Layouts::Decision.offset_of(:provider)
    DECISION_BYTES = Layouts::Decision.offset_of(:candidates)

    # Candidates of a decision that explains itself: the best ones, if a capability has more.
    MAX_CANDIDATES = 1024

    # Bytes of a candidate, and where in it the provider's name is.
    CANDIDATE_BYTES = Layouts::Candidate.size
    CANDIDATE_PROVIDER = Layouts::Candidate.offset_of(:provider)

    # Bytes of headers for which memory is kept from call to call; more are rare.
    KEPT_FOR_HEADERS = 16_384
    private_constant :KEPT_FOR_HEADERS

    def initialize
      super(SIZE)
      put_uint32(REQUEST, Layouts::Request.size)
      put_uint32(FULL_REQUEST, Layouts::Request.size)
      put_uint32(RESPONSE, Layouts::Response.size)
      put_uint32(FULL_RESPONSE, Layouts::Response.size)
      put_uint32(DECISION, Layouts::Decision.size)
      put_uint32(EXPLAINED, Layouts::Decision.size)
      put_uint32(ERROR, Layouts::Error.size)
    end

    # Memory that the full request points to, so that it lives as long as the call.
    attr_writer :excluded

    # @return [FFI::MemoryPointer] the array of candidates, to which the explained decision points from now on
    def candidates
      @candidates ||= FFI::MemoryPointer.new(Layouts::Candidate, MAX_CANDIDATES).tap do |rows|
        rows.put_uint32(0, CANDIDATE_BYTES)
        put_pointer(EXPLAINED + Layouts::Decision.offset_of(:candidates), rows)
        put_uint64(EXPLAINED + Layouts::Decision.offset_of(:candidates_capacity), MAX_CANDIDATES)
      end
    end

    # @return [FFI::MemoryPointer] room for so many bytes of headers, which lives until the next
    def header_room(bytes)
      size = [bytes, KEPT_FOR_HEADERS].max
      @header_room = FFI::MemoryPointer.new(size) unless @header_room&.size == size
      @header_room
    end

    # @return [Error] what the last call left in the struct for errors
    def failure(code)
      Error.for(code, get_string(ERROR_MESSAGE).force_encoding(Encoding::UTF_8))
    end
  end
end
