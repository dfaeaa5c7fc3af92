# frozen_string_literal: true

require "ffi"
require_relative "constants"

module Grate
  # The C library: where it is found, and its functions.
  #
  # No call gives the interpreter lock away (none is `blocking`): none waits for anything, so it would cost more than it
  # gains. And as no other thread is ever inside the library while Ruby code runs, a fork cannot copy a lock in use.
  # @api private
  module Native
    extend FFI::Library

    # Tried in this order if GRATE_LIBRARY does not name the library. The number is that of the ABI.
    NAMES = %w[libgrate.so.0 libgrate.0.dylib].freeze

    def self.load_library
      path = ENV["GRATE_LIBRARY"].to_s
      ffi_lib(*(path.empty? ? [NAMES] : [path]))
    rescue ::LoadError => e
      raise ::LoadError, "the libgrate library was not found: install it (`make install` in its sources, then " \
                         "`ldconfig`), or set the environment variable GRATE_LIBRARY to its path. #{e.message}"
    end
    private_class_method :load_library

    load_library
    begin
      attach_function :grate_version, [], :uint32
      attach_function :grate_version_string, [], :string
      attach_function :grate_status_name, [:int32], :string

      attach_function :grate_clock_mock_new, [:uint64], :pointer
      attach_function :grate_clock_free, [:pointer], :void
      attach_function :grate_clock_advance_ms, %i[pointer uint64], :int32
      attach_function :grate_clock_advance_secs, %i[pointer uint64], :int32
      attach_function :grate_clock_set_ns, %i[pointer uint64], :int32
      attach_function :grate_clock_now_ns, [:pointer], :uint64

      attach_function :grate_engine_new, %i[pointer pointer pointer], :int32
      attach_function :grate_engine_free, [:pointer], :void
      attach_function :grate_engine_configure_json, %i[uint64 buffer_in uint64 uint64], :int32
      attach_function :grate_engine_remove_provider, %i[uint64 pointer uint64], :int32
      attach_function :grate_engine_remove_capability, %i[uint64 pointer uint64], :int32
      attach_function :grate_engine_provider_health, %i[uint64 pointer pointer uint64], :int32
      attach_function :grate_engine_provider_in_cooldown, %i[uint64 pointer pointer uint64], :int32
      attach_function :grate_engine_remaining_quota, %i[uint64 pointer int32 pointer uint64], :int32
      attach_function :grate_engine_provider_state, %i[uint64 pointer pointer uint64], :int32
      attach_function :grate_engine_metrics, %i[uint64 pointer uint64], :int32
      attach_function :grate_engine_prometheus, %i[uint64 pointer uint64 pointer uint64], :int32
      attach_function :grate_parse_headers, %i[pointer uint64 uint64 pointer pointer], :int32

      # Addresses as integers where a call takes many: ffi converts them faster than pointer objects.
      attach_function :grate_engine_select, %i[uint64 pointer uint64 uint64 uint64], :int32
      attach_function :grate_engine_acquire, %i[uint64 pointer uint64 uint64 uint64], :int32
      attach_function :grate_engine_complete, %i[uint64 uint64 uint64 uint64], :int32
      attach_function :grate_engine_cancel, %i[uint64 uint64 uint64], :int32
      attach_function :grate_engine_observe, %i[uint64 pointer uint64 uint64], :int32
    rescue FFI::NotFoundError => e
      raise ::LoadError, "this is not a libgrate that this gem can use: #{e.message}"
    end

    version = grate_version
    unless version >= Constants::HEADER_VERSION && version / 1_000_000 == Constants::HEADER_VERSION / 1_000_000
      raise ::LoadError, "the library is libgrate #{grate_version_string}, this gem needs 0.1.0 or a later 0.x"
    end
  end
end
