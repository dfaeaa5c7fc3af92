/* Tests of grate.hpp. Compiles with and without exceptions; without them only the try_ calls are there to be tested. */
#include "grate.hpp"

#include "check.h"

#include <array>
#include <cmath>
#include <cstdlib>
#include <new>
#include <string>
#include <thread>
#include <type_traits>
#include <unordered_map>

using namespace std::chrono_literals;
using grate::Code;
using grate::Dimension;
using grate::HeldBy;
using grate::Outcome;
using grate::Response;

/* Counts what the C++ side allocates; Rust has its own allocator. Sanitizers bring their own operators, and valgrind wants
 * to see both calls, so they must not be inlined. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__GNUC__)
#define NOT_INLINED __attribute__((noinline))
#else
#define NOT_INLINED
#endif

static std::size_t allocations;
#ifndef SANITIZED
NOT_INLINED void *operator new(std::size_t size) {
    ++allocations;
    if (void *at = std::malloc(size)) return at;
    std::abort();
}
NOT_INLINED void operator delete(void *at) noexcept { std::free(at); }
NOT_INLINED void operator delete(void *at, std::size_t) noexcept { std::free(at); }
#endif

static_assert(std::is_nothrow_move_constructible_v<grate::Engine> && std::is_nothrow_move_assignable_v<grate::Engine>);
static_assert(std::is_nothrow_move_constructible_v<grate::Lease> && std::is_nothrow_move_assignable_v<grate::Lease>);
static_assert(!std::is_copy_constructible_v<grate::Engine> && !std::is_copy_assignable_v<grate::Engine>);
static_assert(!std::is_copy_constructible_v<grate::Lease> && !std::is_copy_assignable_v<grate::Lease>);
static_assert(!std::is_move_constructible_v<grate::MockClock> && !std::is_copy_constructible_v<grate::MockClock>);
static_assert(!std::is_convertible_v<grate::Lease, grate::Decision>, "a decision that outlives its lease is a trap");
static_assert(!std::is_convertible_v<std::string_view, grate::cstring_ref>, "has no NUL");
static_assert(std::is_convertible_v<grate::Name, grate::cstring_ref>);
static_assert(std::is_aggregate_v<grate::Response> && std::is_aggregate_v<grate::Request> &&
              std::is_aggregate_v<grate::EngineConfig> && std::is_aggregate_v<grate::ProviderConfig>);

namespace {

bool ok(const grate::Status &status) {
    if (!status.ok()) std::fprintf(stderr, "  %s: %s\n", to_string(status.code()), status.message().data());
    return status.ok();
}

std::int32_t code(const grate::Status &status) { return static_cast<std::int32_t>(status.code()); }

grate::QuotaConfig per_minute(std::uint64_t limit, Dimension dimension = Dimension::requests) {
    grate::QuotaConfig quota;
    quota.dimension = dimension;
    quota.limit = limit;
    quota.window = 1min;
    return quota;
}

grate::QuotaConfig slots(std::uint64_t limit) {
    grate::QuotaConfig quota;
    quota.dimension = Dimension::concurrency;
    quota.limit = limit;
    return quota;
}

/* An engine at a mock clock with `primary` and `backup`, which serve "api". */
struct Fixture {
    grate::MockClock clock{1700000000000ms};
    grate::Engine engine{nullptr};

    explicit Fixture(std::vector<grate::QuotaConfig> primary = {per_minute(2)}) {
        grate::EngineConfig config;
        config.clock = &clock;
        CHECK(ok(grate::Engine::try_create(config, engine)));
        CHECK(ok(engine.try_upsert_provider({"primary", 10, std::move(primary), 0, 30s})));
        CHECK(ok(engine.try_upsert_provider({"backup", 5, {per_minute(100)}, 0, 30s})));
        CHECK(ok(engine.try_upsert_capability({"api", {{"primary"}, {"backup"}}})));
        CHECK(ok(engine.try_upsert_capability({"solo", {{"primary"}}})));
    }
    grate::Metrics metrics() const {
        grate::Metrics out{};
        CHECK(ok(engine.try_metrics(out)));
        return out;
    }
    std::uint64_t remaining(const char *provider, Dimension dimension = Dimension::requests) const {
        std::uint64_t out = 0;
        CHECK(ok(engine.try_remaining_quota(provider, dimension, out)));
        return out;
    }
};

} // namespace

