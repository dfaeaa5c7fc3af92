/*
 * Replays the scenarios of conformance/ (its README has the format), given as arguments, through grate.hpp. Each is replayed
 * twice, and all decisions of both are compared bit for bit.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "grate.hpp"

extern "C" {
#include "json.h"
}

#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace std::chrono_literals;
using std::string;
using std::string_view;

constexpr std::size_t max_candidates = 64;
constexpr std::uint64_t default_unix_ms = 1767225600000;
constexpr double default_within = 1e-9;

/// What a failed check throws.
struct Mismatch : std::runtime_error {
    using std::runtime_error::runtime_error;
};

template <class... Parts> [[noreturn]] void fail(const Parts &...parts) {
    std::ostringstream text;
    text.precision(17);
    (text << ... << parts);
    throw Mismatch(text.str());
}

/* ---- Names ------------------------------------------------------------------------------------------------------ */

using grate::Circuit;
using grate::Dimension;
using grate::HeldBy;
using grate::Outcome;

const std::map<string_view, Dimension> dimensions = {
    {"requests", Dimension::requests},           {"tokens", Dimension::tokens},
    {"input_tokens", Dimension::input_tokens},   {"output_tokens", Dimension::output_tokens},
    {"concurrency", Dimension::concurrency},     {"bytes", Dimension::bytes},
    {"cost_micro_usd", Dimension::cost_micro_usd},
};
const std::map<string_view, HeldBy> holds = {
    {"nothing", HeldBy::nothing}, {"cooldown", HeldBy::cooldown},       {"health", HeldBy::health},
    {"quota", HeldBy::quota},     {"concurrency", HeldBy::concurrency}, {"probe", HeldBy::probe},
    {"exclusion", HeldBy::exclusion},
};
const std::map<string_view, Outcome> outcomes = {
    {"success", Outcome::success},           {"rate_limited", Outcome::rate_limited},
    {"forbidden", Outcome::forbidden},       {"quota_exhausted", Outcome::quota_exhausted},
    {"overloaded", Outcome::overloaded},     {"server_error", Outcome::server_error},
    {"timeout", Outcome::timeout},           {"client_error", Outcome::client_error},
    {"cancelled", Outcome::cancelled},
};
const std::map<string_view, Circuit> circuits = {
    {"closed", Circuit::closed},
    {"open", Circuit::open},
    {"half_open", Circuit::half_open},
    {"ramping", Circuit::ramping},
};

const std::set<string_view> request_keys = {"tokens", "input_tokens",   "output_tokens", "bytes",
                                            "cost_micro_usd", "headroom", "exclude"};
const std::set<string_view> response_keys = {"outcome", "http_status",  "latency_ms",    "retry_after_ms", "requests",
                                             "tokens",  "input_tokens", "output_tokens", "bytes",          "cost_micro_usd"};
const std::set<string_view> decision_keys = {"error",   "within",   "provider", "held_by", "held_dimension", "held_window_ns",
                                             "score",   "quota",    "health",   "priority", "latency",
                                             "seconds_to_exhaustion", "retry_after_ns", "weights"};
const std::set<string_view> component_keys = {"quota", "health", "priority", "latency"};

using Keys = std::initializer_list<string_view>;

