/*
 * An HTTP client in C++17 that sends each request to the upstream that libgrate chooses, and tells it what became of it:
 * libcurl's multi interface, one thread, many requests in flight. Section "Client" is what a program would take over.
 *
 *   c++ -std=c++17 -Iinclude examples-c/http/router.cpp -lgrate -lcurl -o router
 *   scripts/with-upstreams.sh ./router                   the limits are known
 *   scripts/with-upstreams.sh ./router --wrong-quotas    they are ten times too high: 429s come, requests go elsewhere
 *   scripts/with-upstreams.sh ./router --dead            the preferred upstream refuses connections
 *
 * Exit status: 0 if less than 1 % of the attempts got a 429 and every request was answered (with wrong quotas: if
 * 429s came, were reported, and requests went elsewhere), 1 if not, 2 if it could not run.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <grate.hpp>

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/* ---- libcurl with RAII ------------------------------------------------------------------------------------------ */

struct CurlGlobal {
    CurlGlobal() {
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) throw std::runtime_error("curl_global_init failed");
    }
    ~CurlGlobal() { curl_global_cleanup(); }
    CurlGlobal(const CurlGlobal &) = delete;
    CurlGlobal &operator=(const CurlGlobal &) = delete;
};

struct EasyCleanup {
    void operator()(CURL *easy) const noexcept { curl_easy_cleanup(easy); }
};
struct MultiCleanup {
    void operator()(CURLM *multi) const noexcept { curl_multi_cleanup(multi); }
};
using Easy = std::unique_ptr<CURL, EasyCleanup>;
using Multi = std::unique_ptr<CURLM, MultiCleanup>;

void check(CURLMcode code) {
    if (code != CURLM_OK) throw std::runtime_error(curl_multi_strerror(code));
}

template <class T> void set(CURL *easy, CURLoption option, T value) {
    CURLcode code = curl_easy_setopt(easy, option, value);
    if (code != CURLE_OK) throw std::runtime_error(curl_easy_strerror(code));
}

/* ---- Client ----------------------------------------------------------------------------------------------------- */

struct Answer {
    long status = 0; ///< 0: none; then `error` says why
    std::string error{};
    int attempts = 0;
};

class Client {
public:
    /// `urls`: where each provider of the capability is. All of these must outlive the client.
    Client(grate::Engine &engine, std::string capability, const std::unordered_map<std::string, std::string> &urls)
        : engine_(engine), capability_(std::move(capability)), urls_(urls), multi_(curl_multi_init()) {
        if (!multi_) throw std::runtime_error("curl_multi_init failed");
    }

    /// Sends a request at some time, and puts what becomes of it into `answer`, which must outlive the client.
    void get(const std::string &path, Clock::time_point when, Answer &answer) {
        waiting_.push_back({path, when, when + patience, &answer, {}});
    }

    /// Until every request has its answer.
    void run() {
        while (!waiting_.empty() || !transfers_.empty()) {
            start_what_is_due();
            int running = 0;
            check(curl_multi_perform(multi_.get(), &running));
            int left = 0;
            while (CURLMsg *message = curl_multi_info_read(multi_.get(), &left))
                if (message->msg == CURLMSG_DONE) finish(message->easy_handle, message->data.result);
            check(curl_multi_poll(multi_.get(), nullptr, 0, milliseconds_to_next(), nullptr));
        }
    }

private:
    static constexpr auto patience = 10s;
    /// However long the wait, it looks again then: leases end when they end, on the provider that frees first or on another,
    /// and give back what they did not use.
    static constexpr auto longest_nap = 50ms;
    static constexpr int max_attempts = 4;
    static constexpr long timeout_ms = 5000;

    struct Request {
        std::string path;
        Clock::time_point wake;     ///< when to ask the engine (again)
        Clock::time_point deadline; ///< how long to wait for a provider
        Answer *answer;
        std::vector<std::string> failed; ///< providers that have failed it
    };

    /// A request on its way, with its lease.
    struct Transfer {
        Transfer(CURLM *on, Request of, grate::Lease with) : multi(on), request(std::move(of)), lease(std::move(with)) {}
        Transfer(const Transfer &) = delete;
        Transfer &operator=(const Transfer &) = delete;
        ~Transfer() {
            if (easy) curl_multi_remove_handle(multi, easy.get());
            // Given up on its way, by an exception: the provider may have counted it.
            if (lease) (void)lease.try_complete({grate::Outcome::cancelled});
        }

        CURLM *multi;
        Request request;
        grate::Lease lease;
        Easy easy{};
        std::list<std::string> lines{}; ///< header lines, which do not move
        std::vector<grate::Header> headers{};
    };

    void start_what_is_due() {
        for (auto at = waiting_.begin(); at != waiting_.end();) {
            if (at->wake > Clock::now() || !start(*at)) {
                ++at;
                continue;
            }
            at = waiting_.erase(at);
        }
    }