TEST(the_documented_example) {
    Fixture f;
    Response refused{Outcome::rate_limited};
    refused.latency = 50ms;
    refused.requests = 1;
    for (int i = 0; i < 3; ++i) {
        f.clock.advance(1s);
        CHECK(ok(f.engine.try_observe("primary", refused)));
    }
    grate::Decision decision;
    CHECK(ok(f.engine.try_select("api", {}, decision)));
    CHECK_STR(decision.provider().c_str(), "backup");
    bool cooling = false;
    CHECK(ok(f.engine.try_provider_in_cooldown("primary", cooling)));
    CHECK(cooling);
    double health = 2;
    CHECK(ok(f.engine.try_provider_health("primary", health)));
    CHECK(health > 0 && health < 1);

    f.clock.advance(60s);
    CHECK(ok(f.engine.try_select("api", {}, decision)));
    CHECK_STR(decision.provider().c_str(), "primary");
    CHECK(ok(f.engine.try_provider_in_cooldown("primary", cooling)));
    CHECK(!cooling);
}

TEST(a_decision_explains_itself) {
    Fixture f;
    grate::Decision decision;
    CHECK(ok(f.engine.try_select("api", {}, decision)));
    CHECK(decision.provider() == "primary");
    CHECK(decision.held_by() == HeldBy::nothing);
    CHECK(!decision.held_dimension());
    CHECK(decision.retry_after() == 0ns);
    CHECK(decision.held_window() == 0ns);
    CHECK_NEAR(decision.score(),
               0.40 * decision.quota_score() + 0.35 * decision.health_score() + 0.20 * decision.priority_score() +
                   0.05 * decision.latency_score(),
               1e-12);
    CHECK(std::isinf(decision.time_to_exhaustion().count()) || decision.time_to_exhaustion() > 0s);
    CHECK_EQ_U64(f.metrics().selects, 1);
    CHECK_EQ_U64(f.metrics().acquires, 0);

    /* Names go out as string_views and can go in again. */
    std::unordered_map<std::string_view, int> sent;
    ++sent[decision.provider()];
    CHECK(std::string(decision.provider()) == "primary");
    CHECK(ok(f.engine.try_observe(decision.provider(), {Outcome::success})));
}

TEST(an_unsettled_lease_is_cancelled) {
    Fixture f({per_minute(2), slots(1)});
    {
        grate::Lease lease;
        CHECK(!lease);
        CHECK(ok(f.engine.try_acquire("solo", {}, lease)));
        CHECK(lease);
        CHECK(lease.id() != 0);
        CHECK_STR(lease.provider().c_str(), "primary");
        CHECK_EQ_U64(f.remaining("primary"), 1);
        CHECK_EQ_U64(f.metrics().leases_in_flight, 1);

        grate::Lease second;
        CHECK_EQ_I32(code(f.engine.try_acquire("solo", {}, second)), GRATE_ERR_NO_PROVIDER_AVAILABLE);
        CHECK(!second);
        CHECK(second.held_by() == HeldBy::concurrency);
        CHECK(second.held_dimension() == Dimension::concurrency);
    }
    CHECK_EQ_U64(f.remaining("primary"), 2);
    CHECK_EQ_U64(f.metrics().leases_in_flight, 0);
    CHECK_EQ_U64(f.metrics().cancellations, 1);
    CHECK_EQ_U64(f.metrics().completions, 0);
}

TEST(a_settled_lease_stays_settled) {
    Fixture f;
    std::uint64_t id = 0;
    {
        grate::Lease lease;
        CHECK(ok(f.engine.try_acquire("solo", {}, lease)));
        id = lease.id();
        f.clock.advance(120ms);
        CHECK(ok(lease.try_complete(Response::http(200))));
        CHECK(!lease);
        CHECK_EQ_I32(code(lease.try_complete(Response::http(200))), GRATE_ERR_STALE_LEASE);
        CHECK_EQ_I32(code(lease.try_cancel()), GRATE_ERR_STALE_LEASE);
    }
    CHECK_EQ_I32(code(f.engine.try_complete(id, Response::http(200))), GRATE_ERR_STALE_LEASE);
    CHECK_EQ_U64(f.metrics().completions, 1);
    CHECK_EQ_U64(f.metrics().cancellations, 0);
    CHECK_EQ_U64(f.remaining("primary"), 1);

    grate::ProviderState state{};
    CHECK(ok(f.engine.try_provider_state("primary", state)));
    CHECK(state.latency == 120ms);
}

TEST(a_refused_response_leaves_the_lease) {
    Fixture f;
    grate::Lease lease;
    CHECK(ok(f.engine.try_acquire("solo", {}, lease)));
    CHECK_EQ_I32(code(lease.try_complete(Response::http(42))), GRATE_ERR_INVALID_ARGUMENT);
    CHECK(lease);
    CHECK_EQ_I32(code(lease.try_complete({})), GRATE_ERR_INVALID_ARGUMENT);
    CHECK(ok(lease.try_complete(Response::http(200))));
    CHECK_EQ_U64(f.metrics().completions, 1);
}

