/*
 * A program of the time of the first header, which stands beside it: compiled with that, and run with today's library. It
 * uses all that the header declares; the argument of the build is -Ic-tests/first.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>

#include "../check.h"
#include "grate.h"

static uint64_t my_ns(void *user_data)
{
    return *(uint64_t *)user_data;
}

static uint64_t my_ms(void *user_data)
{
    return 1767225600000u + *(uint64_t *)user_data / 1000000;
}

static void check_ok(grate_status status, const grate_error *err)
{
    CHECK_EQ_I32(status, GRATE_OK);
    CHECK_EQ_I32(err->code, status);
    CHECK_STR(err->message, "");
}

static void configure(grate_engine *engine)
{
    grate_error err = GRATE_ERROR_INIT;
    grate_quota_config quotas[3];
    grate_provider_config provider = GRATE_PROVIDER_CONFIG_INIT;
    grate_capability_provider list[2];
    grate_capability_config capability = GRATE_CAPABILITY_CONFIG_INIT;
    int i;
    for (i = 0; i < 3; i++) {
        grate_quota_config_init(&quotas[i], sizeof quotas[i]);
    }
    quotas[0].dimension = GRATE_DIMENSION_REQUESTS;
    quotas[0].limit = 10;
    quotas[0].window_ns = GRATE_WINDOW_MINUTE;
    quotas[1].dimension = GRATE_DIMENSION_TOKENS;
    quotas[1].limit = 1000;
    quotas[1].window_ns = GRATE_WINDOW_DAY;
    quotas[1].strategy = GRATE_STRATEGY_FIXED_WINDOW;
    quotas[1].phase_ns = 8 * (int64_t)GRATE_WINDOW_HOUR;
    quotas[1].pool = "account";
    quotas[2].dimension = GRATE_DIMENSION_CONCURRENCY;
    quotas[2].limit = 2;
    grate_provider_config_init(&provider, sizeof provider);
    provider.name = "a";
    provider.priority = 10;
    provider.weight = 2;
    provider.cooldown_seconds = 5;
    provider.quotas = quotas;
    provider.quotas_len = 3;
    check_ok(grate_engine_upsert_provider(engine, &provider, &err), &err);
    provider.name = "b";
    provider.priority = 1;
    provider.quotas_len = 0;
    check_ok(grate_engine_upsert_provider(engine, &provider, &err), &err);
    for (i = 0; i < 2; i++) {
        grate_capability_provider_init(&list[i], sizeof list[i]);
    }
    list[0].provider = "a";
    list[1].provider = "b";
    list[1].priority = GRATE_PRIORITY_ZERO;
    grate_capability_config_init(&capability, sizeof capability);
    capability.name = "api";
    capability.providers = list;
    capability.providers_len = 2;
    check_ok(grate_engine_upsert_capability(engine, &capability, &err), &err);
}

static void route(grate_engine *engine, uint64_t *now)
{
    grate_error err = GRATE_ERROR_INIT;
    grate_request request = GRATE_REQUEST_INIT;
    grate_decision decision = GRATE_DECISION_INIT;
    grate_candidate candidates[2] = {GRATE_CANDIDATE_INIT, GRATE_CANDIDATE_INIT};
    grate_response response = GRATE_RESPONSE_INIT;
    const char *const exclude[] = {"b"};
    const grate_header header = {"retry-after", 11, "7", 1};
    uint64_t lease;

    grate_request_init(&request, sizeof request);
    grate_decision_init(&decision, sizeof decision);
    grate_response_init(&response, sizeof response);
    grate_candidate_init(&candidates[1], sizeof candidates[1]);
    request.tokens = 100;
    request.headroom = 0.1;
    request.exclude = exclude;
    request.exclude_len = 1;
    decision.candidates = candidates;
    decision.candidates_capacity = 2;
    check_ok(grate_engine_select(engine, "api", &request, &decision, &err), &err);
    CHECK_STR(decision.provider, "a");
    CHECK_EQ_U64(decision.lease, 0);
    CHECK_EQ_U64(decision.candidates_len, 2);
    CHECK_EQ_U64(decision.candidates_total, 2);
    CHECK_EQ_I32(candidates[1].held_by, GRATE_HELD_BY_EXCLUSION);
    CHECK(decision.score > 0 && decision.score <= 1);

    check_ok(grate_engine_acquire(engine, "api", &request, &decision, &err), &err);
    lease = decision.lease;
    *now += 200000000;
    response.http_status = 200;
    response.tokens = 90;
    response.latency_ns = 150000000;
    check_ok(grate_engine_complete(engine, lease, &response, &err), &err);
    CHECK_EQ_I32(grate_engine_complete(engine, lease, &response, &err), GRATE_ERR_STALE_LEASE);
    CHECK_EQ_I32(err.code, GRATE_ERR_STALE_LEASE);
    CHECK(err.message[0] != '\0');
    check_ok(grate_engine_acquire(engine, "api", &request, &decision, &err), &err);
    check_ok(grate_engine_cancel(engine, decision.lease, &err), &err);

    grate_response_init(&response, sizeof response);
    response.outcome = GRATE_OUTCOME_OVERLOADED;
    response.headers = &header;
    response.headers_len = 1;
    check_ok(grate_engine_observe(engine, "a", &response, &err), &err);
    CHECK_EQ_I32(grate_engine_acquire(engine, "api", &request, &decision, &err), GRATE_ERR_NO_PROVIDER_AVAILABLE);
    CHECK_EQ_I32(decision.held_by, GRATE_HELD_BY_COOLDOWN);
    CHECK_EQ_U64(decision.retry_after_ns, 7 * GRATE_WINDOW_SECOND);
}

static void inspect(grate_engine *engine)
{
    grate_error err = GRATE_ERROR_INIT;
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    grate_quota_state quotas[3] = {GRATE_QUOTA_STATE_INIT, GRATE_QUOTA_STATE_INIT, GRATE_QUOTA_STATE_INIT};
    grate_metrics metrics = GRATE_METRICS_INIT;
    double health = 0;
    int32_t in_cooldown = 0;
    uint64_t remaining = 0, len = 0;
    char *text;

    check_ok(grate_engine_provider_health(engine, "a", &health, &err), &err);
    CHECK(health > 0 && health < 1);
    check_ok(grate_engine_provider_in_cooldown(engine, "a", &in_cooldown, &err), &err);
    CHECK_EQ_I32(in_cooldown, 1);
    check_ok(grate_engine_remaining_quota(engine, "a", GRATE_DIMENSION_TOKENS, &remaining, &err), &err);
    CHECK_EQ_U64(remaining, 910);
    grate_provider_state_init(&state, sizeof state);
    grate_quota_state_init(&quotas[0], sizeof quotas[0]);
    state.quotas = quotas;
    state.quotas_capacity = 3;
    check_ok(grate_engine_provider_state(engine, "a", &state, &err), &err);
    CHECK_EQ_U64(state.quotas_total, 3);
    CHECK_EQ_U64(state.completions, 1);
    CHECK_EQ_U64(state.latency_ns, 150000000);
    CHECK_EQ_I32(state.circuit, GRATE_CIRCUIT_OPEN);
    grate_metrics_init(&metrics, sizeof metrics);
    check_ok(grate_engine_metrics(engine, &metrics, &err), &err);
    CHECK_EQ_U64(metrics.acquires, 2);
    CHECK_EQ_U64(metrics.cancellations, 1);
    CHECK_EQ_U64(metrics.observations, 1);
    CHECK_EQ_I32(grate_engine_prometheus(engine, NULL, 0, &len, &err), GRATE_ERR_BUFFER_TOO_SMALL);
    text = malloc(len + 1);
    if (CHECK(text != NULL)) {
        check_ok(grate_engine_prometheus(engine, text, len + 1, &len, &err), &err);
        CHECK_EQ_U64(strlen(text), len);
    }
    free(text);
}

static grate_engine *make(const grate_clock *clock)
{
    grate_error err;
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_engine *engine = NULL;
    grate_error_init(&err, sizeof err);
    grate_engine_config_init(&config, sizeof config);
    config.clock = clock;
    config.weight_quota = 1;
    config.lease_ttl_ns = GRATE_WINDOW_MINUTE;
    config.skew_ns = GRATE_ZERO;
    config.max_retry_after_ns = GRATE_WINDOW_HOUR;
    check_ok(grate_engine_new(&config, &engine, &err), &err);
    return engine;
}

TEST(structs_of_that_time)
{
    CHECK_EQ_U64(sizeof(grate_error), 512);
    CHECK_EQ_U64(sizeof(grate_quota_config), 56);
    CHECK_EQ_U64(sizeof(grate_provider_config), 48);
    CHECK_EQ_U64(sizeof(grate_capability_provider), 16);
    CHECK_EQ_U64(sizeof(grate_capability_config), 32);
    CHECK_EQ_U64(sizeof(grate_engine_config), 128);
    CHECK_EQ_U64(sizeof(grate_request), 72);
    CHECK_EQ_U64(sizeof(grate_response), 96);
    CHECK_EQ_U64(sizeof(grate_decision), 128);
    CHECK_EQ_U64(sizeof(grate_candidate), 88);
    CHECK_EQ_U64(sizeof(grate_metrics), 96);
    CHECK_EQ_U64(sizeof(grate_quota_state), 104);
    CHECK_EQ_U64(sizeof(grate_provider_state), 144);
    CHECK_EQ_U64(sizeof(grate_header_quota), 40);
    CHECK_EQ_U64(sizeof(grate_header_report), 48);
    CHECK_EQ_U64(sizeof(grate_header), 32);
}

TEST(an_engine_on_a_clock_of_its_own)
{
    uint64_t now = 5;
    grate_error err = GRATE_ERROR_INIT;
    grate_clock *clock = NULL;
    grate_engine *engine;
    check_ok(grate_clock_callback_new(my_ns, my_ms, &now, &clock, &err), &err);
    CHECK_EQ_U64(grate_clock_now_ns(clock), 5);
    engine = make(clock);
    grate_clock_free(clock);
    configure(engine);
    route(engine, &now);
    inspect(engine);
    check_ok(grate_engine_remove_capability(engine, "api", &err), &err);
    check_ok(grate_engine_remove_provider(engine, "a", &err), &err);
    CHECK_EQ_I32(grate_engine_remove_provider(engine, "a", &err), GRATE_ERR_UNKNOWN_PROVIDER);
    grate_engine_free(engine);
}

TEST(a_document_and_a_mock_clock)
{
    static const char json[] = "{\"providers\": [{\"name\": \"p\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 1,"
                               " \"window\": \"second\"}]}], \"capabilities\": [{\"name\": \"api\", \"providers\":"
                               " [{\"provider\": \"p\"}]}]}";
    grate_error err = GRATE_ERROR_INIT;
    grate_decision decision = GRATE_DECISION_INIT;
    grate_clock *clock = grate_clock_mock_new(1767225600000u);
    grate_engine *engine = make(clock);
    check_ok(grate_engine_configure_json(engine, json, sizeof json - 1, &err), &err);
    check_ok(grate_engine_acquire(engine, "api", NULL, &decision, &err), &err);
    CHECK_EQ_I32(grate_engine_acquire(engine, "api", NULL, &decision, &err), GRATE_ERR_NO_PROVIDER_AVAILABLE);
    CHECK_EQ_I32(grate_clock_advance_ms(clock, 500), GRATE_OK);
    CHECK_EQ_I32(grate_clock_advance_secs(clock, 1), GRATE_OK);
    check_ok(grate_engine_acquire(engine, "api", NULL, &decision, &err), &err);
    CHECK_EQ_I32(grate_clock_set_ns(clock, 9), GRATE_OK);
    grate_engine_free(engine);
    grate_clock_free(clock);
}

TEST(headers_without_an_engine)
{
    const grate_header fields[] = {{"X-RateLimit-Limit", 17, "100", 3}, {"x-ratelimit-remaining", 21, "40", 2}};
    grate_error err = GRATE_ERROR_INIT;
    grate_header_report report = GRATE_HEADER_REPORT_INIT;
    grate_header_quota quotas[2] = {GRATE_HEADER_QUOTA_INIT, GRATE_HEADER_QUOTA_INIT};
    grate_header_report_init(&report, sizeof report);
    grate_header_quota_init(&quotas[0], sizeof quotas[0]);
    report.quotas = quotas;
    report.quotas_capacity = 2;
    check_ok(grate_parse_headers(fields, 2, 1767225600000u, &report, &err), &err);
    CHECK_EQ_U64(report.quotas_len, 1);
    CHECK_EQ_U64(quotas[0].limit, 100);
    CHECK_EQ_U64(quotas[0].remaining, 40);
    CHECK_EQ_U64(report.retry_after_ms, GRATE_ABSENT);
}

TEST(version_and_names)
{
    CHECK(grate_version() >= GRATE_VERSION);
    CHECK(grate_version_string()[0] != '\0');
    CHECK_STR(grate_status_name(GRATE_ERR_PANIC), "GRATE_ERR_PANIC");
}

int main(void)
{
    RUN(structs_of_that_time);
    RUN(an_engine_on_a_clock_of_its_own);
    RUN(a_document_and_a_mock_clock);
    RUN(headers_without_an_engine);
    RUN(version_and_names);
    return check_report("first");
}
