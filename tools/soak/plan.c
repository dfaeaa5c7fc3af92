/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *const PROVIDER_NAMES[PROVIDERS] = {"a",  "b",  "c",  "d",  "told", "g0", "g1",
                                               "g2", "g3", "g4", "g5", "g6",   "g7"};
const char *const CAPABILITY_NAMES[CAPABILITIES] = {"chat", "batch", "visit", "free"};

static const unsigned SERVES[CAPABILITIES] = {1u << A | 1u << B | 1u << C | 1u << D, 1u << B | 1u << C, 0xFFu << GUEST,
                                              1u << TOLD};

#define ANY_GUEST (0xFFu << GUEST)
#define UNTIL_LATER UINT64_MAX

/* A guest's quotas are its own: QUOTA_PLAN has what each of them gets. */
const quota_plan QUOTA_PLAN[QUOTAS] = {
    {"a: requests / 100 ms", 1u << A, GRATE_DIMENSION_REQUESTS, GRATE_STRATEGY_ROLLING, 100 * MS, 0, NULL, {300, 200, 400}},
    {"a: tokens / 250 ms", 1u << A, GRATE_DIMENSION_TOKENS, GRATE_STRATEGY_ROLLING, 250 * MS, 0, NULL, {5000, 7000, 4000}},
    {"a: slots", 1u << A, GRATE_DIMENSION_CONCURRENCY, GRATE_STRATEGY_CONCURRENCY, 0, 0, NULL, {9, 6, 12}},
    {"b: requests, a bucket", 1u << B, GRATE_DIMENSION_REQUESTS, GRATE_STRATEGY_TOKEN_BUCKET, 1000 * MS, 50, NULL,
     {1000, 600, 800}},
    {"b: tokens / calendar s", 1u << B, GRATE_DIMENSION_TOKENS, GRATE_STRATEGY_FIXED_WINDOW, 1000 * MS, 0, NULL,
     {30000, 18000, 24000}},
    {"c: requests / calendar 500 ms", 1u << C, GRATE_DIMENSION_REQUESTS, GRATE_STRATEGY_FIXED_WINDOW, 500 * MS, 0, NULL,
     {1500, 1000, 2000}},
    {"c: bytes / 300 ms", 1u << C, GRATE_DIMENSION_BYTES, GRATE_STRATEGY_ROLLING, 300 * MS, 0, NULL,
     {250000, UNTIL_LATER, 150000}},
    {"d: requests / s", 1u << D, GRATE_DIMENSION_REQUESTS, GRATE_STRATEGY_ROLLING, 1000 * MS, 0, NULL, {40, 30, 50}},
    {"d: slots", 1u << D, GRATE_DIMENSION_CONCURRENCY, GRATE_STRATEGY_CONCURRENCY, 0, 0, NULL, {2, 3, 1}},
    {"pool of a, b: requests / 150 ms", 1u << A | 1u << B, GRATE_DIMENSION_REQUESTS, GRATE_STRATEGY_ROLLING, 150 * MS, 0, "org",
     {500, 400, 450}},
    {"pool of a, c: slots", 1u << A | 1u << C, GRATE_DIMENSION_CONCURRENCY, GRATE_STRATEGY_CONCURRENCY, 0, 0, "slots", {14, 10, 18}},
    {"pool of guests: requests / 200 ms", ANY_GUEST, GRATE_DIMENSION_REQUESTS, GRATE_STRATEGY_ROLLING, 200 * MS, 0, "guests",
     {100, 100, 100}},
    {"pool of guests: slots", ANY_GUEST, GRATE_DIMENSION_CONCURRENCY, GRATE_STRATEGY_CONCURRENCY, 0, 0, "guests", {4, 4, 4}},
};

uint64_t plan_limit(const plan_state *state, size_t quota)
{
    return QUOTA_PLAN[quota].limits[state->step[quota] % LIMITS];
}

uint32_t plan_units(int32_t dimension, uint32_t tokens)
{
    return dimension == GRATE_DIMENSION_TOKENS ? tokens : dimension == GRATE_DIMENSION_BYTES ? 8 * tokens : 1;
}

/* Which quotas a provider has now; how many. */
static size_t quotas_of(const plan_state *state, int provider, size_t *out)
{
    size_t n = 0, i;
    for (i = 0; i < QUOTAS; i++) {
        if ((QUOTA_PLAN[i].members >> provider & 1) != 0 && plan_limit(state, i) != UNTIL_LATER) {
            out[n++] = i;
        }
    }
    return n;
}

grate_status plan_upsert(grate_engine *engine, const plan_state *state, int provider)
{
    grate_provider_config config = GRATE_PROVIDER_CONFIG_INIT;
    grate_quota_config quotas[QUOTAS];
    size_t which[QUOTAS], n = quotas_of(state, provider, which), i;
    for (i = 0; i < n; i++) {
        const quota_plan *plan = &QUOTA_PLAN[which[i]];
        grate_quota_config quota = GRATE_QUOTA_CONFIG_INIT;
        quota.dimension = plan->dimension;
        quota.strategy = plan->strategy;
        quota.window_ns = plan->window_ns;
        quota.burst = plan->burst;
        quota.pool = plan->pool;
        quota.limit = plan_limit(state, which[i]);
        quotas[i] = quota;
    }
    config.name = PROVIDER_NAMES[provider];
    config.priority = 10;
    config.cooldown_seconds = 0.05;
    config.quotas = quotas;
    config.quotas_len = n;
    return grate_engine_upsert_provider(engine, &config, NULL);
}