TEST(a_released_lease_is_settled_by_its_id) {
    Fixture f({per_minute(2), slots(1)});
    std::uint64_t id = 0;
    {
        grate::Lease lease;
        CHECK(ok(f.engine.try_acquire("solo", {}, lease)));
        id = lease.release();
        CHECK(!lease);
        CHECK_EQ_U64(lease.release(), 0);
    }
    CHECK_EQ_U64(f.metrics().leases_in_flight, 1);
    CHECK(ok(f.engine.try_complete(id, {Outcome::success})));
    CHECK_EQ_U64(f.metrics().leases_in_flight, 0);

    grate::Lease lease;
    CHECK(ok(f.engine.try_acquire("solo", {}, lease)));
    id = lease.release();
    CHECK(ok(f.engine.try_cancel(id)));
    CHECK_EQ_I32(code(f.engine.try_cancel(id)), GRATE_ERR_STALE_LEASE);
    CHECK_EQ_I32(code(f.engine.try_cancel(0)), GRATE_ERR_STALE_LEASE);
    CHECK_EQ_I32(code(f.engine.try_cancel(UINT64_MAX)), GRATE_ERR_STALE_LEASE);
}

TEST(a_lease_expires) {
    Fixture f({per_minute(2), slots(1)});
    grate::Lease lease;
    CHECK(ok(f.engine.try_acquire("solo", {}, lease)));
    f.clock.advance(std::chrono::minutes(11));
    CHECK_EQ_I32(code(lease.try_complete({Outcome::success})), GRATE_ERR_STALE_LEASE);
    CHECK(!lease);
    CHECK_EQ_U64(f.metrics().expired_leases, 1);
    CHECK_EQ_U64(f.metrics().leases_in_flight, 0);
}

TEST(leases_move) {
    Fixture f({per_minute(10), slots(10)});
    grate::Lease a;
    CHECK(ok(f.engine.try_acquire("solo", {}, a)));
    std::uint64_t id = a.id();

    grate::Lease b(std::move(a));
    CHECK(!a);
    CHECK_EQ_U64(b.id(), id);
    CHECK_STR(b.provider().c_str(), "primary");

    /* Into itself: nothing happens. The reference hides it from the compiler's warning. */
    grate::Lease &self = b;
    b = std::move(self);
    CHECK_EQ_U64(b.id(), id);
    CHECK_EQ_U64(f.metrics().leases_in_flight, 1);

    /* Onto another: that one is cancelled. */
    grate::Lease c;
    CHECK(ok(f.engine.try_acquire("solo", {}, c)));
    CHECK_EQ_U64(f.metrics().leases_in_flight, 2);
    c = std::move(b);
    CHECK_EQ_U64(c.id(), id);
    CHECK(!b);
    CHECK_EQ_U64(f.metrics().leases_in_flight, 1);
    CHECK_EQ_U64(f.metrics().cancellations, 1);

    /* Acquiring into a lease that holds one does the same. */
    CHECK(ok(f.engine.try_acquire("solo", {}, c)));
    CHECK(c.id() != id);
    CHECK_EQ_U64(f.metrics().leases_in_flight, 1);
    CHECK_EQ_U64(f.metrics().cancellations, 2);

    std::vector<grate::Lease> many;
    for (int i = 0; i < 5; ++i) {
        grate::Lease lease;
        CHECK(ok(f.engine.try_acquire("solo", {}, lease)));
        many.push_back(std::move(lease));
    }
    CHECK_EQ_U64(f.metrics().leases_in_flight, 6);
    many.clear();
    CHECK_EQ_U64(f.metrics().leases_in_flight, 1);
}

TEST(engines_move_under_their_leases) {
    Fixture f;
    grate::Lease lease;
    CHECK(ok(f.engine.try_acquire("solo", {}, lease)));
    grate::Name name = lease.provider();

    grate::Engine moved(std::move(f.engine));
    CHECK(f.engine.raw() == nullptr);
    double health = 0;
    CHECK_EQ_I32(code(f.engine.try_provider_health("primary", health)), GRATE_ERR_NULL_POINTER);
    grate::Engine &self = moved;
    moved = std::move(self);
    CHECK(moved.raw() != nullptr);
    CHECK(ok(lease.try_complete({Outcome::success})));
    CHECK_STR(name.c_str(), "primary");
    CHECK(ok(moved.try_provider_health(name, health)));
    CHECK_NEAR(health, 1.0, 1e-12);
    f.engine = std::move(moved);
    CHECK_EQ_U64(f.metrics().completions, 1);
}

