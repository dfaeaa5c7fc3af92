# frozen_string_literal: true

require "grate/faraday"

engine = Grate::Engine.new(File.read("config.json"), state_path: ENV["STATE_PATH"])
upstreams = %w[gold silver bronze].zip(ENV.fetch("GRATE_UPSTREAMS").split).to_h

client = Faraday.new do |f|
  f.use Grate::FaradayMiddleware, engine: engine, capability: "answer", providers: upstreams, max_wait: 2
  f.adapter :net_http
end

run(lambda do |_env|
  answer = client.get("/v1/answer")
  [answer.status, { "content-type" => "application/json" }, [answer.body]]
rescue Grate::NoProviderAvailableError => e
  [503, { "content-type" => "text/plain" }, [e.message]]
end)
