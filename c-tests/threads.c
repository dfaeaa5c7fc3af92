/*
 * Eight threads acquire, complete and cancel on three providers. Every admission is recorded and every window recounted
 * afterwards: whatever the threads did, no quota was exceeded and no lease is left.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "grate.h"

#define THREADS 8
#define MAX_RECORDS 20000
#define PROVIDERS 3
#define MS ((uint64_t)1000000)
#define RUN_NS (2000 * MS)

enum { A, B, C };
static const char *const NAMES[PROVIDERS] = {"a", "b", "c"};

/* a: rolling requests and tokens. b: a bucket. a and b: a pool of requests and one of slots. c: slots and a window. */
#define A_REQUESTS 40
#define A_WINDOW (100 * MS)
#define A_TOKENS 2000
#define A_TOKENS_WINDOW (150 * MS)
#define B_RATE_PER_SECOND 500
#define B_BURST 30
#define POOL_REQUESTS 55
#define POOL_WINDOW (130 * MS)
#define POOL_SLOTS 5
#define C_SLOTS 3
#define C_REQUESTS 100
#define C_WINDOW (250 * MS)

/* An admission. The engine's time of it is between the two that were read around the call. */
typedef struct {
    uint64_t before, after, tokens;
    int provider;
} record;

typedef struct {
    pthread_t thread;
    uint64_t random;
    record *records;
    size_t len;
    uint64_t acquired, cancelled;
    const char *wrong; /* the first thing that must not happen */
    int32_t status;
    int reconfigures;
} worker;

static grate_engine *engine;
static grate_clock *mock; /* NULL: the system's clock */
static int stop;
static int32_t in_flight[PROVIDERS], pool_in_flight;

static uint64_t system_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 * MS + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void)
{
    return mock != NULL ? grate_clock_now_ns(mock) : system_ns();
}

static uint64_t random_below(worker *w, uint64_t n)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (w->random >> 33) % n;
}

static void rest(worker *w)
{
    struct timespec t = {0, 0};
    t.tv_nsec = (long)random_below(w, 400000);
    if (mock != NULL || t.tv_nsec < 100000) {
        sched_yield();
    } else {
        nanosleep(&t, NULL);
    }
}

static void wrong(worker *w, const char *what, int32_t status)
{
    if (w->wrong == NULL) {
        w->wrong = what;
        w->status = status;
    }
}

static grate_quota_config quota(int32_t dimension, uint64_t limit, uint64_t window_ns, const char *pool)
{
    grate_quota_config q = GRATE_QUOTA_CONFIG_INIT;
    q.dimension = dimension;
    q.limit = limit;
    q.window_ns = window_ns;
    q.pool = pool;
    return q;
}

static grate_status define(int which)
{
    grate_provider_config p = GRATE_PROVIDER_CONFIG_INIT;
    grate_quota_config quotas[4];
    p.name = NAMES[which];
    p.priority = (uint32_t)(10 - which);
    if (which == C) {
        quotas[0] = quota(GRATE_DIMENSION_CONCURRENCY, C_SLOTS, 0, NULL);
        quotas[1] = quota(GRATE_DIMENSION_REQUESTS, C_REQUESTS, C_WINDOW, NULL);
        p.quotas_len = 2;
    } else {
        quotas[0] = quota(GRATE_DIMENSION_REQUESTS, POOL_REQUESTS, POOL_WINDOW, "org");
        quotas[1] = quota(GRATE_DIMENSION_CONCURRENCY, POOL_SLOTS, 0, "org");
        quotas[2] = quota(GRATE_DIMENSION_REQUESTS, A_REQUESTS, A_WINDOW, NULL);
        quotas[3] = quota(GRATE_DIMENSION_TOKENS, A_TOKENS, A_TOKENS_WINDOW, NULL);
        if (which == B) {
            quotas[2] = quota(GRATE_DIMENSION_REQUESTS, B_RATE_PER_SECOND, GRATE_WINDOW_SECOND, NULL);
            quotas[2].strategy = GRATE_STRATEGY_TOKEN_BUCKET;
            quotas[2].burst = B_BURST;
        }
        p.quotas_len = which == A ? 4 : 3;
    }
    p.quotas = quotas;
    return grate_engine_upsert_provider(engine, &p, NULL);
}