TEST(nothing_available_says_what_and_when) {
    Fixture f;
    for (int i = 0; i < 2; ++i) {
        grate::Lease lease;
        CHECK(ok(f.engine.try_acquire("solo", {}, lease)));
        CHECK(ok(lease.try_complete({Outcome::success})));
    }
    grate::Decision decision;
    grate::Status status = f.engine.try_select("solo", {}, decision);
    CHECK_EQ_I32(code(status), GRATE_ERR_NO_PROVIDER_AVAILABLE);
    CHECK(!status.message().empty());
    CHECK_STR(to_string(status.code()), "GRATE_ERR_NO_PROVIDER_AVAILABLE");
    CHECK(decision.provider() == "primary");
    CHECK(decision.held_by() == HeldBy::quota);
    CHECK(decision.held_dimension() == Dimension::requests);
    CHECK(decision.held_window() == 1min);
    CHECK(decision.retry_after() > 0ns && decision.retry_after() <= 1min + 50ms);
    CHECK_STR(to_string(decision.held_by()), "quota");
    CHECK_STR(to_string(*decision.held_dimension()), "requests");

    /* The time it names is exact: a nanosecond before is too early. */
    grate::nanoseconds free_at = f.clock.now() + decision.retry_after();
    f.clock.set(free_at - 1ns);
    CHECK_EQ_I32(code(f.engine.try_select("solo", {}, decision)), GRATE_ERR_NO_PROVIDER_AVAILABLE);
    CHECK(decision.retry_after() == 1ns);
    f.clock.set(free_at);
    CHECK(ok(f.engine.try_select("solo", {}, decision)));

    /* An empty capability will never have one. */
    CHECK(ok(f.engine.try_upsert_capability({"empty"})));
    CHECK_EQ_I32(code(f.engine.try_select("empty", {}, decision)), GRATE_ERR_NO_PROVIDER_AVAILABLE);
    CHECK(decision.provider().empty());
    CHECK(decision.retry_after() == grate::never);
}

TEST(excluded_providers_are_not_chosen) {
    Fixture f;
    grate::Request request;
    grate::Decision decision;
    request.exclude.add("primary");
    CHECK(ok(f.engine.try_select("api", request, decision)));
    CHECK(decision.provider() == "backup");
    request.exclude.add(decision.provider());
    CHECK_EQ_U64(request.exclude.size(), 2);
    CHECK_EQ_I32(code(f.engine.try_select("api", request, decision)), GRATE_ERR_NO_PROVIDER_AVAILABLE);
    CHECK(decision.held_by() == HeldBy::exclusion);
    CHECK(decision.retry_after() == grate::never);

    request.exclude.clear();
    CHECK(ok(f.engine.try_select("api", request, decision)));
    CHECK(decision.provider() == "primary");
    request.exclude = {"unknown", "primary"};
    grate::Request copy = request;
    CHECK(ok(f.engine.try_select("api", copy, decision)));
    CHECK(decision.provider() == "backup");

    for (int i = 0; i < 100; ++i) request.exclude.add("nobody");
    CHECK_EQ_I32(code(f.engine.try_select("api", request, decision)), GRATE_ERR_INVALID_ARGUMENT);
}

