# frozen_string_literal: true

# Prints what a call costs: bench, language, nanoseconds of an empty foreign call, nanoseconds of acquire + complete.
$LOAD_PATH.unshift(File.expand_path("../lib", __dir__))
require "grate"

CALLS = 2_500 # so many that each batch has its share of the garbage collector's work
SECONDS = 4.0
FORM = Grate::Fast || Grate::Native

engine = Grate::Engine.new(File.read(File.expand_path("../../bench.json", __dir__)))

# Both loops count up, so what the loop itself costs is in both.
empty = lambda do
  sum = 0
  i = 0
  while i < CALLS
    sum += FORM.grate_version
    i += 1
  end
  raise "no version" unless sum == CALLS * FORM.grate_version
end
cycle = lambda do
  i = 0
  while i < CALLS
    engine.acquire("chat", tokens: 100).complete(http_status: 200, tokens: 100)
    i += 1
  end
end

now = ->(clock) { Process.clock_gettime(clock, :nanosecond) }
# Of this thread, so that other programs on the machine do not count.
took = lambda do |work|
  start = now[Process::CLOCK_THREAD_CPUTIME_ID]
  work.call
  (now[Process::CLOCK_THREAD_CPUTIME_ID] - start) / CALLS.to_f
end
median = ->(times) { times.sort[times.size / 2] }

finish = now[Process::CLOCK_MONOTONIC] + (SECONDS * 1e9)
5.times { [empty, cycle].each(&:call) }
batches = []
batches << [took[empty], took[cycle]] while now[Process::CLOCK_MONOTONIC] < finish
puts ["bench", "Ruby", *batches.transpose.map { |times| median[times].round(1) }].join("\t")
