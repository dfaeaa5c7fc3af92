# frozen_string_literal: true

require "minitest"
require "json"
require "open3"
require "rbconfig"
require "tmpdir"
require "fileutils"
require_relative "../lib/grate"

# What the tests share.
module Helper
  BINDING = File.expand_path("..", __dir__)
  ROOT = File.expand_path("../..", BINDING)
  NEW_YEAR = 1_767_225_600_000 # 2026-01-01T00:00:00Z

  def quota(limit, dimension = "requests", window: "minute", **more)
    more[:window] = window unless dimension == "concurrency"
    { dimension: dimension, limit: limit, **more }
  end

  # Providers with these quotas, the first with the highest priority, which all serve "api".
  def config(**quotas)
    providers = quotas.each_with_index.map { |(name, own), i| { name: name, priority: 10 - i, quotas: own } }
    { providers: providers, capabilities: [{ name: "api", providers: quotas.keys.map { |name| { provider: name } } }] }
  end

  def clock
    @clock ||= Grate::MockClock.new(unix_ms: NEW_YEAR)
  end

  # `a` has 2 requests and 1000 tokens a minute, `b` 100 requests.
  def engine
    @engine ||= Grate::Engine.new(config(a: [quota(2), quota(1000, "tokens")], b: [quota(100)]), clock: clock)
  end

  # An engine whose callers are killed by another thread when it has `:made` a lease that is explained, or when that is
  # `:completed`.
  def killing(provider, time)
    kill = -> { Thread.new(Thread.current, &:kill).join }
    Class.new(Grate::Engine) do
      define_method(:route) do |*wish|
        super(*wish).tap do |lease|
          kill.call if time == :made
          lease.define_singleton_method(:complete) { |**told| kill.call && super(**told) } if time == :completed
        end
      end
    end.new(config(provider => []))
  end

  # Runs Ruby code in a process of its own.
  # @return [Array(String, Process::Status)] what it prints, to both streams, and how it ends
  def ruby(code, environment = {})
    Open3.capture2e(environment, RbConfig.ruby, "-w", "-I", File.join(BINDING, "lib"), "-e", code)
  end

  # Runs the block in a forked child.
  # @return [Object] what it returns, or the exception that it raises
  def in_child
    reader, writer = IO.pipe
    pid = fork do
      reader.close
      result = begin
        yield
      rescue StandardError => e
        e
      end
      writer.write(Marshal.dump(result))
      writer.close
      exit!(0)
    end
    writer.close
    result = Marshal.load(reader.read)
    Process.wait(pid)
    result
  end
end