TEST(candidates_are_ranked) {
    Fixture f;
    grate::Candidates candidates(4);
    CHECK_EQ_U64(candidates.size(), 0);
    grate::Decision decision;
    CHECK(ok(f.engine.try_select("api", {}, decision, &candidates)));
    CHECK_EQ_U64(candidates.size(), 2);
    CHECK_EQ_U64(candidates.total(), 2);
    CHECK(candidates[0].provider() == "primary");
    CHECK_EQ_U64(candidates[0].index(), 0);
    CHECK_EQ_U64(candidates[1].index(), 1);
    CHECK(candidates[0].score() == decision.score());
    CHECK(candidates[0].score() > candidates[1].score());
    int seen = 0;
    for (const grate::Candidate &candidate : candidates) {
        CHECK(candidate.held_by() == HeldBy::nothing);
        ++seen;
    }
    CHECK_EQ_I32(seen, 2);

    grate::Request request;
    request.exclude = {"primary"};
    grate::Lease lease;
    CHECK(ok(f.engine.try_acquire("api", request, lease, &candidates)));
    CHECK(lease.provider() == "backup");
    CHECK(candidates[0].provider() == "backup");
    CHECK(candidates[1].held_by() == HeldBy::exclusion);
    CHECK(candidates[1].retry_after() == grate::never);

    grate::Candidates one(1);
    CHECK(ok(f.engine.try_select("api", {}, decision, &one)));
    CHECK_EQ_U64(one.size(), 1);
    CHECK_EQ_U64(one.total(), 2);
    CHECK(one[0].provider() == decision.provider());

    /* A call that fails leaves no stale rows behind. */
    CHECK_EQ_I32(code(f.engine.try_select("nowhere", {}, decision, &candidates)), GRATE_ERR_UNKNOWN_CAPABILITY);
    CHECK_EQ_U64(candidates.size(), 0);
    grate::Candidates none(0);
    CHECK(ok(f.engine.try_select("api", {}, decision, &none)));
    CHECK_EQ_U64(none.size(), 0);

    /* One that was moved from has no rows, and is of use again when another moves in. */
    CHECK(ok(f.engine.try_select("api", {}, decision, &candidates)));
    grate::Candidates moved(std::move(candidates));
    CHECK_EQ_U64(moved.size(), 2);
    CHECK(candidates.begin() == candidates.end());
    CHECK_EQ_U64(candidates.size(), 0);
    CHECK_EQ_U64(candidates.total(), 0);
    CHECK(ok(f.engine.try_select("api", {}, decision, &candidates)));
    CHECK_EQ_U64(candidates.size(), 0);
    candidates = std::move(moved);
    CHECK_EQ_U64(candidates.size(), 2);
    CHECK(moved.begin() == moved.end());
    grate::Candidates &self = candidates;
    candidates = std::move(self);
    CHECK_EQ_U64(candidates.size(), 2);
    CHECK(candidates[1].provider() == "backup");
}

TEST(estimates_and_usage) {
    Fixture f({per_minute(1000, Dimension::tokens)});
    grate::Request request;
    request.input_tokens = 300;
    request.output_tokens = 100;
    grate::Lease lease;
    CHECK(ok(f.engine.try_acquire("solo", request, lease)));
    CHECK_EQ_U64(f.remaining("primary", Dimension::tokens), 600);
    Response response{Outcome::success};
    response.tokens = 250;
    CHECK(ok(lease.try_complete(response)));
    CHECK_EQ_U64(f.remaining("primary", Dimension::tokens), 750);

    /* A true zero is not "as estimated". */
    CHECK(ok(f.engine.try_acquire("solo", request, lease)));
    response.tokens = 0;
    CHECK(ok(lease.try_complete(response)));
    CHECK_EQ_U64(f.remaining("primary", Dimension::tokens), 750);
    CHECK(ok(f.engine.try_acquire("solo", request, lease)));
    CHECK(ok(lease.try_complete({Outcome::success})));
    CHECK_EQ_U64(f.remaining("primary", Dimension::tokens), 350);

    request = {};
    request.tokens = 300;
    request.headroom = 0.3;
    CHECK_EQ_I32(code(f.engine.try_acquire("solo", request, lease)), GRATE_ERR_NO_PROVIDER_AVAILABLE);
    request.headroom = 0;
    CHECK(ok(f.engine.try_acquire("solo", request, lease)));
    CHECK_EQ_U64(f.remaining("primary", Dimension::bytes), grate::unlimited);
}

TEST(retry_after_of_a_response) {
    Fixture f;
    Response response = Response::http(429);
    response.retry_after = 90s;
    response.latency = -5ms; /* clocks may disagree: counts as zero */
    CHECK(ok(f.engine.try_observe("primary", response)));
    grate::ProviderState state{};
    CHECK(ok(f.engine.try_provider_state("primary", state)));
    CHECK(state.circuit == grate::Circuit::open);
    CHECK(state.cooldown_remaining == 90s);
    CHECK_EQ_U64(state.rate_limited_responses, 1);
    CHECK_EQ_U64(state.observations, 1);
}

TEST(headers_of_a_response) {
    Fixture f;
    const grate::Header fields[] = {{"content-type", "text/plain"}, {"Retry-After", "7"}};
    CHECK(ok(f.engine.try_observe("primary", Response::http(429, fields))));
    grate::ProviderState state{};
    CHECK(ok(f.engine.try_provider_state("primary", state)));
    CHECK(state.cooldown_remaining == 7s);

    std::vector<grate::Header> more(std::begin(fields), std::end(fields));
    Response response{Outcome::rate_limited};
    response.headers = more;
    response.headers = response.headers;
    CHECK_EQ_U64(response.headers.size(), 2);
    more.clear();
    response.headers = more;
    CHECK(ok(f.engine.try_observe("backup", response)));
}