std::set<string_view> operator+(std::set<string_view> keys, Keys more) {
    keys.insert(more);
    return keys;
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

string_view text_of(const json *node) { return {node->text, node->length}; }

const json *need(const json *object, const char *key) {
    const json *node = json_get(object, key);
    if (node == nullptr) fail("'", key, "' is missing");
    return node;
}

const char *name(const json *object, const char *key) {
    const char *string = json_string(need(object, key));
    if (string == nullptr) fail("'", key, "' is no string");
    return string;
}

std::uint64_t whole(const json *node) {
    std::uint64_t number = 0;
    if (!json_u64(node, &number)) fail("not a whole number: ", text_of(node));
    return number;
}

std::optional<std::uint64_t> given(const json *object, const char *key) {
    const json *node = json_get(object, key);
    return node == nullptr ? std::nullopt : std::optional(whole(node));
}

std::optional<grate::nanoseconds> given_ms(const json *object, const char *key) {
    std::optional<std::uint64_t> ms = given(object, key);
    return ms ? std::optional<grate::nanoseconds>(*ms * 1ms) : std::nullopt;
}

template <class T> T named(const std::map<string_view, T> &table, const json *node) {
    const char *string = json_string(node);
    auto found = table.find(string != nullptr ? string : "");
    if (found == table.end()) fail("unknown name: ", text_of(node));
    return found->second;
}

/// A misspelt key would be a check that is never made.
void only(const json *object, const std::set<string_view> &keys) {
    if (object == nullptr || object->type != JSON_OBJECT) fail("an object is missing");
    for (const json *member = object->child; member != nullptr; member = member->next)
        if (keys.count(member->key) == 0) fail("unknown key '", member->key, "'");
}

/* ---- Comparisons ------------------------------------------------------------------------------------------------ */

bool is_never(const json *expected) { return expected->type == JSON_STRING && string_view(expected->string) == "never"; }

void compare(const char *what, const json *expected, std::uint64_t got) {
    bool fits;
    if (is_never(expected)) {
        fits = got == GRATE_NEVER;
    } else if (expected->type == JSON_OBJECT) {
        only(expected, {"min", "max"});
        fits = given(expected, "min").value_or(0) <= got && got <= given(expected, "max").value_or(UINT64_MAX);
    } else {
        fits = whole(expected) == got;
    }
    if (!fits) fail(what, ": expected ", text_of(expected), ", got ", got);
}

void compare(const char *what, const json *expected, double got, double within) {
    bool fits;
    if (is_never(expected)) {
        fits = std::isinf(got) && got > 0;
    } else if (expected->type == JSON_OBJECT) {
        only(expected, {"min", "max"});
        const json *min = json_get(expected, "min"), *max = json_get(expected, "max");
        fits = !std::isnan(got) && (min == nullptr || got >= min->number) && (max == nullptr || got <= max->number);
    } else {
        fits = expected->type == JSON_NUMBER && std::fabs(got - expected->number) <= within;
    }
    if (!fits) fail(what, ": expected ", text_of(expected), " within ", within, ", got ", got);
}

/// A wait as the scenarios have it: the library's number for "never" is not the one of std::chrono.
std::uint64_t to_u64(grate::nanoseconds time) {
    return time == grate::never ? GRATE_NEVER : static_cast<std::uint64_t>(time.count());
}

double within_of(const json *object) {
    const json *within = json_get(object, "within");
    return within != nullptr ? within->number : default_within;
}

void compare_status(const json *expected, const grate::Status &status) {
    string_view want = expected != nullptr && json_string(expected) != nullptr ? json_string(expected) : "GRATE_OK";
    if (want != to_string(status.code()))
        fail("expected ", want, ", got ", to_string(status.code()), " (", status.message(), ")");
    if (status.ok() != status.message().empty()) fail(want, " with the message '", status.message(), "'");
}

/* ---- A replay --------------------------------------------------------------------------------------------------- */

class Replay {
public:
    explicit Replay(const json *scenario) : clock_(unix_time(scenario)) {
        only(scenario, {"name", "about", "unix_ms", "config", "steps"});
        grate::EngineConfig config;
        config.clock = &clock_;
        engine_ = grate::Engine(config);
        engine_.configure_json(text_of(need(scenario, "config")));
        steps(need(scenario, "steps"), "");
    }

    /// Every bit of every decision.
    const string &trace() const { return trace_; }

private:
    static std::chrono::milliseconds unix_time(const json *scenario) {
        return std::chrono::milliseconds(given(scenario, "unix_ms").value_or(default_unix_ms));
    }

    void steps(const json *all, const string &inside) {
        if (all->type != JSON_ARRAY) fail("'steps' is no array");
        int i = 1;
        for (const json *step = all->child; step != nullptr; step = step->next, ++i) {
            const json *verb = step->child;
            if (step->type != JSON_OBJECT || verb == nullptr || verb->next != nullptr) fail(inside, "step ", i, " has one verb");
            string here = inside + "step " + std::to_string(i) + " (" + verb->key + ")";
            if (string_view(verb->key) == "repeat") {
                only(verb, {"times", "steps"});
                for (std::uint64_t turn = 1; turn <= whole(need(verb, "times")); ++turn)
                    steps(need(verb, "steps"), here + ", round " + std::to_string(turn) + ", ");
                continue;
            }
            try {
                one(verb->key, verb);
            } catch (const std::exception &mismatch) {
                fail(here, ": ", mismatch.what());
            }
        }
    }

    void one(string_view verb, const json *a) {
        if (verb == "advance") return advance(a);
        if (verb == "set_ns") {
            only(a, {"ns"});
            return clock_.set(grate::nanoseconds(whole(need(a, "ns"))));
        }
        if (verb == "select") return select(a);
        if (verb == "acquire") return acquire(a);
        if (verb == "complete") {
            only(a, response_keys + Keys{"lease", "expect"});
            return settled(a, engine_.try_complete(lease(a), response(a)));
        }
        if (verb == "cancel") {
            only(a, {"lease", "expect"});
            return settled(a, engine_.try_cancel(lease(a)));
        }
        if (verb == "observe") {
            only(a, response_keys + Keys{"provider", "expect"});
            return settled(a, engine_.try_observe(name(a, "provider"), response(a)));
        }
        if (verb == "configure") {
            only(a, {"config", "text", "expect"});
            const json *text = json_get(a, "text");
            return settled(a, engine_.try_configure_json(text != nullptr ? name(a, "text") : text_of(need(a, "config"))));
        }
        if (verb == "remove_provider" || verb == "remove_capability") {
            only(a, {"name", "expect"});
            bool provider = verb == "remove_provider";
            return settled(a, provider ? engine_.try_remove_provider(name(a, "name"))
                                       : engine_.try_remove_capability(name(a, "name")));
        }
        if (verb == "check_health") {
            only(a, {"provider", "value", "within", "error"});
            double health = NAN;
            grate::Status status = engine_.try_provider_health(name(a, "provider"), health);
            compare_status(json_get(a, "error"), status);
            if (status.ok()) compare("health", need(a, "value"), health, within_of(a));
            return;
        }
        if (verb == "check_remaining") {
            only(a, {"provider", "dimension", "value", "error"});
            std::uint64_t left = 0;
            Dimension dimension = named(dimensions, need(a, "dimension"));
            grate::Status status = engine_.try_remaining_quota(name(a, "provider"), dimension, left);
            compare_status(json_get(a, "error"), status);
            if (status.ok()) compare("remaining", need(a, "value"), left);
            return;
        }
        if (verb == "check_in_cooldown") {
            only(a, {"provider", "value"});
            bool cooling = engine_.provider_in_cooldown(name(a, "provider"));
            if (cooling != (need(a, "value")->type == JSON_TRUE)) fail("in cooldown: got ", cooling);
            return;
        }
        if (verb == "check_circuit") {
            only(a, {"provider", "value"});
            if (engine_.provider_state(name(a, "provider")).circuit != named(circuits, need(a, "value")))
                fail("circuit: it is not ", text_of(need(a, "value")));
            return;
        }
        if (verb == "check_metrics") return check_metrics(a);
        fail("unknown verb");
    }

    void advance(const json *a) {
        only(a, {"secs", "ms", "ns"});
        clock_.advance(std::chrono::seconds(given(a, "secs").value_or(0)));
        clock_.advance(std::chrono::milliseconds(given(a, "ms").value_or(0)));
        if (auto ns = given(a, "ns")) clock_.set(clock_.now() + grate::nanoseconds(*ns));
    }

    static grate::Request request(const json *a) {
        grate::Request request;
        request.tokens = given(a, "tokens");
        request.input_tokens = given(a, "input_tokens");
        request.output_tokens = given(a, "output_tokens");
        request.bytes = given(a, "bytes");
        request.cost_micro_usd = given(a, "cost_micro_usd");
        if (const json *headroom = json_get(a, "headroom")) request.headroom = headroom->number;
        if (const json *exclude = json_get(a, "exclude"))
            for (const json *one = exclude->child; one != nullptr; one = one->next) request.exclude.add(json_string(one));
        return request;
    }

    static grate::Response response(const json *a) {
        grate::Response response;
        if (const json *outcome = json_get(a, "outcome")) response.outcome = named(outcomes, outcome);
        response.http_status = static_cast<int>(given(a, "http_status").value_or(0));
        response.latency = given_ms(a, "latency_ms");
        response.retry_after = given_ms(a, "retry_after_ms");
        response.requests = given(a, "requests");
        response.tokens = given(a, "tokens");
        response.input_tokens = given(a, "input_tokens");
        response.output_tokens = given(a, "output_tokens");
        response.bytes = given(a, "bytes");
        response.cost_micro_usd = given(a, "cost_micro_usd");
        return response;
    }

    void select(const json *a) {
        grate::Candidates candidates(max_candidates);
        grate::Decision decision;
        grate::Status status = engine_.try_select(name(a, "capability"), request(a), decision, &candidates);
        decided(a, status, decision, candidates, false);
    }

    void acquire(const json *a) {
        grate::Candidates candidates(max_candidates);
        grate::Lease lease;
        grate::Status status = engine_.try_acquire(name(a, "capability"), request(a), lease, &candidates);
        decided(a, status, lease, candidates, static_cast<bool>(lease));
        std::uint64_t id = lease.release(); // or it would be given back here
        if (json_get(a, "as") != nullptr) leases_[name(a, "as")] = id;
    }

    template <class D>
    void decided(const json *a, const grate::Status &status, const D &decision, const grate::Candidates &candidates,
                 bool leased) {
        only(a, request_keys + Keys{"capability", "as", "expect"});
        const json *expect = json_get(a, "expect");
        if (expect != nullptr) only(expect, decision_keys + Keys{"candidates"});
        compare_status(json_get(expect, "error"), status);
        bool acquires = std::is_same_v<D, grate::Lease>;
        if (leased != (acquires && status.ok())) fail("a lease: ", leased);
        if (!status.ok() && status.code() != grate::Code::no_provider_available) return;
        if (status.ok() && (decision.held_by() != HeldBy::nothing || decision.retry_after() != 0ns))
            fail("chosen, but held by ", to_string(decision.held_by()));
        sane(decision);
        for (const grate::Candidate &candidate : candidates) sane(candidate);
        if (expect == nullptr) return;
        matches(expect, decision);
        if (const json *rows = json_get(expect, "candidates")) {
            std::size_t i = 0;
            for (const json *row = rows->child; row != nullptr; row = row->next, ++i) {
                const char *want = row->type == JSON_OBJECT ? name(row, "provider") : json_string(row);
                if (want == nullptr || i >= candidates.size() || candidates[i].provider() != want)
                    fail("candidate ", i + 1, ": expected ", text_of(row), ", got ",
                         i < candidates.size() ? candidates[i].provider().c_str() : "no more");
                if (row->type != JSON_OBJECT) continue;
                only(row, decision_keys);
                matches(row, candidates[i]);
            }
            if (i != candidates.size()) fail("candidates: expected ", i, ", got ", candidates.size());
        }
    }

    /// What holds of every decision; and remembers it.
    template <class Row> void sane(const Row &row) {
        const double shares[] = {row.score(), row.quota_score(), row.health_score(), row.priority_score(), row.latency_score()};
        for (double share : shares)
            if (!(share >= 0 && share <= 1)) fail("score and components of '", row.provider(), "': ", share);
        remember(shares);
        remember(row.time_to_exhaustion().count());
        remember(row.retry_after().count());
        remember(row.held_by());
        remember(row.held_dimension() ? *row.held_dimension() : Dimension{});
        remember(row.held_window().count());
        trace_.append(row.provider()).push_back('\0');
    }

    template <class T> void remember(const T &value) { trace_.append(reinterpret_cast<const char *>(&value), sizeof value); }

    template <class Row> static void matches(const json *expect, const Row &row) {
        double within = within_of(expect);
        if (const json *node = json_get(expect, "provider")) {
            const char *want = json_string(node);
            if (row.provider() != (want != nullptr ? want : ""))
                fail("provider: expected ", text_of(node), ", got '", row.provider(), "'");
        }
        if (const json *node = json_get(expect, "held_by"))
            if (row.held_by() != named(holds, node))
                fail("held_by: expected ", text_of(node), ", got ", to_string(row.held_by()));
        if (const json *node = json_get(expect, "held_dimension")) {
            std::optional<Dimension> want;
            if (node->type != JSON_NULL) want = named(dimensions, node);
            if (row.held_dimension() != want) fail("held_dimension: it is not ", text_of(node));
        }
        if (const json *node = json_get(expect, "held_window_ns")) compare("held_window_ns", node, to_u64(row.held_window()));
        if (const json *node = json_get(expect, "retry_after_ns")) compare("retry_after_ns", node, to_u64(row.retry_after()));
        const std::pair<const char *, double> values[] = {
            {"quota", row.quota_score()},   {"health", row.health_score()}, {"priority", row.priority_score()},
            {"latency", row.latency_score()}, {"score", row.score()},
            {"seconds_to_exhaustion", row.time_to_exhaustion().count()}};
        for (const auto &[what, got] : values)
            if (const json *node = json_get(expect, what)) compare(what, node, got, within);
        if (const json *weights = json_get(expect, "weights")) {
            only(weights, component_keys);
            double sum = 0;
            for (const auto &[what, got] : values)
                if (component_keys.count(what) != 0) sum += need(weights, what)->number * got;
            if (!(std::fabs(sum - row.score()) <= within)) fail("the weighted components are ", sum, ", the score ", row.score());
        }
    }

    std::uint64_t lease(const json *a) const {
        const json *node = need(a, "lease");
        const char *as = json_string(node);
        if (as == nullptr) return whole(node);
        auto found = leases_.find(as);
        if (found == leases_.end()) fail("no lease is called '", as, "'");
        return found->second;
    }

    static void settled(const json *a, const grate::Status &status) {
        const json *expect = json_get(a, "expect");
        if (expect != nullptr) only(expect, {"error"});
        compare_status(json_get(expect, "error"), status);
    }

    void check_metrics(const json *a) const {
        std::map<string_view, std::uint64_t> counters;
        if (json_get(a, "provider") != nullptr) {
            grate::ProviderState p = engine_.provider_state(name(a, "provider"));
            counters = {{"selects", p.selects},
                        {"acquires", p.acquires},
                        {"completions", p.completions},
                        {"cancellations", p.cancellations},
                        {"expired_leases", p.expired_leases},
                        {"observations", p.observations},
                        {"cooldowns_triggered", p.cooldowns_triggered},
                        {"rate_limited_responses", p.rate_limited_responses},
                        {"leases_in_flight", p.leases_in_flight},
                        {"consecutive_failures", p.consecutive_failures}};
        } else {
            grate::Metrics m = engine_.metrics();
            counters = {{"selects", m.selects},
                        {"acquires", m.acquires},
                        {"completions", m.completions},
                        {"cancellations", m.cancellations},
                        {"expired_leases", m.expired_leases},
                        {"observations", m.observations},
                        {"cooldowns_triggered", m.cooldowns_triggered},
                        {"rate_limited_responses", m.rate_limited_responses},
                        {"leases_in_flight", m.leases_in_flight},
                        {"none_available", m.none_available},
                        {"capped_waits", m.capped_waits}};
        }
        for (const json *member = a->child; member != nullptr; member = member->next) {
            if (string_view(member->key) == "provider") continue;
            auto found = counters.find(member->key);
            if (found == counters.end()) fail("unknown counter '", member->key, "'");
            compare(member->key, member, found->second);
        }
    }

    grate::MockClock clock_;
    grate::Engine engine_{nullptr};
    std::map<string, std::uint64_t> leases_;
    string trace_;
};

} // namespace

