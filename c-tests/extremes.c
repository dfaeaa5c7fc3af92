/*
 * Every number that the C API takes, at the ends of its range: each field of each input struct in turn, plain arguments, and
 * time up to its end. The answer is an error or saturates; a limit is never passed, and no number that comes out is out of
 * its range. Rust's tests/extremes.rs has the engine; this is what only the boundary converts.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "grate.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define LIMIT 10
#define YEARS_584 UINT64_MAX

static const uint64_t INTEGERS[] = {0,          1,          2,         1000,       INT32_MAX, (uint64_t)INT32_MAX + 1,
                                    UINT32_MAX, INT64_MAX,  (uint64_t)INT64_MAX + 1, UINT64_MAX / 1000, UINT64_MAX - 1,
                                    UINT64_MAX};
static double doubles[18];

/* The numbers that a field may be set to. Pointers and what tells their lengths are the caller's to get right. */
typedef struct {
    const char *name;
    size_t at;
    char kind; /* 'd'ouble, 'q'uad word, 'w'ord */
} field;
#define FIELD(T, f, kind) {#T "." #f, offsetof(T, f), kind}

static void set(void *at_struct, const field *f, size_t i)
{
    char *at = (char *)at_struct + f->at;
    uint32_t word = (uint32_t)INTEGERS[i % LENGTH(INTEGERS)];
    if (f->kind == 'd') {
        memcpy(at, &doubles[i], sizeof doubles[i]);
    } else if (f->kind == 'q') {
        memcpy(at, &INTEGERS[i], sizeof INTEGERS[i]);
    } else {
        memcpy(at, &word, sizeof word);
    }
}

static size_t values_of(const field *f)
{
    return f->kind == 'd' ? LENGTH(doubles) : LENGTH(INTEGERS);
}

static grate_clock *mock;
static grate_engine *engine;

static void begin(uint64_t ms, const grate_engine_config *settings)
{
    static const char json[] =
        "{\"providers\": [{\"name\": \"p\", \"quotas\": ["
        " {\"dimension\": \"requests\", \"limit\": 10, \"window\": \"minute\"},"
        " {\"dimension\": \"tokens\", \"limit\": 1000000, \"window\": \"minute\", \"strategy\": \"token_bucket\"},"
        " {\"dimension\": \"bytes\", \"limit\": 1000000, \"window\": \"day\", \"strategy\": \"fixed_window\"},"
        " {\"dimension\": \"concurrency\", \"limit\": 1000}]}],"
        " \"capabilities\": [{\"name\": \"api\", \"providers\": [{\"provider\": \"p\"}]}]}";
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    if (settings != NULL) {
        config = *settings;
    }
    mock = grate_clock_mock_new(ms);
    config.clock = mock;
    CHECK_EQ_I32(grate_engine_new(&config, &engine, NULL), GRATE_OK);
    CHECK_EQ_I32(grate_engine_configure_json(engine, json, sizeof json - 1, NULL), GRATE_OK);
}

static void end(void)
{
    grate_engine_free(engine);
    grate_clock_free(mock);
}

/* Nothing that comes out is out of its range. */
static void check_sane(const char *what)
{
    static char text[65536];
    grate_quota_state quotas[8];
    grate_provider_state p = GRATE_PROVIDER_STATE_INIT;
    uint64_t i, len = 0;
    int wrong = 0;
    memset(quotas, 0, sizeof quotas);
    quotas[0].struct_size = sizeof quotas[0];
    p.quotas = quotas;
    p.quotas_capacity = LENGTH(quotas);
    wrong += grate_engine_provider_state(engine, "p", &p, NULL) != GRATE_OK;
    wrong += !(p.health >= 0 && p.health <= 1);
    for (i = 0; i < p.quotas_len; i++) {
        const grate_quota_state *q = &quotas[i];
        wrong += !(q->predicted_share >= 0 && q->predicted_share <= 1);
        wrong += !(q->burn_per_sec >= 0 && q->burn_per_sec <= DBL_MAX);
        wrong += !(q->seconds_to_exhaustion >= 0);
        wrong += q->strategy != GRATE_STRATEGY_TOKEN_BUCKET && q->remaining > q->effective_limit; /* a burst may be larger */
    }
    wrong += grate_engine_prometheus(engine, text, sizeof text, &len, NULL) != GRATE_OK;
    wrong += strstr(text, "NaN") != NULL;
    if (wrong) {
        check_fail(__FILE__, __LINE__, "%s: %d wrong", what, wrong);
    }
}

