# frozen_string_literal: true

# Runs all tests and prints how many passed.
require_relative "helper"

# A warning about a file of ours is a failure.
module Strict
  def warn(message, **)
    raise message if message.include?(Helper::BINDING)

    super
  end
end
Warning.extend(Strict)

Dir[File.join(__dir__, "*_test.rb")].sort.each { |file| require file }

# The last line of the output.
class Count < Minitest::StatisticsReporter
  def report
    super
    puts "#{count - failures - errors - skips} passed, #{failures + errors} failed, #{skips} skipped"
  end
end

Minitest.extensions << "count"
def Minitest.plugin_count_init(options)
  reporter << Count.new(options[:io], options)
end

ConformanceTest.announce
exit(Minitest.run(ARGV))
