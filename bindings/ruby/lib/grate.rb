# frozen_string_literal: true

require_relative "grate/version"
require_relative "grate/native"
require_relative "grate/engine"
require_relative "grate/fast"

# libgrate picks, in your process, which upstream provider gets the next request, so that `429 Too Many Requests` is
# predicted and not received. {Engine} is where to begin.
module Grate
  # @return [String] version of the library that is loaded
  def self.library_version
    Native.grate_version_string
  end

  # @param code [Integer] a status in grate.h
  # @return [String] its symbolic name, such as `"GRATE_ERR_STALE_LEASE"`; `"GRATE_ERR_UNKNOWN"` for other numbers
  def self.status_name(code)
    Native.grate_status_name(code)
  end
end