/* How many plain requests are granted now; what is granted is completed. */
static int granted(void)
{
    int n = 0, i;
    for (i = 0; i < 3 * LIMIT; i++) {
        grate_decision decision = GRATE_DECISION_INIT;
        grate_response served = GRATE_RESPONSE_INIT;
        grate_status status = grate_engine_acquire(engine, "api", NULL, &decision, NULL);
        served.outcome = GRATE_OUTCOME_SUCCESS;
        if (status == GRATE_OK) {
            n++;
            CHECK_EQ_I32(grate_engine_complete(engine, decision.lease, &served, NULL), GRATE_OK);
        } else {
            CHECK_EQ_I32(status, GRATE_ERR_NO_PROVIDER_AVAILABLE);
            CHECK(decision.retry_after_ns > 0);
        }
    }
    return n;
}

TEST(requests)
{
    static const field fields[] = {
        FIELD(grate_request, tokens, 'q'),        FIELD(grate_request, input_tokens, 'q'),
        FIELD(grate_request, output_tokens, 'q'), FIELD(grate_request, bytes, 'q'),
        FIELD(grate_request, cost_micro_usd, 'q'), FIELD(grate_request, headroom, 'd')};
    size_t f, v;
    for (f = 0; f < LENGTH(fields); f++) {
        for (v = 0; v < values_of(&fields[f]); v++) {
            grate_request request = GRATE_REQUEST_INIT;
            grate_decision decision = GRATE_DECISION_INIT;
            int i, got = 0;
            begin(1767225600000u, NULL);
            set(&request, &fields[f], v);
            for (i = 0; i < 3 * LIMIT; i++) {
                grate_status status = grate_engine_acquire(engine, "api", &request, &decision, NULL);
                got += status == GRATE_OK;
                CHECK(status == GRATE_OK || status == GRATE_ERR_NO_PROVIDER_AVAILABLE ||
                      (status == GRATE_ERR_INVALID_ARGUMENT && fields[f].kind == 'd'));
            }
            /* What is larger than the limit of its dimension is never let in. */
            if (fields[f].kind == 'q' && fields[f].at != offsetof(grate_request, cost_micro_usd) &&
                request.tokens + request.input_tokens + request.output_tokens + request.bytes > 1000000 &&
                request.tokens != GRATE_ZERO && request.input_tokens != GRATE_ZERO &&
                request.output_tokens != GRATE_ZERO && request.bytes != GRATE_ZERO) {
                CHECK_EQ_I32(got, 0);
            }
            CHECK(got + granted() <= LIMIT);
            check_sane(fields[f].name);
            end();
        }
    }
}

TEST(responses)
{
    static const field fields[] = {
        FIELD(grate_response, outcome, 'w'),       FIELD(grate_response, http_status, 'w'),
        FIELD(grate_response, latency_ns, 'q'),    FIELD(grate_response, retry_after_ns, 'q'),
        FIELD(grate_response, requests, 'q'),      FIELD(grate_response, tokens, 'q'),
        FIELD(grate_response, input_tokens, 'q'),  FIELD(grate_response, output_tokens, 'q'),
        FIELD(grate_response, bytes, 'q'),         FIELD(grate_response, cost_micro_usd, 'q')};
    static const int32_t outcomes[] = {GRATE_OUTCOME_SUCCESS, GRATE_OUTCOME_RATE_LIMITED, GRATE_OUTCOME_SERVER_ERROR};
    size_t f, v, o;
    for (f = 0; f < LENGTH(fields); f++) {
        for (v = 0; v < values_of(&fields[f]); v++) {
            for (o = 0; o < LENGTH(outcomes); o++) {
                grate_response response = GRATE_RESPONSE_INIT;
                grate_decision decision = GRATE_DECISION_INIT;
                grate_status status;
                begin(1767225600000u, NULL);
                response.outcome = outcomes[o];
                set(&response, &fields[f], v);
                status = grate_engine_observe(engine, "p", &response, NULL);
                CHECK(status == GRATE_OK || status == GRATE_ERR_INVALID_ARGUMENT);
                check_sane(fields[f].name);
                if (grate_engine_acquire(engine, "api", NULL, &decision, NULL) == GRATE_OK) {
                    CHECK_EQ_I32(grate_engine_complete(engine, decision.lease, &response, NULL), status);
                }
                check_sane(fields[f].name);
                CHECK(granted() <= LIMIT);
                CHECK_EQ_I32(grate_clock_set_ns(mock, YEARS_584), GRATE_OK);
                CHECK(granted() <= LIMIT);
                check_sane(fields[f].name);
                end();
            }
        }
    }
}