    /// Whether the request is done with waiting: sent, or answered.
    bool start(Request &request) {
        grate::Request wish;
        for (const std::string &name : request.failed) wish.exclude.add(name);
        grate::Lease lease;
        grate::Status status = engine_.try_acquire(capability_, wish, lease);
        if (status.code() == grate::Code::no_provider_available) {
            auto now = Clock::now();
            grate::nanoseconds wait = lease.retry_after();
            bool guessed = lease.held_by() == grate::HeldBy::concurrency || lease.held_by() == grate::HeldBy::probe;
            auto left = request.deadline - now;
            if (guessed ? wait != grate::never && left > 0ns : wait < left) {
                request.wake = now + std::min<grate::nanoseconds>(wait, longest_nap);
                return false;
            }
            // No other provider can be asked: the answer stays the last refusal, if there was one.
            if (request.answer->attempts == 0) request.answer->error = "no provider available";
            return true;
        }
        if (!status.ok()) throw grate::Error(status);

        std::string url = urls_.at(std::string(lease.provider())) + request.path;
        auto transfer = std::make_unique<Transfer>(multi_.get(), std::move(request), std::move(lease));
        transfer->easy.reset(curl_easy_init());
        CURL *easy = transfer->easy.get();
        if (easy == nullptr) throw std::runtime_error("curl_easy_init failed");
        set(easy, CURLOPT_URL, url.c_str());
        set(easy, CURLOPT_NOPROXY, "*");
        set(easy, CURLOPT_NOSIGNAL, 1L);
        set(easy, CURLOPT_TIMEOUT_MS, timeout_ms);
        set(easy, CURLOPT_WRITEFUNCTION, &discard);
        set(easy, CURLOPT_HEADERFUNCTION, &keep_header);
        set(easy, CURLOPT_HEADERDATA, transfer.get());
        check(curl_multi_add_handle(multi_.get(), easy));
        ++transfer->request.answer->attempts;
        transfers_.emplace(easy, std::move(transfer));
        return true;
    }

    void finish(CURL *easy, CURLcode code) {
        auto found = transfers_.find(easy);
        std::unique_ptr<Transfer> transfer = std::move(found->second);
        transfers_.erase(found);
        Request &request = transfer->request;
        Answer &answer = *request.answer;
        answer.status = 0;
        answer.error.clear();
        if (code == CURLE_URL_MALFORMAT) { // the caller's fault: nothing was sent, and no provider is asked again
            answer.error = curl_easy_strerror(code);
            transfer->lease.cancel();
            return;
        }

        grate::Response response;
        response.headers = transfer->headers;
        bool elsewhere = false;
        if (code == CURLE_OK) {
            curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &answer.status);
            response.http_status = static_cast<int>(answer.status);
            elsewhere = answer.status == 429 || answer.status == 503 || answer.status == 529;
        } else {
            answer.error = curl_easy_strerror(code);
            long sent = 0; // bytes: also right if a connection was reused
            curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &sent);
            response.outcome = grate::Outcome::server_error;
            if (sent == 0) {
                // Nothing is counted, but the provider's health suffers.
                response.requests = response.tokens = response.input_tokens = response.output_tokens = 0;
                response.bytes = response.cost_micro_usd = 0;
                elsewhere = true;
            } else if (code == CURLE_OPERATION_TIMEDOUT) {
                response.outcome = grate::Outcome::timeout;
            }
        }
        std::string provider(transfer->lease.provider());
        transfer->lease.complete(response);
        if (elsewhere && answer.attempts < max_attempts) {
            request.failed.push_back(std::move(provider));
            request.wake = Clock::now();
            waiting_.push_back(std::move(request));
        }
    }

    /// The time of the next request that waits, rounded up: there is no point in waking before.
    int milliseconds_to_next() const {
        auto next = Clock::now() + 1s;
        for (const Request &request : waiting_) next = std::min(next, request.wake);
        auto wait = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
        return static_cast<int>(std::max<decltype(wait)>(wait, 0));
    }

    static std::size_t discard(char *, std::size_t size, std::size_t n, void *) { return size * n; }

    static std::size_t keep_header(char *data, std::size_t size, std::size_t n, void *at) {
        auto &transfer = *static_cast<Transfer *>(at);
        std::string_view line(data, size * n);
        if (line.substr(0, 5) == "HTTP/") { // a response after another, such as "100 Continue"
            transfer.headers.clear();
            transfer.lines.clear();
        }
        std::size_t colon = line.find(':');
        if (colon != std::string_view::npos) {
            std::string_view kept = transfer.lines.emplace_back(line.substr(0, line.find_last_not_of("\r\n") + 1));
            std::size_t value = kept.find_first_not_of(" \t", colon + 1);
            transfer.headers.emplace_back(kept.substr(0, colon), kept.substr(std::min(value, kept.size())));
        }
        return line.size();
    }

    grate::Engine &engine_;
    std::string capability_;
    const std::unordered_map<std::string, std::string> &urls_;
    Multi multi_; // before the transfers, which leave it first
    std::list<Request> waiting_{};
    std::unordered_map<CURL *, std::unique_ptr<Transfer>> transfers_{};
};