TEST(configuration) {
    Fixture f;
    grate::QuotaConfig bucket = per_minute(60);
    bucket.strategy = grate::Strategy::token_bucket;
    bucket.burst = 5;
    bucket.pool = "account";
    grate::QuotaConfig calendar = per_minute(1000, Dimension::cost_micro_usd);
    calendar.strategy = grate::Strategy::fixed_window;
    calendar.window = 24h;
    calendar.phase = 8h;
    CHECK(ok(f.engine.try_upsert_provider({"many", 0, {bucket, calendar, slots(3)}})));
    grate::ProviderState state{};
    CHECK(ok(f.engine.try_provider_state("many", state)));
    CHECK(state.circuit == grate::Circuit::closed);
    CHECK_NEAR(state.health, 1.0, 1e-12);
    CHECK_EQ_U64(state.quotas.size(), 3);
    bool found = false;
    for (const grate::QuotaState &quota : state.quotas) {
        if (quota.strategy != grate::Strategy::token_bucket) continue;
        found = true;
        CHECK(quota.dimension == Dimension::requests);
        CHECK(quota.window == 1min);
        CHECK_EQ_U64(quota.limit, 60);
        CHECK_EQ_U64(quota.remaining, 5);
        CHECK(quota.pool == "account");
    }
    CHECK(found);

    grate::QuotaConfig wrong = per_minute(1);
    wrong.window = -1min;
    CHECK(!f.engine.try_upsert_provider({"wrong", 0, {wrong}}).ok());
    CHECK_EQ_I32(code(f.engine.try_upsert_capability({"wrong", {{"nobody"}}})), GRATE_ERR_UNKNOWN_PROVIDER);
    CHECK_EQ_I32(code(f.engine.try_upsert_provider({"", 0})), GRATE_ERR_INVALID_NAME);
    /* Not cut at the NUL. */
    CHECK_EQ_I32(code(f.engine.try_upsert_provider({std::string("ab\0cd", 5), 0})), GRATE_ERR_INVALID_NAME);
    double health = 0;
    CHECK(!f.engine.try_provider_health(std::string("primary\0x", 9), health).ok());
    CHECK_EQ_I32(code(f.engine.try_provider_health(static_cast<const char *>(nullptr), health)),
                 GRATE_ERR_NULL_POINTER);

    CHECK(ok(f.engine.try_remove_provider("many")));
    CHECK_EQ_I32(code(f.engine.try_remove_provider("many")), GRATE_ERR_UNKNOWN_PROVIDER);
    CHECK(ok(f.engine.try_remove_capability("solo")));
    CHECK_EQ_I32(code(f.engine.try_remove_capability("solo")), GRATE_ERR_UNKNOWN_CAPABILITY);

    /* A priority of 0 in a capability is a true zero. */
    CHECK(ok(f.engine.try_upsert_capability({"api", {{"primary", 0}, {"backup"}}})));
    grate::Decision decision;
    CHECK(ok(f.engine.try_select("api", {}, decision)));
    CHECK(decision.provider() == "backup");

    grate::Engine other(nullptr);
    grate::EngineConfig config;
    config.ewma_alpha = 7;
    CHECK_EQ_I32(code(grate::Engine::try_create(config, other)), GRATE_ERR_INVALID_CONFIG);
    CHECK(other.raw() == nullptr);
    config = {};
    config.skew = -1ns;
    CHECK_EQ_I32(code(grate::Engine::try_create(config, other)), GRATE_ERR_INVALID_CONFIG);
    config.skew = 0ns;
    CHECK(ok(grate::Engine::try_create(config, other)));
}

TEST(json) {
    Fixture f;
    CHECK_EQ_I32(code(f.engine.try_configure_json({})), GRATE_ERR_INVALID_JSON);
    grate::Status status = f.engine.try_configure_json("{\n  \"providers\": [,]\n}");
    CHECK_EQ_I32(code(status), GRATE_ERR_INVALID_JSON);
    CHECK(status.message().find("line 2") != std::string_view::npos);
    grate::Status copy = status;
    CHECK(copy.message() == status.message());
    copy = grate::Status();
    CHECK(copy.ok() && copy.message().empty());
    copy = grate::Status(Code::panic, std::string(1000, 'x'));
    CHECK_EQ_U64(copy.message().size(), GRATE_ERROR_MESSAGE_SIZE - 1);
    copy = grate::Status(Code::panic, std::string(502, 'x') + "\u00e9");
    CHECK(copy.message() == std::string(502, 'x')); /* cut at a character */
    copy = grate::Status(Code::panic, {});
    CHECK(copy.message().empty());

    /* No more than the view is read. */
    std::string_view longer = "{}garbage";
    CHECK(ok(f.engine.try_configure_json(longer.substr(0, 2))));
    CHECK_EQ_I32(code(f.engine.try_configure_json(longer)), GRATE_ERR_INVALID_JSON);
}