/* What any thread may do at any time beside the requests. */
static void look(worker *w)
{
    grate_decision decision = GRATE_DECISION_INIT;
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    grate_metrics metrics = GRATE_METRICS_INIT;
    grate_status status = grate_engine_select(engine, "api", NULL, &decision, NULL);
    uint64_t len = 0;
    if (status != GRATE_OK && status != GRATE_ERR_NO_PROVIDER_AVAILABLE) {
        wrong(w, "select", status);
    }
    if ((status = grate_engine_provider_state(engine, NAMES[random_below(w, PROVIDERS)], &state, NULL)) != GRATE_OK) {
        wrong(w, "provider_state", status);
    }
    /* The counters of the providers are not from one moment, so a thread may be seen on each. */
    if ((status = grate_engine_metrics(engine, &metrics, NULL)) != GRATE_OK || metrics.leases_in_flight > THREADS * PROVIDERS) {
        wrong(w, "metrics", status);
    }
    if ((status = grate_engine_prometheus(engine, NULL, 0, &len, NULL)) != GRATE_ERR_BUFFER_TOO_SMALL || len == 0) {
        wrong(w, "prometheus", status);
    }
    if (w->reconfigures && (status = define((int)random_below(w, PROVIDERS))) != GRATE_OK) {
        wrong(w, "upsert_provider", status);
    }
}

static void one_request(worker *w)
{
    grate_request request = GRATE_REQUEST_INIT;
    grate_decision decision = GRATE_DECISION_INIT;
    grate_response response = GRATE_RESPONSE_INIT;
    grate_error err = GRATE_ERROR_INIT;
    grate_status status;
    record r;
    int32_t limit, mine, pooled = 0;

    request.tokens = 1 + random_below(w, 100);
    r.before = now_ns();
    status = grate_engine_acquire(engine, "api", &request, &decision, &err);
    r.after = now_ns();
    if (status == GRATE_ERR_NO_PROVIDER_AVAILABLE) {
        if (decision.retry_after_ns == 0 || decision.held_by == GRATE_HELD_BY_NOTHING) {
            wrong(w, "nothing is available, and nothing holds it", status);
        }
        rest(w);
        return;
    }
    if (status != GRATE_OK) {
        wrong(w, "acquire", status);
        return;
    }
    r.provider = decision.provider[0] - 'a';
    limit = r.provider == C ? C_SLOTS : POOL_SLOTS;
    mine = __atomic_add_fetch(&in_flight[r.provider], 1, __ATOMIC_SEQ_CST);
    if (r.provider != C) {
        pooled = __atomic_add_fetch(&pool_in_flight, 1, __ATOMIC_SEQ_CST);
    }
    if (mine > limit || pooled > POOL_SLOTS) {
        wrong(w, "more leases than slots", mine);
    }
    w->acquired++;
    rest(w);

    __atomic_sub_fetch(&in_flight[r.provider], 1, __ATOMIC_SEQ_CST);
    if (r.provider != C) {
        __atomic_sub_fetch(&pool_in_flight, 1, __ATOMIC_SEQ_CST);
    }
    if (random_below(w, 6) == 0) {
        status = grate_engine_cancel(engine, decision.lease, &err);
        w->cancelled++;
    } else {
        r.tokens = 1 + random_below(w, request.tokens);
        w->records[w->len++] = r;
        response.outcome = GRATE_OUTCOME_SUCCESS;
        response.tokens = r.tokens;
        status = grate_engine_complete(engine, decision.lease, &response, &err);
    }
    if (status != GRATE_OK) {
        wrong(w, "settling a lease", status);
    }
    if (grate_engine_cancel(engine, decision.lease, NULL) != GRATE_ERR_STALE_LEASE) {
        wrong(w, "settling it again", status);
    }
}

static void *work(void *argument)
{
    worker *w = argument;
    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST) && w->len < MAX_RECORDS && w->wrong == NULL) {
        one_request(w);
        if (random_below(w, 20) == 0) {
            look(w);
        }
    }
    return NULL;
}

