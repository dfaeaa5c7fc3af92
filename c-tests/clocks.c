/*
 * A caller's clock that misbehaves: it goes back, jumps to the end of its numbers, returns rubbish, takes long. Limits hold
 * by the latest time that it showed, no number that comes out is out of range, and nobody waits for a slow clock but its
 * caller. (A clock that calls the engine, throws or jumps out is against the rules of grate_monotonic_ns_fn.)
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "grate.h"

#define LIMIT 3
#define SLOTS 2
#define STEPS 20000

typedef struct {
    uint64_t ns, ms;
} hands; /* what the clock shows */

static uint64_t monotonic(void *user_data)
{
    return ((hands *)user_data)->ns;
}

static uint64_t unix_ms(void *user_data)
{
    return ((hands *)user_data)->ms;
}

static uint64_t state = 1;

static uint64_t random_u64(void)
{
    uint64_t high;
    state = state * 6364136223846793005u + 1442695040888963407u;
    high = state >> 32;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return high << 32 | state >> 32;
}

static grate_engine *make(grate_monotonic_ns_fn ns, grate_unix_ms_fn ms, void *user_data, int32_t strategy)
{
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_provider_config provider = GRATE_PROVIDER_CONFIG_INIT;
    grate_capability_config capability = GRATE_CAPABILITY_CONFIG_INIT;
    grate_capability_provider row = GRATE_CAPABILITY_PROVIDER_INIT;
    grate_quota_config quotas[2] = {GRATE_QUOTA_CONFIG_INIT, GRATE_QUOTA_CONFIG_INIT};
    grate_clock *clock = NULL;
    grate_engine *engine = NULL;
    CHECK_EQ_I32(grate_clock_callback_new(ns, ms, user_data, &clock, NULL), GRATE_OK);
    config.clock = clock;
    config.skew_ns = GRATE_ZERO;
    CHECK_EQ_I32(grate_engine_new(&config, &engine, NULL), GRATE_OK);
    grate_clock_free(clock);
    quotas[0].dimension = GRATE_DIMENSION_REQUESTS;
    quotas[0].limit = LIMIT;
    quotas[0].window_ns = GRATE_WINDOW_MINUTE;
    quotas[0].strategy = strategy;
    quotas[1].dimension = GRATE_DIMENSION_CONCURRENCY;
    quotas[1].limit = SLOTS;
    provider.name = row.provider = "p";
    provider.quotas = quotas;
    provider.quotas_len = 2;
    capability.name = "api";
    capability.providers = &row;
    capability.providers_len = 1;
    CHECK_EQ_I32(grate_engine_upsert_provider(engine, &provider, NULL), GRATE_OK);
    CHECK_EQ_I32(grate_engine_upsert_capability(engine, &capability, NULL), GRATE_OK);
    return engine;
}

static void check_state(grate_engine *engine)
{
    grate_quota_state quotas[2] = {GRATE_QUOTA_STATE_INIT, GRATE_QUOTA_STATE_INIT};
    grate_provider_state p = GRATE_PROVIDER_STATE_INIT;
    int i;
    p.quotas = quotas;
    p.quotas_capacity = 2;
    CHECK_EQ_I32(grate_engine_provider_state(engine, "p", &p, NULL), GRATE_OK);
    CHECK(p.health >= 0 && p.health <= 1);
    for (i = 0; i < 2; i++) {
        CHECK(quotas[i].predicted_share >= 0 && quotas[i].predicted_share <= 1);
        CHECK(quotas[i].burn_per_sec >= 0 && isfinite(quotas[i].burn_per_sec));
        CHECK(quotas[i].seconds_to_exhaustion >= 0);
        CHECK(quotas[i].used <= quotas[i].limit);
    }
}

/* One step of a clock: mostly a bit on, and now and then anywhere. */
static uint64_t next(uint64_t ns)
{
    switch (random_u64() % 150) {
    case 0:
        return ns - random_u64() % (GRATE_WINDOW_HOUR); /* back, below 0 also to the end */
    case 1:
        return random_u64();
    case 2:
        return random_u64() % 2 ? UINT64_MAX : 0;
    default:
        return ns + random_u64() % (GRATE_WINDOW_MINUTE / 4);
    }
}

/* With rubbish now and then, no window by the latest time seen holds more than the limit. Starts over when time has come to
   its end, after which nothing is left to see. */
