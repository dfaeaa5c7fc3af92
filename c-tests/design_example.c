/*
 * The documented example on a mock clock, with plain structs: a rate-limited primary gives way to its backup and is chosen
 * again a minute later.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"
#include "grate.h"

static grate_clock *clock_;
static grate_engine *engine;

static void add_provider(const char *name, uint32_t priority, uint64_t limit)
{
    grate_quota_config quota = GRATE_QUOTA_CONFIG_INIT;
    grate_provider_config provider = GRATE_PROVIDER_CONFIG_INIT;
    grate_error err = GRATE_ERROR_INIT;
    quota.dimension = GRATE_DIMENSION_REQUESTS;
    quota.limit = limit;
    quota.window_ns = GRATE_WINDOW_MINUTE;
    provider.name = name;
    provider.priority = priority;
    provider.cooldown_seconds = 30;
    provider.quotas = &quota;
    provider.quotas_len = 1;
    CHECK_EQ_I32(grate_engine_upsert_provider(engine, &provider, &err), GRATE_OK);
    CHECK_STR(err.message, "");
}

static void begin(void)
{
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_capability_provider list[2] = {GRATE_CAPABILITY_PROVIDER_INIT, GRATE_CAPABILITY_PROVIDER_INIT};
    grate_capability_config capability = GRATE_CAPABILITY_CONFIG_INIT;
    clock_ = grate_clock_mock_new(1767225600000u);
    config.clock = clock_;
    CHECK_EQ_I32(grate_engine_new(&config, &engine, NULL), GRATE_OK);
    add_provider("primary", 10, 2);
    add_provider("backup", 5, 100);
    list[0].provider = "primary";
    list[1].provider = "backup";
    capability.name = "api";
    capability.providers = list;
    capability.providers_len = 2;
    CHECK_EQ_I32(grate_engine_upsert_capability(engine, &capability, NULL), GRATE_OK);
}

static void end(void)
{
    grate_engine_free(engine);
    grate_clock_free(clock_);
}

static const char *selected(void)
{
    grate_decision decision = GRATE_DECISION_INIT;
    CHECK_EQ_I32(grate_engine_select(engine, "api", NULL, &decision, NULL), GRATE_OK);
    CHECK_EQ_U64(decision.lease, 0);
    CHECK_EQ_U64(decision.candidates_total, 2);
    CHECK_NEAR(decision.score, 0.40 * decision.quota_score + 0.35 * decision.health_score +
                                   0.20 * decision.priority_score + 0.05 * decision.latency_score, 1e-12);
    return decision.provider;
}

static void three_refusals(void)
{
    int i;
    for (i = 0; i < 3; i++) {
        grate_response refused = GRATE_RESPONSE_INIT;
        refused.outcome = GRATE_OUTCOME_RATE_LIMITED;
        refused.latency_ns = 50 * 1000000u;
        refused.requests = 1;
        CHECK_EQ_I32(grate_clock_advance_secs(clock_, 1), GRATE_OK);
        CHECK_EQ_I32(grate_engine_observe(engine, "primary", &refused, NULL), GRATE_OK);
    }
}

TEST(as_documented)
{
    begin();
    CHECK_STR(selected(), "primary");
    three_refusals();
    CHECK_STR(selected(), "backup");
    CHECK_EQ_I32(grate_clock_advance_secs(clock_, 60), GRATE_OK);
    CHECK_STR(selected(), "primary");
    end();
}

TEST(what_the_engine_tells_of_it)
{
    grate_decision decision = GRATE_DECISION_INIT;
    grate_candidate rows[2] = {GRATE_CANDIDATE_INIT, GRATE_CANDIDATE_INIT};
    grate_quota_state quota = GRATE_QUOTA_STATE_INIT;
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    grate_metrics metrics = GRATE_METRICS_INIT;
    uint64_t remaining = 7;
    int32_t cooling = 0;
    double health = 0;
    begin();
    three_refusals();

    decision.candidates = rows;
    decision.candidates_capacity = 2;
    CHECK_EQ_I32(grate_engine_select(engine, "api", NULL, &decision, NULL), GRATE_OK);
    CHECK_EQ_U64(decision.candidates_len, 2);
    CHECK_STR(rows[0].provider, "backup");
    CHECK_EQ_I32(rows[0].held_by, GRATE_HELD_BY_NOTHING);
    CHECK_STR(rows[1].provider, "primary");
    /* The cooldown ends in 30 s, but the quota has room only when two of the three requests are a minute old. */
    CHECK_EQ_I32(rows[1].held_by, GRATE_HELD_BY_QUOTA);
    CHECK_EQ_I32(rows[1].held_dimension, GRATE_DIMENSION_REQUESTS);
    CHECK_EQ_U64(rows[1].held_window_ns, GRATE_WINDOW_MINUTE);
    CHECK_EQ_U64(rows[1].retry_after_ns, 59000000000u);

    state.quotas = &quota;
    state.quotas_capacity = 1;
    CHECK_EQ_I32(grate_engine_provider_state(engine, "primary", &state, NULL), GRATE_OK);
    CHECK_EQ_I32(state.circuit, GRATE_CIRCUIT_OPEN);
    CHECK_EQ_U64(state.cooldown_remaining_ns, 30000000000u);
    CHECK_EQ_U64(state.observations, 3);
    CHECK_EQ_U64(state.rate_limited_responses, 3);
    CHECK_EQ_U64(state.latency_ns, 0);
    CHECK_EQ_U64(state.quotas_len, 1);
    CHECK_EQ_U64(quota.used, 3);
    CHECK_EQ_U64(quota.remaining, 0);
    CHECK_EQ_U64(quota.limit, 2);

    CHECK_EQ_I32(grate_engine_remaining_quota(engine, "primary", GRATE_DIMENSION_REQUESTS, &remaining, NULL), GRATE_OK);
    CHECK_EQ_U64(remaining, 0);
    CHECK_EQ_I32(grate_engine_remaining_quota(engine, "primary", GRATE_DIMENSION_TOKENS, &remaining, NULL), GRATE_OK);
    CHECK_EQ_U64(remaining, UINT64_MAX);
    CHECK_EQ_I32(grate_engine_provider_in_cooldown(engine, "primary", &cooling, NULL), GRATE_OK);
    CHECK_EQ_I32(cooling, 1);
    /* 1, then twice: the deficit of a second ago has shrunk by 2^(-1/30), and a quarter of the health goes. */
    CHECK_EQ_I32(grate_engine_provider_health(engine, "primary", &health, NULL), GRATE_OK);
    CHECK_NEAR(health, 0.43250790536867656, 1e-9);
    CHECK_EQ_I32(grate_engine_metrics(engine, &metrics, NULL), GRATE_OK);
    CHECK_EQ_U64(metrics.cooldowns_triggered, 1);
    CHECK_EQ_U64(metrics.rate_limited_responses, 3);

    CHECK_EQ_I32(grate_clock_advance_secs(clock_, 30), GRATE_OK);
    CHECK_EQ_I32(grate_engine_provider_in_cooldown(engine, "primary", &cooling, NULL), GRATE_OK);
    CHECK_EQ_I32(cooling, 0);
    end();
}