TEST(prometheus) {
    Fixture f;
    std::string text;
    CHECK(ok(f.engine.try_prometheus(text)));
    CHECK(!text.empty());
    CHECK(text.back() == '\n');
    CHECK(text.find('\0') == std::string::npos);
    CHECK(text.find("primary") != std::string::npos);
}

TEST(clocks) {
    grate::MockClock mock;
    CHECK(mock.now() == 0ns);
    mock.advance(1500ms);
    mock.advance(-1s);
    CHECK(mock.now() == 1500ms);
    mock.set(7ns);
    CHECK(mock.now() == 7ns);

    struct Source {
        std::chrono::nanoseconds time{};
        std::chrono::nanoseconds monotonic() const noexcept { return time; }
        std::chrono::milliseconds unix_time() const noexcept { return 1700000000s; }
    } source;
    grate::Engine engine(nullptr);
    {
        grate::CallbackClock clock(source);
        source.time = 42ns;
        CHECK(clock.now() == 42ns);
        grate::EngineConfig config;
        config.clock = &clock;
        CHECK(ok(grate::Engine::try_create(config, engine)));
    }
    CHECK(ok(engine.try_upsert_provider({"one", 0, {per_minute(1)}})));
    CHECK(ok(engine.try_upsert_capability({"api", {{"one"}}})));
    CHECK(ok(engine.try_observe("one", {Outcome::success})));
    grate::Decision decision;
    CHECK_EQ_I32(code(engine.try_select("api", {}, decision)), GRATE_ERR_NO_PROVIDER_AVAILABLE);
    CHECK(decision.retry_after() == 1min);
    source.time += 1min;
    CHECK(ok(engine.try_select("api", {}, decision)));
}

TEST(the_hot_path_does_not_allocate) {
    Fixture f({per_minute(1000000), slots(100)});
    grate::Candidates candidates(8);
    std::string capability = "api";
    const grate::Header fields[] = {{"x-ratelimit-remaining", "999"}};
    bool all_ok = true;
    std::size_t before = allocations;
    for (int i = 0; i < 100; ++i) {
        grate::Request request;
        request.exclude.add("backup");
        grate::Lease lease;
        grate::Decision decision;
        all_ok = all_ok && f.engine.try_acquire(capability, request, lease, &candidates).ok() &&
                 lease.try_complete(Response::http(200, fields)).ok() &&
                 f.engine.try_select("api", request, decision).ok() &&
                 f.engine.try_observe(decision.provider(), {Outcome::success}).ok();
    }
    CHECK_EQ_U64(allocations - before, 0);
    CHECK(all_ok);
}

TEST(threads_share_an_engine) {
    Fixture f({per_minute(1000)});
    std::vector<std::thread> threads;
    std::array<std::uint64_t, 4> granted{};
    for (std::size_t t = 0; t < granted.size(); ++t) {
        threads.emplace_back([&f, &granted, t] {
            for (int i = 0; i < 500; ++i) {
                grate::Lease lease;
                if (f.engine.try_acquire("solo", {}, lease).ok() && lease.try_complete({Outcome::success}).ok()) {
                    ++granted[t];
                }
            }
        });
    }
    for (std::thread &thread : threads) thread.join();
    std::uint64_t total = granted[0] + granted[1] + granted[2] + granted[3];
    CHECK(total <= 1000);
    CHECK(total >= 980); /* at most 2 % of a large limit may be lost */
    CHECK_EQ_U64(f.metrics().completions, total);
}

#if GRATE_HAS_EXCEPTIONS