TEST(settings)
{
    static const field fields[] = {FIELD(grate_engine_config, cooldown_trigger_count, 'w'),
                                   FIELD(grate_engine_config, weight_quota, 'd'),
                                   FIELD(grate_engine_config, weight_health, 'd'),
                                   FIELD(grate_engine_config, weight_priority, 'd'),
                                   FIELD(grate_engine_config, weight_latency, 'd'),
                                   FIELD(grate_engine_config, min_health_for_selection, 'd'),
                                   FIELD(grate_engine_config, ewma_alpha, 'd'),
                                   FIELD(grate_engine_config, recovery_half_life_secs, 'd'),
                                   FIELD(grate_engine_config, cooldown_threshold, 'd'),
                                   FIELD(grate_engine_config, cooldown_multiplier, 'd'),
                                   FIELD(grate_engine_config, max_cooldown_secs, 'd'),
                                   FIELD(grate_engine_config, lease_ttl_ns, 'q'),
                                   FIELD(grate_engine_config, skew_ns, 'q'),
                                   FIELD(grate_engine_config, estimate_quantile, 'd'),
                                   FIELD(grate_engine_config, max_retry_after_ns, 'q'),
                                   /* Without a path, nothing is made of that size. */
                                   FIELD(grate_engine_config, state_size, 'q')};
    size_t f, v;
    int i, accepted = 0;
    for (f = 0; f < LENGTH(fields); f++) {
        for (v = 0; v < values_of(&fields[f]); v++) {
            grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
            grate_response failed = GRATE_RESPONSE_INIT;
            grate_engine *made = NULL;
            grate_status status;
            set(&config, &fields[f], v);
            status = grate_engine_new(&config, &made, NULL);
            CHECK(status == GRATE_OK || status == GRATE_ERR_INVALID_CONFIG);
            grate_engine_free(made);
            if (status != GRATE_OK) {
                continue;
            }
            accepted++;
            begin(1767225600000u, &config);
            CHECK(granted() <= LIMIT);
            failed.outcome = GRATE_OUTCOME_SERVER_ERROR;
            failed.retry_after_ns = UINT64_MAX - 1;
            for (i = 0; i < 100; i++) {
                CHECK_EQ_I32(grate_engine_observe(engine, "p", &failed, NULL), GRATE_OK);
            }
            check_sane(fields[f].name);
            CHECK_EQ_I32(grate_clock_advance_secs(mock, 400 * 86400), GRATE_OK);
            CHECK(granted() <= LIMIT);
            check_sane(fields[f].name);
            end();
        }
    }
    CHECK(accepted > 50);
}

TEST(quotas_and_providers)
{
    static const field quota_fields[] = {FIELD(grate_quota_config, dimension, 'w'), FIELD(grate_quota_config, limit, 'q'),
                                         FIELD(grate_quota_config, window_ns, 'q'), FIELD(grate_quota_config, strategy, 'w'),
                                         FIELD(grate_quota_config, burst, 'q'),     FIELD(grate_quota_config, phase_ns, 'q')};
    static const field provider_fields[] = {FIELD(grate_provider_config, priority, 'w'),
                                            FIELD(grate_provider_config, weight, 'd'),
                                            FIELD(grate_provider_config, cooldown_seconds, 'd')};
    const size_t all = LENGTH(quota_fields) + LENGTH(provider_fields);
    size_t f, v;
    int32_t strategy;
    for (strategy = 1; strategy <= 3; strategy++) {
        for (f = 0; f < all; f++) {
            const field *tried =
                f < LENGTH(quota_fields) ? &quota_fields[f] : &provider_fields[f - LENGTH(quota_fields)];
            for (v = 0; v < values_of(tried); v++) {
                grate_quota_config quota = GRATE_QUOTA_CONFIG_INIT;
                grate_provider_config provider = GRATE_PROVIDER_CONFIG_INIT;
                grate_status status;
                quota.dimension = GRATE_DIMENSION_REQUESTS;
                quota.limit = LIMIT;
                quota.window_ns = 366 * GRATE_WINDOW_DAY;
                quota.strategy = strategy;
                provider.name = "p";
                provider.quotas = &quota;
                provider.quotas_len = 1;
                begin(UINT64_MAX, NULL);
                set(f < LENGTH(quota_fields) ? (void *)&quota : (void *)&provider, tried, v);
                status = grate_engine_upsert_provider(engine, &provider, NULL);
                CHECK(status == GRATE_OK || status == GRATE_ERR_INVALID_CONFIG || status == GRATE_ERR_INVALID_ARGUMENT);
                if (status == GRATE_OK && quota.dimension == GRATE_DIMENSION_REQUESTS && quota.limit <= LIMIT) {
                    uint64_t most = quota.burst > quota.limit ? quota.burst : quota.limit;
                    CHECK((uint64_t)granted() <= (most < 3 * LIMIT ? most : 3 * LIMIT));
                } else {
                    granted();
                }
                check_sane(tried->name);
                CHECK_EQ_I32(grate_clock_advance_ms(mock, UINT64_MAX), GRATE_OK);
                granted();
                check_sane(tried->name);
                end();
            }
        }
    }
}

