# frozen_string_literal: true

# Prints what a call costs: bench, language, nanoseconds of an empty foreign call, nanoseconds of acquire + complete. The empty
# call is one through ffi, the FFI of Ruby, on which the binding sits; with the part in C another line has one through that,
# which is the cheapest there is.
$LOAD_PATH.unshift(File.expand_path("../lib", __dir__))
require "grate"

CALLS = 2_500 # so many that each batch has its share of the garbage collector's work
SECONDS = 4.0

engine = Grate::Engine.new(File.read(File.expand_path("../../bench.json", __dir__)))

# All loops count up, so what the loop itself costs is in all. Each has its own code, as each call site has its own cache.
empty_by_ffi = lambda do
  i = 0
  while i < CALLS
    Grate::Native.grate_version
    i += 1
  end
end
empty_by_c = lambda do
  i = 0
  while i < CALLS
    Grate::Fast.grate_version
    i += 1
  end
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
works = [cycle, empty_by_ffi, *(empty_by_c if Grate.fast?)]
5.times { works.each(&:call) }
batches = []
batches << works.map(&took) while now[Process::CLOCK_MONOTONIC] < finish
cycles, *empties = batches.transpose.map { |times| median[times].round(1) }
["Ruby, ffi", "Ruby, C ext"].zip(empties) { |name, empty| puts ["bench", name, empty, cycles].join("\t") if empty }