TEST(with_leases_there_is_no_refusal)
{
    uint64_t served = 0;
    int i;
    grate_metrics metrics = GRATE_METRICS_INIT;
    begin();
    /* A request a second, and a primary that would refuse the third one in a minute. */
    for (i = 0; i < 120; i++) {
        grate_decision decision = GRATE_DECISION_INIT;
        grate_response response = GRATE_RESPONSE_INIT;
        response.http_status = 200;
        CHECK_EQ_I32(grate_engine_acquire(engine, "api", NULL, &decision, NULL), GRATE_OK);
        served += strcmp(decision.provider, "primary") == 0;
        CHECK_EQ_I32(grate_clock_advance_ms(clock_, 50), GRATE_OK);
        CHECK_EQ_I32(grate_engine_complete(engine, decision.lease, &response, NULL), GRATE_OK);
        CHECK_EQ_I32(grate_clock_advance_ms(clock_, 950), GRATE_OK);
    }
    CHECK(served >= 1);
    CHECK(served <= 4);
    CHECK_EQ_I32(grate_engine_metrics(engine, &metrics, NULL), GRATE_OK);
    CHECK_EQ_U64(metrics.acquires, 120);
    CHECK_EQ_U64(metrics.completions, 120);
    CHECK_EQ_U64(metrics.none_available, 0);
    CHECK_EQ_U64(metrics.leases_in_flight, 0);
    end();
}

int main(void)
{
    RUN(as_documented);
    RUN(what_the_engine_tells_of_it);
    RUN(with_leases_there_is_no_refusal);
    return check_report("design_example");
}
