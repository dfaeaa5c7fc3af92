# frozen_string_literal: true

require_relative "helper"
require "net/http"
require "rubygems/package"
require "socket"

# The examples of the README run as they stand, and the gem can be built.
class ReadmeTest < Minitest::Test
  include Helper

  README = File.read(File.join(Helper::BINDING, "README.md"), encoding: "UTF-8")
  EXAMPLE, FARADAY, SERVER = README.scan(/```ruby\n(.*?)```/m).flatten

  # Where the examples run: what they leave to the reader.
  def place
    Object.new.instance_eval do
      def send_it_to(_provider)
        @sending&.call
        Net::HTTPOK.new("1.1", "200", "OK").tap { |response| response["x-ratelimit-limit-requests"] = "60" }
      end

      def tokens_of(_response)
        1043
      end

      binding
    end
  end

  def test_the_example
    place = self.place
    place.eval(EXAMPLE)
    engine = place.local_variable_get(:engine)
    assert_equal [1, 0], [engine.metrics.completions, engine.metrics.leases_in_flight]
    assert_equal 90_000 - 1043, engine.remaining_quota("primary", :tokens)
  end

  def test_the_example_when_sending_fails
    place = self.place
    place.receiver.instance_variable_set(:@sending, -> { raise Net::ReadTimeout })
    assert_raises(Net::ReadTimeout) { place.eval(EXAMPLE) }
    engine = place.local_variable_get(:engine)
    assert_equal 1, engine.provider_state("primary").consecutive_failures
    assert_equal 90_000 - 1200, engine.remaining_quota("primary", :tokens)
  end

  def test_the_faraday_example
    server = TCPServer.new("127.0.0.1", 0)
    thread = Thread.new do
      socket = server.accept
      head = []
      head << socket.gets until head.last == "\r\n"
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
      socket.close
      head
    end
    place = self.place
    place.eval(EXAMPLE)
    place.eval(FARADAY.gsub(/PRIMARY_URL|BACKUP_URL/, "\"http://127.0.0.1:#{server.addr[1]}/v1\"")
                      .gsub("PRIMARY_KEY", "\"key\""))
    assert_equal "ok", place.local_variable_get(:response).body
    assert_equal "POST /v1/chat HTTP/1.1\r\n", thread.value.first
    assert_includes thread.value.map(&:downcase), "authorization: bearer key\r\n"
    assert_equal 2, place.local_variable_get(:engine).metrics.completions
  ensure
    server&.close
  end

  # `make demo-workers` runs it.
  def test_the_server
    assert_equal File.read(File.join(ROOT, "examples/servers/config.ru")).sub(/\A#.*\n\n/, ""), SERVER
  end

  def test_the_table_of_errors
    named = README.scan(/^\| (`\w+Error`.*?) \|/).flatten.join.scan(/\w+Error/)
    there = ObjectSpace.each_object(Class).select { |kind| kind < Grate::Error && kind.name }
    assert_equal there.map { |kind| kind.name.delete_prefix("Grate::") }.sort, named.sort
  end

  def test_the_gem
    Dir.mktmpdir do |dir|
      gem = File.join(dir, "libgrate.gem")
      out, status = Open3.capture2e(RbConfig.ruby, "-S", "gem", "build", "libgrate.gemspec", "-o", gem,
                                    chdir: BINDING)
      assert status.success?, out
      assert_includes Gem::Package.new(gem).contents, "LICENSE"
    end
    licenses = [ROOT, BINDING].map { |dir| File.read(File.join(dir, "LICENSE")) }
    assert_equal licenses.first, licenses.last
    out, status = ruby("require 'libgrate'; print Grate::VERSION")
    assert_equal [Grate::VERSION, true], [out, status.success?]
  end
end