TEST(errors_are_thrown) {
    grate::MockClock clock;
    grate::EngineConfig config;
    config.clock = &clock;
    grate::Engine engine(config);
    engine.upsert_provider({"one", 1, {per_minute(1)}});
    engine.upsert_capability({"api", {{"one"}}});
    bool thrown = false;

    try {
        (void)engine.acquire("nowhere");
    } catch (const grate::UnknownCapability &error) {
        thrown = error.status() == Code::unknown_capability &&
                 std::string_view(error.what()).find("nowhere") != std::string_view::npos;
    }
    CHECK(thrown);

    thrown = false;
    try {
        engine.provider_health("nobody");
    } catch (const grate::UnknownProvider &error) {
        thrown = error.status() == Code::unknown_provider;
    }
    CHECK(thrown);

    grate::Lease lease = engine.acquire("api");
    CHECK(lease.provider() == "one");
    thrown = false;
    try {
        (void)engine.acquire("api");
    } catch (const grate::NoProviderAvailable &none) {
        thrown = true;
        CHECK_STR(std::string(none.provider()).c_str(), "one");
        CHECK(none.retry_after() == 1min + 50ms);
        CHECK(none.held_by() == HeldBy::quota);
        CHECK(none.held_dimension() == Dimension::requests);
        CHECK(none.held_window() == 1min);
        CHECK(none.status() == Code::no_provider_available);
    }
    CHECK(thrown);

    lease.complete({Outcome::success});
    thrown = false;
    try {
        lease.complete({Outcome::success});
    } catch (const grate::StaleLease &) {
        thrown = true;
    }
    CHECK(thrown);
    thrown = false;
    try {
        engine.cancel(12345);
    } catch (const grate::StaleLease &error) {
        thrown = std::string_view(error.what()).find("GRATE_ERR_STALE_LEASE") == 0;
    }
    CHECK(thrown);

    thrown = false;
    try {
        engine.configure_json("[");
    } catch (const std::runtime_error &error) {
        thrown = dynamic_cast<const grate::Error *>(&error) != nullptr;
    }
    CHECK(thrown);

    thrown = false;
    try {
        config.ewma_alpha = -1;
        grate::Engine wrong(config);
    } catch (const grate::Error &error) {
        thrown = error.status() == Code::invalid_config;
    }
    CHECK(thrown);
}

TEST(an_exception_cancels_the_lease_and_outlives_the_engine) {
    std::string provider;
    try {
        grate::MockClock clock;
        grate::EngineConfig config;
        config.clock = &clock;
        grate::Engine engine(config);
        engine.upsert_provider({"only", 1, {slots(1)}});
        engine.upsert_capability({"api", {{"only"}}});
        try {
            grate::Lease lease = engine.acquire("api");
            throw 7;
        } catch (int) {
        }
        CHECK_EQ_U64(engine.metrics().cancellations, 1);
        grate::Lease lease = engine.acquire("api");
        (void)engine.acquire("api");
    } catch (const grate::NoProviderAvailable &none) {
        provider = none.provider();
    }
    CHECK_STR(provider.c_str(), "only");
}

TEST(the_throwing_calls_return_their_results) {
    grate::MockClock clock;
    grate::EngineConfig config;
    config.clock = &clock;
    grate::Engine engine(config);
    engine.upsert_provider({"one", 1, {per_minute(10)}});
    engine.upsert_capability({"api", {{"one"}}});
    engine.configure_json("{}");
    grate::Candidates candidates(2);
    grate::Decision decision = engine.select("api", {}, &candidates);
    CHECK(decision.provider() == "one");
    CHECK_EQ_U64(candidates.size(), 1);
    engine.observe(decision.provider(), Response::http(200));
    std::uint64_t id = engine.acquire("api").release();
    engine.complete(id, Response::http(204));
    engine.acquire("api").cancel();
    CHECK_NEAR(engine.provider_health("one"), 1.0, 1e-12);
    CHECK(!engine.provider_in_cooldown("one"));
    CHECK_EQ_U64(engine.remaining_quota("one", Dimension::requests), 8);
    CHECK_EQ_U64(engine.provider_state("one").quotas.size(), 1);
    CHECK_EQ_U64(engine.metrics().acquires, 2);
    CHECK(!engine.prometheus().empty());
    engine.remove_capability("api");
    engine.remove_provider("one");
    grate::Engine system_time;
    system_time.configure_json("{}");
    grate::Engine all_defaults{{}};
    CHECK(all_defaults.raw() != nullptr);
}

#endif

int main() {
    RUN(the_documented_example);
    RUN(a_decision_explains_itself);
    RUN(an_unsettled_lease_is_cancelled);
    RUN(a_settled_lease_stays_settled);
    RUN(a_refused_response_leaves_the_lease);
    RUN(a_released_lease_is_settled_by_its_id);
    RUN(a_lease_expires);
    RUN(leases_move);
    RUN(engines_move_under_their_leases);
    RUN(nothing_available_says_what_and_when);
    RUN(excluded_providers_are_not_chosen);
    RUN(candidates_are_ranked);
    RUN(estimates_and_usage);
    RUN(retry_after_of_a_response);
    RUN(headers_of_a_response);
    RUN(configuration);
    RUN(json);
    RUN(prometheus);
    RUN(clocks);
    RUN(the_hot_path_does_not_allocate);
    RUN(threads_share_an_engine);
#if GRATE_HAS_EXCEPTIONS
    RUN(errors_are_thrown);
    RUN(an_exception_cancels_the_lease_and_outlives_the_engine);
    RUN(the_throwing_calls_return_their_results);
#endif
    return check_report("cpp_test");
}