static void walk(int32_t strategy)
{
    hands h = {0, 1767225600000u};
    uint64_t latest = 0, admitted[LIMIT + 1] = {0}, leases[SLOTS], seen = 0;
    int step, out = 0, refused = 0, i;
    grate_engine *engine = make(monotonic, unix_ms, &h, strategy);
    for (step = 0; step < STEPS; step++) {
        grate_decision decision = GRATE_DECISION_INIT;
        grate_response served = GRATE_RESPONSE_INIT;
        grate_status status;
        served.outcome = GRATE_OUTCOME_SUCCESS;
        if (step % 100 == 0) {
            grate_engine_free(engine);
            h.ns = random_u64() >> 1;
            engine = make(monotonic, unix_ms, &h, strategy);
            latest = h.ns;
            seen = 0;
            out = 0;
        }
        h.ns = next(h.ns);
        h.ms = random_u64();
        latest = h.ns > latest ? h.ns : latest;
        status = grate_engine_acquire(engine, "api", NULL, &decision, NULL);
        CHECK(status == GRATE_OK || status == GRATE_ERR_NO_PROVIDER_AVAILABLE);
        if (status == GRATE_OK) {
            if (strategy == GRATE_STRATEGY_ROLLING) {
                for (i = LIMIT; i > 0; i--) {
                    admitted[i] = admitted[i - 1];
                }
                admitted[0] = latest;
                CHECK(++seen <= LIMIT || latest - admitted[LIMIT] >= GRATE_WINDOW_MINUTE);
            }
            CHECK(out < SLOTS);
            leases[out++] = decision.lease;
        } else {
            refused++;
            CHECK(decision.held_by != GRATE_HELD_BY_NOTHING && decision.retry_after_ns > 0);
        }
        if (out == SLOTS || (out > 0 && random_u64() % 2)) {
            status = grate_engine_complete(engine, leases[--out], &served, NULL);
            /* A clock that jumps lets leases expire: all of them, as they are equally old to it. */
            CHECK(status == GRATE_OK || status == GRATE_ERR_STALE_LEASE);
            out = status == GRATE_OK ? out : 0;
        }
        check_state(engine);
    }
    /* Both happened often enough to mean something. */
    CHECK(refused > STEPS / 20 && refused < STEPS - STEPS / 20);
    grate_engine_free(engine);
}

TEST(rubbish_now_and_then)
{
    walk(GRATE_STRATEGY_ROLLING);
    walk(GRATE_STRATEGY_TOKEN_BUCKET);
    walk(GRATE_STRATEGY_FIXED_WINDOW);
}

/* After one look at the end of time, time stands still: at most what is left is admitted, for good. */
TEST(one_jump_to_the_end)
{
    static const int32_t strategies[] = {GRATE_STRATEGY_ROLLING, GRATE_STRATEGY_TOKEN_BUCKET, GRATE_STRATEGY_FIXED_WINDOW};
    size_t s;
    for (s = 0; s < 3; s++) {
        hands h = {1000, 1767225600000u};
        grate_engine *engine = make(monotonic, unix_ms, &h, strategies[s]);
        int i, granted = 0;
        h.ns = UINT64_MAX;
        h.ms = UINT64_MAX;
        for (i = 0; i < 50; i++) {
            grate_decision decision = GRATE_DECISION_INIT;
            if (grate_engine_acquire(engine, "api", NULL, &decision, NULL) == GRATE_OK) {
                grate_response served = GRATE_RESPONSE_INIT;
                served.outcome = GRATE_OUTCOME_SUCCESS;
                granted++;
                CHECK_EQ_I32(grate_engine_complete(engine, decision.lease, &served, NULL), GRATE_OK);
            }
            h.ns = i % 2 ? UINT64_MAX : (uint64_t)i * GRATE_WINDOW_HOUR;
        }
        CHECK(granted <= LIMIT);
        check_state(engine);
        grate_engine_free(engine);
    }
}

/* ---- A slow clock ---- */

static pthread_t sleeper;
static int asleep;

static uint64_t slow(void *unused)
{
    struct timespec t;
    (void)unused;
    if (__atomic_load_n(&asleep, __ATOMIC_SEQ_CST) == 1 && pthread_equal(pthread_self(), sleeper)) {
        __atomic_store_n(&asleep, 2, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&asleep, __ATOMIC_SEQ_CST) == 2) {
            usleep(100);
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * GRATE_WINDOW_SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t fixed_ms(void *unused)
{
    (void)unused;
    return 1767225600000u;
}

static void *ask(void *engine)
{
    double health = 0;
    sleeper = pthread_self();
    __atomic_store_n(&asleep, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ_I32(grate_engine_provider_health(engine, "p", &health, NULL), GRATE_OK);
    return NULL;
}

TEST(a_clock_that_takes_long_holds_up_its_caller_alone)
{
    grate_engine *engine = make(slow, fixed_ms, NULL, GRATE_STRATEGY_ROLLING);
    grate_decision decision = GRATE_DECISION_INIT;
    pthread_t thread;
    CHECK_EQ_I32(pthread_create(&thread, NULL, ask, engine), 0);
    while (__atomic_load_n(&asleep, __ATOMIC_SEQ_CST) != 2) {
        usleep(100);
    }
    /* Would wait for ever if the sleeping call had taken a lock, a change of configuration most of all. */
    CHECK_EQ_I32(grate_engine_acquire(engine, "api", NULL, &decision, NULL), GRATE_OK);
    CHECK_EQ_I32(grate_engine_cancel(engine, decision.lease, NULL), GRATE_OK);
    CHECK_EQ_I32(grate_engine_remove_capability(engine, "api", NULL), GRATE_OK);
    __atomic_store_n(&asleep, 0, __ATOMIC_SEQ_CST);
    CHECK_EQ_I32(pthread_join(thread, NULL), 0);
    grate_engine_free(engine);
}

int main(void)
{
    alarm(180);
    RUN(rubbish_now_and_then);
    RUN(one_jump_to_the_end);
    RUN(a_clock_that_takes_long_holds_up_its_caller_alone);
    return check_report("clocks");
}