int main(int argc, char **argv) {
    unsigned long passed = 0, failed = 0;
    for (int i = 1; i < argc; ++i) {
        std::ifstream stream(argv[i], std::ios::binary);
        string document{std::istreambuf_iterator<char>(stream), {}};
        const char *error = "";
        std::unique_ptr<json, void (*)(json *)> file(json_parse(document.c_str(), &error), json_free);
        if (!file || file->type != JSON_ARRAY) {
            std::fprintf(stderr, "%s: cannot be read as an array of scenarios, at '%.40s'\n", argv[i], error);
            ++failed;
            continue;
        }
        for (const json *scenario = file->child; scenario != nullptr; scenario = scenario->next) {
            try {
                if (Replay(scenario).trace() != Replay(scenario).trace()) fail("a second replay gave other decisions");
                ++passed;
            } catch (const std::exception &mismatch) {
                const char *name = json_string(json_get(scenario, "name"));
                std::fprintf(stderr, "%s: '%s', %s\n", argv[i], name != nullptr ? name : "?", mismatch.what());
                ++failed;
            }
        }
    }
    std::printf("cpp_conformance: %lu passed, %lu failed\nconformance: %lu scenarios\n", passed, failed, passed + failed);
    return failed == 0 && passed > 0 ? 0 : 1;
}