/* The providers that serve a capability, in the order of a variant. */
static size_t serving(int capability, unsigned variant, int *out)
{
    size_t n = 0;
    int i;
    for (i = 0; i < PROVIDERS; i++) {
        int provider = (int)((unsigned)i + variant) % PROVIDERS;
        if ((SERVES[capability] >> provider & 1) != 0) {
            out[n++] = provider;
        }
    }
    return n;
}

static uint32_t priority(int provider, unsigned variant)
{
    return 1 + ((unsigned)provider * 7 + variant * 3) % 10;
}

grate_status plan_capability(grate_engine *engine, int capability, unsigned variant)
{
    grate_capability_config config = GRATE_CAPABILITY_CONFIG_INIT;
    grate_capability_provider list[PROVIDERS];
    int which[PROVIDERS];
    size_t n = serving(capability, variant, which), i;
    for (i = 0; i < n; i++) {
        grate_capability_provider one = GRATE_CAPABILITY_PROVIDER_INIT;
        one.provider = PROVIDER_NAMES[which[i]];
        one.priority = priority(which[i], variant);
        list[i] = one;
    }
    config.name = CAPABILITY_NAMES[capability];
    config.providers = list;
    config.providers_len = n;
    return grate_engine_upsert_capability(engine, &config, NULL);
}

/* A document under construction. */
typedef struct {
    char text[16384];
    size_t len;
} document;

static void say(document *d, const char *format, ...)
{
    va_list arguments;
    int n;
    va_start(arguments, format);
    n = vsnprintf(d->text + d->len, sizeof d->text - d->len, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= sizeof d->text - d->len) {
        fprintf(stderr, "soak: the document is too long\n");
        exit(2);
    }
    d->len += (size_t)n;
}

static void say_provider(document *d, const plan_state *state, int provider)
{
    static const char *const DIMENSIONS[] = {"",           "requests",    "tokens", "input_tokens", "output_tokens",
                                             "concurrency", "bytes"};
    static const char *const STRATEGIES[] = {"", "rolling", "token_bucket", "fixed_window", "concurrency"};
    size_t which[QUOTAS], n = quotas_of(state, provider, which), i;
    say(d, "{\"name\": \"%s\", \"priority\": 10, \"cooldown_seconds\": 0.05, \"quotas\": [", PROVIDER_NAMES[provider]);
    for (i = 0; i < n; i++) {
        const quota_plan *plan = &QUOTA_PLAN[which[i]];
        say(d, "%s{\"dimension\": \"%s\", \"strategy\": \"%s\", \"limit\": %" PRIu64, i > 0 ? ", " : "",
            DIMENSIONS[plan->dimension], STRATEGIES[plan->strategy], plan_limit(state, which[i]));
        if (plan->window_ns > 0) {
            say(d, ", \"window_ms\": %" PRIu64, plan->window_ns / MS);
        }
        if (plan->burst > 0) {
            say(d, ", \"burst\": %" PRIu64, plan->burst);
        }
        if (plan->pool != NULL) {
            say(d, ", \"pool\": \"%s\"", plan->pool);
        }
        say(d, "}");
    }
    say(d, "]}");
}

static void say_capability(document *d, int capability, unsigned variant)
{
    int which[PROVIDERS];
    size_t n = serving(capability, variant, which), i;
    say(d, "{\"name\": \"%s\", \"providers\": [", CAPABILITY_NAMES[capability]);
    for (i = 0; i < n; i++) {
        say(d, "%s{\"provider\": \"%s\", \"priority\": %" PRIu32 "}", i > 0 ? ", " : "", PROVIDER_NAMES[which[i]],
            priority(which[i], variant));
    }
    say(d, "]}");
}

grate_status plan_json(grate_engine *engine, const plan_state *state, unsigned providers, int whole, unsigned variant)
{
    static document d;
    int i, any = 0;
    d.len = 0;
    say(&d, "{\"providers\": [");
    for (i = 0; i < PROVIDERS; i++) {
        if (whole || (providers >> i & 1) != 0) {
            say(&d, "%s", any++ > 0 ? ", " : "");
            say_provider(&d, state, i);
        }
    }
    say(&d, "]");
    if (whole) {
        say(&d, ", \"capabilities\": [");
        for (i = 0; i < CAPABILITIES; i++) {
            say(&d, "%s", i > 0 ? ", " : "");
            say_capability(&d, i, variant);
        }
        /* What is left out would be the default, and a longer time to live. */
        say(&d, "], \"replace\": true, \"engine\": {\"lease_ttl_ms\": %" PRIu64 ", \"skew_ms\": %" PRIu64
                ", \"max_retry_after_ms\": %" PRIu64 ", \"max_cooldown_secs\": 0.2, \"recovery_half_life_secs\": 1}",
            LEASE_TTL_NS / MS, SKEW_NS / MS, MAX_RETRY_AFTER_NS / MS);
    }
    say(&d, "}");
    return grate_engine_configure_json(engine, d.text, d.len, NULL);
}
