# frozen_string_literal: true

require_relative "helper"

# An engine whose state is in a file: several processes have one quota.
class SharedTest < Minitest::Test
  include Helper

  def setup
    @dir = Dir.mktmpdir
    @path = File.join(@dir, "state")
  end

  def teardown
    FileUtils.remove_entry(@dir)
  end

  # `a` has 5 requests an hour.
  def shared(**more)
    Grate::Engine.new(config(a: [quota(5, window: "hour")]), state_path: @path, **more)
  end

  def served(engine)
    count = 0
    loop do
      engine.acquire("api") { count += 1 }
    rescue Grate::NoProviderAvailableError
      return count
    end
  end

  def test_a_child_uses_the_engine_of_its_parent
    engine = shared
    engine.acquire("api", &:complete)
    lease = engine.acquire("api")
    child = in_child do
      engine.acquire("api", &:complete)
      lease.complete(http_status: 200) # by whichever process gets the answer
      [engine.metrics.completions, in_child { engine.acquire("api", &:provider) }]
    end
    assert_equal [3, "a"], child
    assert_raises(Grate::StaleLeaseError) { lease.complete }
    assert_equal [1, 4], [served(engine), engine.metrics.completions - 1]
    assert_equal 0, in_child { served(engine) }
  end

  def test_children_open_the_file_themselves
    assert_equal %w[a a a], Array.new(3) { in_child { shared.acquire("api", &:provider) } }
    assert_equal 2, served(shared)
  end

  def test_a_restart_keeps_the_usage
    engine = shared
    3.times { engine.acquire("api", &:complete) }
    engine.close
    assert_equal 2, served(shared)
  end

  # The leases of a process that is gone do not hold their slots until they expire.
  def test_a_child_that_dies_leaves_no_lease
    engine = Grate::Engine.new(config(a: [quota(1, "concurrency")]), state_path: @path)
    in_child { engine.acquire("api").id }
    sleep(0.05) until engine.remaining_quota("a", :concurrency) == 1
    assert_equal "a", engine.acquire("api", &:provider)
  end

  def test_a_child_may_close_and_collect_what_it_inherits
    engine = shared
    lease = engine.acquire("api")
    assert_equal :closed, in_child { engine.close || (engine.closed? ? :closed : :open) }
    in_child { engine.acquire("api", &:complete) && engine.close }
    lease.complete
    assert_equal 3, served(engine)
    engine.close
    assert_kind_of(Grate::ClosedEngineError, in_child { engine.metrics })
  end

  def test_forking_while_other_threads_call
    engine = Grate::Engine.new(config(a: []), state_path: @path)
    stop = false
    thread = Thread.new { engine.acquire("api") { |lease| lease.complete(tokens: 1) } until stop }
    10.times { assert_equal("a", in_child { engine.acquire("api", &:provider) }) }
  ensure
    stop = true
    thread&.join
  end

  def test_a_file_that_cannot_be_used
    File.write(@path, "something else")
    error = assert_raises(Grate::StateFileError) { shared }
    assert_equal [14, "GRATE_ERR_STATE_FILE"], [error.code, error.name]
    assert_includes error.message, "'#{@path}' is not a state file"
    assert_equal 5, served(shared(replace_unusable_state: true))
    assert_raises(Grate::StateFileError) { Grate::Engine.new(state_path: File.join(@dir, "none", "state")) }
  end

  def test_the_size
    shared(state_size: 1 << 20, replace_unusable_state: true)
    assert_equal 1 << 20, File.size(@path)
    File.delete(@path)
    shared
    assert_equal 16 << 20, File.size(@path)
    assert_raises(Grate::InvalidConfigError) { Grate::Engine.new(state_path: "#{@path}2", state_size: 1) }
    ["many", -1].each { |size| assert_raises(Grate::InvalidArgumentError) { shared(state_size: size) } }
    assert_raises(Grate::InvalidArgumentError) { Grate::Engine.new(state_path: "") }
    assert_raises(ArgumentError) { Grate::Engine.new(state_path: "a\0b") }
    assert_raises(TypeError) { Grate::Engine.new(state_path: 3) }
  end
end
