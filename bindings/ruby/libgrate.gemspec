# frozen_string_literal: true

require_relative "lib/grate/version"

Gem::Specification.new do |spec|
  spec.name = "libgrate"
  spec.version = Grate::VERSION
  spec.authors = ["The libgrate maintainers"]
  spec.summary = "Picks which metered upstream provider gets the next request, so that HTTP 429 is predicted"
  spec.description = "The Ruby binding of libgrate, which knows every provider's quotas in your process, reserves what a " \
                     "request will use before it is sent, and learns from the responses. Needs the library libgrate."
  spec.license = "Apache-2.0"
  spec.required_ruby_version = ">= 3.0"
  spec.files = Dir["lib/**/*.rb", "ext/**/*.{c,rb}", "README.md", "LICENSE", base: __dir__].sort
  spec.extensions = ["ext/grate_fast/extconf.rb"] # optional: without a compiler the gem is pure Ruby
  spec.metadata = { "rubygems_mfa_required" => "true" }

  spec.add_dependency "ffi", ">= 1.15", "< 2"
  spec.add_development_dependency "faraday", ">= 1.1", "< 3" # for grate/faraday, which is optional
  spec.add_development_dependency "minitest", "~> 5.15"
end