static int by_end(const void *a, const void *b)
{
    uint64_t x = ((const record *)a)->after, y = ((const record *)b)->after;
    return (x > y) - (x < y);
}

/* The most units that were certainly admitted within one window; `records` are in the order of their ends. */
static uint64_t most_in_window(const record *records, size_t len, uint64_t window, unsigned providers, int tokens)
{
    uint64_t most = 0;
    size_t i, k;
    for (i = 0; i < len; i++) {
        uint64_t start = records[i].before, sum = 0;
        for (k = 0; k < len && records[k].after < start + window; k++) {
            if (records[k].before >= start && (providers >> records[k].provider & 1) != 0) {
                sum += tokens ? records[k].tokens : 1;
            }
        }
        most = sum > most ? sum : most;
    }
    return most;
}

/* How far the bucket was overdrawn at most: between two times no more than a full bucket and its refill fit. */
static double bucket_excess(const record *records, size_t len)
{
    double worst = -B_BURST;
    size_t i, k;
    for (i = 0; i < len; i++) {
        double sum = 0;
        for (k = 0; k < len; k++) {
            if (records[k].provider == B && records[k].before >= records[i].before) {
                double secs = (double)(records[k].after - records[i].before) / 1e9, excess;
                sum += 1;
                excess = sum - B_BURST - B_RATE_PER_SECOND * secs;
                worst = excess > worst ? excess : worst;
            }
        }
    }
    return worst;
}

static void hammer(void)
{
    static worker workers[THREADS];
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_capability_config capability = GRATE_CAPABILITY_CONFIG_INIT;
    grate_capability_provider list[PROVIDERS] = {GRATE_CAPABILITY_PROVIDER_INIT, GRATE_CAPABILITY_PROVIDER_INIT,
                                                 GRATE_CAPABILITY_PROVIDER_INIT};
    grate_metrics metrics = GRATE_METRICS_INIT;
    record *all;
    size_t len = 0, i;
    uint64_t acquired = 0, cancelled = 0, begin, slots = 0;

    config.clock = mock;
    /* The engine's margin would hide what is too much. */
    config.skew_ns = GRATE_ZERO;
    CHECK_EQ_I32(grate_engine_new(&config, &engine, NULL), GRATE_OK);
    for (i = 0; i < PROVIDERS; i++) {
        CHECK_EQ_I32(define((int)i), GRATE_OK);
        list[i].provider = NAMES[i];
    }
    capability.name = "api";
    capability.providers = list;
    capability.providers_len = PROVIDERS;
    CHECK_EQ_I32(grate_engine_upsert_capability(engine, &capability, NULL), GRATE_OK);

    stop = 0;
    memset(workers, 0, sizeof workers);
    for (i = 0; i < THREADS; i++) {
        workers[i].random = i + 1;
        workers[i].reconfigures = i == 0;
        workers[i].records = malloc(MAX_RECORDS * sizeof(record));
        if (!CHECK(workers[i].records != NULL) ||
            !CHECK_EQ_I32(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0)) {
            exit(1);
        }
    }
    for (begin = system_ns(); system_ns() - begin < RUN_NS;) {
        struct timespec t = {0, 200000};
        nanosleep(&t, NULL);
        if (mock != NULL) {
            CHECK_EQ_I32(grate_clock_advance_ms(mock, 1), GRATE_OK);
        }
    }
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);

    all = malloc(THREADS * MAX_RECORDS * sizeof(record));
    if (!CHECK(all != NULL)) {
        exit(1);
    }
    for (i = 0; i < THREADS; i++) {
        worker *w = &workers[i];
        CHECK_EQ_I32(pthread_join(w->thread, NULL), 0);
        if (w->wrong != NULL) {
            check_fail(__FILE__, __LINE__, "thread %d: %s (%d)", (int)i, w->wrong, (int)w->status);
        }
        memcpy(all + len, w->records, w->len * sizeof(record));
        len += w->len;
        acquired += w->acquired;
        cancelled += w->cancelled;
        free(w->records);
    }
    qsort(all, len, sizeof(record), by_end);

    /* Enough went through for the rest to mean something. */
    CHECK(len > 100);
    CHECK(cancelled > 0);
    CHECK(most_in_window(all, len, A_WINDOW, 1u << A, 0) <= A_REQUESTS);
    CHECK(most_in_window(all, len, A_TOKENS_WINDOW, 1u << A, 1) <= A_TOKENS);
    CHECK(most_in_window(all, len, POOL_WINDOW, 1u << A | 1u << B, 0) <= POOL_REQUESTS);
    CHECK(most_in_window(all, len, C_WINDOW, 1u << C, 0) <= C_REQUESTS);
    /* A millionth of a unit for the doubles of this test. */
    CHECK(bucket_excess(all, len) <= 1e-6);
    free(all);

    CHECK_EQ_I32(grate_engine_metrics(engine, &metrics, NULL), GRATE_OK);
    CHECK_EQ_U64(metrics.leases_in_flight, 0);
    CHECK_EQ_U64(metrics.expired_leases, 0);
    CHECK_EQ_U64(metrics.acquires, acquired);
    CHECK_EQ_U64(metrics.cancellations, cancelled);
    CHECK_EQ_U64(metrics.completions, acquired - cancelled);
    for (i = 0; i < PROVIDERS; i++) {
        CHECK_EQ_I32(grate_engine_remaining_quota(engine, NAMES[i], GRATE_DIMENSION_CONCURRENCY, &slots, NULL), GRATE_OK);
        CHECK_EQ_U64(slots, i == C ? C_SLOTS : POOL_SLOTS);
    }
    grate_engine_free(engine);
}