/* ---- Demonstration ---------------------------------------------------------------------------------------------- */

/* What nginx.conf.in allows, in requests per second and burst; by descending priority. */
struct Upstream {
    const char *name;
    std::uint64_t per_second;
    std::uint64_t burst;
};
constexpr Upstream upstreams[] = {{"gold", 20, 10}, {"silver", 12, 6}, {"bronze", 6, 3}};
constexpr int rate = 28; // per second: more than any of them allows, or all of them in turn
constexpr int seconds = 6;

void add(grate::Engine &engine, grate::CapabilityConfig &capability, const char *name, std::vector<grate::QuotaConfig> quotas) {
    grate::ProviderConfig provider{name};
    provider.priority = static_cast<std::uint32_t>(100 - capability.providers.size());
    provider.cooldown = 1s;
    provider.quotas = std::move(quotas);
    engine.upsert_provider(provider);
    capability.providers.push_back({name});
}

grate::QuotaConfig bucket(const Upstream &upstream, std::uint64_t factor) {
    grate::QuotaConfig quota;
    quota.strategy = grate::Strategy::token_bucket;
    quota.limit = factor * upstream.per_second;
    quota.window = 1s;
    quota.burst = factor * (upstream.burst + 1); // limit_req with "burst=B nodelay" is a bucket of B + 1
    return quota;
}

int demonstrate(bool wrong_quotas, bool with_dead) {
    const char *given = std::getenv("GRATE_UPSTREAMS");
    if (given == nullptr) throw std::runtime_error("GRATE_UPSTREAMS is missing: run it by scripts/with-upstreams.sh");
    std::istringstream bases(given);
    std::unordered_map<std::string, std::string> urls;
    grate::Engine engine;
    grate::CapabilityConfig capability{"answer"};
    if (with_dead) {
        urls["dead"] = "http://127.0.0.1:1";
        add(engine, capability, "dead", {});
    }
    for (const Upstream &upstream : upstreams) {
        if (!(bases >> urls[upstream.name])) throw std::runtime_error("GRATE_UPSTREAMS has too few URLs");
        add(engine, capability, upstream.name, {bucket(upstream, wrong_quotas ? 10 : 1)});
    }
    engine.upsert_capability(capability);

    std::vector<Answer> answers(rate * seconds);
    Answer malformed;
    {
        Client client(engine, "answer", urls);
        auto begin = Clock::now();
        for (std::size_t i = 0; i < answers.size(); ++i) client.get("/v1/answer", begin + i * 1s / rate, answers[i]);
        client.get("/a path that is none", begin, malformed);
        client.run();
    }

    auto served = std::count_if(answers.begin(), answers.end(), [](const Answer &a) { return a.status == 200; });
    grate::Metrics metrics = engine.metrics();
    for (const grate::CapabilityProvider &member : capability.providers) {
        grate::ProviderState state = engine.provider_state(member.provider);
        std::printf("%-8s %4llu attempts, %3llu refused, health %.2f\n", member.provider.c_str(),
                    static_cast<unsigned long long>(state.completions),
                    static_cast<unsigned long long>(state.rate_limited_responses), state.health);
    }
    std::printf("%zu requests, %lld answered, %llu attempts, %llu times 429, %llu leases left\n", answers.size(),
                static_cast<long long>(served), static_cast<unsigned long long>(metrics.completions),
                static_cast<unsigned long long>(metrics.rate_limited_responses),
                static_cast<unsigned long long>(metrics.leases_in_flight));
    if (metrics.leases_in_flight != 0) return 1;
    if (malformed.attempts != 1 || metrics.cancellations != 1) return 1; // it was given back
    if (with_dead && engine.provider_health("dead") >= 1) return 1;
    if (wrong_quotas) return metrics.rate_limited_responses > 0 && metrics.completions > answers.size() ? 0 : 1;
    return metrics.rate_limited_responses * 100 < metrics.completions && served == rate * seconds ? 0 : 1;
}

} // namespace

int main(int argc, char **argv) {
    try {
        bool wrong_quotas = false, dead = false;
        for (int i = 1; i < argc; ++i) {
            std::string_view option = argv[i];
            if (option == "--wrong-quotas") wrong_quotas = true;
            else if (option == "--dead") dead = true;
            else throw std::runtime_error("usage: router [--wrong-quotas] [--dead]");
        }
        CurlGlobal curl;
        return demonstrate(wrong_quotas, dead);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "router: %s\n", error.what());
        return 2;
    }
}