/* Wherever time begins and ends, a limit is a limit at that moment, and numbers stay in their ranges. */
TEST(time_at_its_ends)
{
    static const uint64_t unix_starts[] = {0, 1, 1767225600000u, UINT64_MAX / 1000000, UINT64_MAX / 1000000 + 1,
                                           UINT64_MAX - 1, UINT64_MAX};
    static const uint64_t moments[] = {0, 1, UINT64_MAX / 4, UINT64_MAX / 2, UINT64_MAX - 1, UINT64_MAX, 5, UINT64_MAX};
    size_t u, m;
    for (u = 0; u < LENGTH(unix_starts); u++) {
        begin(unix_starts[u], NULL);
        for (m = 0; m < LENGTH(moments); m++) {
            CHECK_EQ_I32(grate_clock_set_ns(mock, moments[m]), GRATE_OK);
            CHECK_EQ_U64(grate_clock_now_ns(mock), moments[m]);
            CHECK(granted() <= LIMIT);
            CHECK_EQ_I32(granted(), 0);
            check_sane("time");
        }
        CHECK_EQ_I32(grate_clock_advance_secs(mock, UINT64_MAX), GRATE_OK);
        CHECK_EQ_I32(grate_clock_advance_ms(mock, 1), GRATE_OK);
        CHECK_EQ_U64(grate_clock_now_ns(mock), UINT64_MAX);
        CHECK_EQ_I32(granted(), 0);
        end();
    }
}

TEST(plain_arguments)
{
    size_t v;
    begin(1767225600000u, NULL);
    for (v = 0; v < LENGTH(INTEGERS); v++) {
        const grate_header fields[] = {{"retry-after", 11, "18446744073709551615", 20},
                                       {"x-ratelimit-limit", 17, "18446744073709551616", 20},
                                       {"x-ratelimit-reset", 17, "1e308", 5}};
        grate_header_report report = GRATE_HEADER_REPORT_INIT;
        grate_response response = GRATE_RESPONSE_INIT;
        uint64_t room = 0;
        grate_status status;
        CHECK_EQ_I32(grate_engine_cancel(engine, INTEGERS[v], NULL), GRATE_ERR_STALE_LEASE);
        status = grate_engine_remaining_quota(engine, "p", (int32_t)INTEGERS[v], &room, NULL);
        CHECK(status == GRATE_OK || status == GRATE_ERR_INVALID_ARGUMENT);
        CHECK(grate_status_name((int32_t)INTEGERS[v])[0] == 'G');
        CHECK_EQ_I32(grate_parse_headers(fields, 3, INTEGERS[v], &report, NULL), GRATE_OK);
        response.outcome = GRATE_OUTCOME_RATE_LIMITED;
        response.headers = fields;
        response.headers_len = 3;
        CHECK_EQ_I32(grate_engine_observe(engine, "p", &response, NULL), GRATE_OK);
        check_sane("headers");
    }
    CHECK_EQ_I32(granted(), 0);
    end();
}

int main(void)
{
    const double values[LENGTH(doubles)] = {0,        -0.0,          1,        -1,       0.5,     2,       1e-300, 4.9e-324,
                                            -4.9e-324, DBL_MIN,      DBL_MAX,  -DBL_MAX, HUGE_VAL, -HUGE_VAL, (double)NAN, 31622400,
                                            31622401, 0.9999999999999999};
    memcpy(doubles, values, sizeof doubles);
    alarm(300);
    RUN(requests);
    RUN(responses);
    RUN(settings);
    RUN(quotas_and_providers);
    RUN(time_at_its_ends);
    RUN(plain_arguments);
    return check_report("extremes");
}