TEST(system_clock)
{
    mock = NULL;
    hammer();
}

TEST(mock_clock_that_one_thread_moves)
{
    mock = grate_clock_mock_new(1767225600000u);
    hammer();
    grate_clock_free(mock);
    mock = NULL;
}

/* Two threads, one slot, no other limit: they take turns, and never hold it together. */
static int32_t held;

static void *take_turns(void *argument)
{
    uint64_t *turns = argument;
    grate_response served = GRATE_RESPONSE_INIT;
    served.outcome = GRATE_OUTCOME_SUCCESS;
    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
        grate_decision decision = GRATE_DECISION_INIT;
        if (grate_engine_acquire(engine, "one", NULL, &decision, NULL) != GRATE_OK) {
            sched_yield();
            continue;
        }
        if (__atomic_add_fetch(&held, 1, __ATOMIC_SEQ_CST) != 1) {
            *turns = UINT64_MAX;
            return NULL;
        }
        __atomic_sub_fetch(&held, 1, __ATOMIC_SEQ_CST);
        ++*turns;
        grate_engine_complete(engine, decision.lease, &served, NULL);
    }
    return NULL;
}

TEST(one_slot_is_one_lease)
{
    static const char json[] = "{\"providers\": [{\"name\": \"p\", \"quotas\": [{\"dimension\": \"concurrency\", \"limit\": 1}]}],"
                               " \"capabilities\": [{\"name\": \"one\", \"providers\": [{\"provider\": \"p\"}]}]}";
    pthread_t threads[2];
    uint64_t turns[2] = {0, 0};
    struct timespec t = {0, 300000000};
    int i;
    CHECK_EQ_I32(grate_engine_new(NULL, &engine, NULL), GRATE_OK);
    CHECK_EQ_I32(grate_engine_configure_json(engine, json, sizeof json - 1, NULL), GRATE_OK);
    stop = 0;
    for (i = 0; i < 2; i++) {
        CHECK_EQ_I32(pthread_create(&threads[i], NULL, take_turns, &turns[i]), 0);
    }
    nanosleep(&t, NULL);
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
    for (i = 0; i < 2; i++) {
        CHECK_EQ_I32(pthread_join(threads[i], NULL), 0);
        CHECK(turns[i] != UINT64_MAX);
    }
    CHECK(turns[0] + turns[1] > 0);
    grate_engine_free(engine);
}

int main(void)
{
    /* A deadlock ends the program instead of the patience. */
    alarm(180);
    RUN(system_clock);
    RUN(mock_clock_that_one_thread_moves);
    RUN(one_slot_is_one_lease);
    return check_report("threads");
}
