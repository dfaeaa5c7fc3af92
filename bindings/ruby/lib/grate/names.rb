# frozen_string_literal: true

require "ffi"
require_relative "errors"

module Grate
  # Names as the library takes them, each encoded once.
  # @api private
  module Names
    # By name, as it was given. There are few; should a caller invent one per request, the cache starts anew now and then.
    # Calls under way hold on to their pointers, so that nothing is freed under them.
    CACHE = {}
    MOST = 4096

    # @param name [String, Symbol]
    # @return [FFI::MemoryPointer]
    def self.[](name)
      CACHE[name] || add(name)
    end

    # Some names in an array.
    # @return [Array(FFI::MemoryPointer, Integer, Array)] the array, its length, and what must live as long
    def self.array(names)
      pointers = Array(names).map { |name| self[name] }
      rows = FFI::MemoryPointer.new(:pointer, [pointers.size, 1].max)
      rows.write_array_of_pointer(pointers)
      [rows, pointers.size, pointers]
    end

    def self.add(name)
      pointer = FFI::MemoryPointer.from_string(encode(name))
      CACHE.clear if CACHE.size >= MOST
      CACHE[name] = pointer
    end
    private_class_method :add

    def self.encode(name)
      unless name.is_a?(String) || name.is_a?(Symbol)
        raise InvalidArgumentError, "a name must be a String or a Symbol, not #{name.class}"
      end

      text = name.to_s
      # Bytes of no encoding are taken as they are; the library looks whether they are UTF-8.
      text = text.encode(Encoding::UTF_8) unless text.encoding == Encoding::BINARY
      raise InvalidNameError, "#{name.inspect} contains a NUL character" if text.b.include?("\0")

      text
    rescue EncodingError => e
      raise InvalidNameError, e.message
    end
    private_class_method :encode
  end
end
