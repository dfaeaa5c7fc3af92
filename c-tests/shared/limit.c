/*
 * Eight processes hammer one key with a limit of 1000 per second. Recounted over all of them, no window of a second holds more,
 * and almost all of the limit is used; likewise while one of them is killed every 200 ms and started again, and the leases of
 * those who died do not hold their slots for good.
 *
 *   shared_limit [long]
 *
 * Units leave their window `skew_ns` late, which by default is 5 % of this one; so here it is none.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "common.h"
#include "recount.h"
#include "stopwatch.h"

#define WORKERS 8
#define LIMIT 1000
/* Leases that a worker holds while it asks for the next. */
#define HELD 4
/* Twice what is ever held: slots that are lost are missed soon. */
#define SLOTS 64
#define MS UINT64_C(1000000)
#define SECOND GRATE_WINDOW_SECOND
#define KILL_EVERY (200 * MS)
#define LONGEST (100 * MS) /* call, but for the time without a core */

static const char JSON[] =
    "{\"providers\": [{\"name\": \"p\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 1000, \"window\": \"second\"},"
    " {\"dimension\": \"concurrency\", \"limit\": 64}]}],"
    " \"capabilities\": [{\"name\": \"api\", \"providers\": [{\"provider\": \"p\"}]}]}";

/* What a worker writes down, for whoever survives it. */
typedef struct {
    uint64_t calls, without_slot, errors;
    durations longest;
    size_t len; /* grants */
    struct {
        uint64_t before, after;
    } grants[];
} records;

static int seconds;
static int *stop;

static grate_engine *make(const char *path, const char *json)
{
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    config.skew_ns = GRATE_ZERO;
    return open_state(path, &config, json);
}

static size_t most_grants(void)
{
    return (size_t)(seconds + 5) * LIMIT * (WORKERS + 1);
}

static records *records_of(void *all, int worker)
{
    return (records *)((char *)all + (size_t)worker * (sizeof(records) + most_grants() * sizeof(uint64_t[2])));
}

static void work(const char *path, records *r)
{
    grate_engine *engine;
    grate_response served = GRATE_RESPONSE_INIT;
    uint64_t leases[HELD] = {0}, turn = 0, begin = now_ns();
    stopwatch watch;
    served.outcome = GRATE_OUTCOME_SUCCESS;
    stopwatch_start(&watch, &r->longest);
    engine = make(path, JSON);
    stopwatch_note(&watch, begin, now_ns());
    while (!__atomic_load_n(stop, __ATOMIC_RELAXED) && r->len < most_grants()) {
        grate_decision decision = GRATE_DECISION_INIT;
        uint64_t before = now_ns(), after;
        grate_status status = grate_engine_acquire(engine, "api", NULL, &decision, NULL);
        after = now_ns();
        stopwatch_note(&watch, before, after);
        r->calls++;
        if (status == GRATE_OK) {
            uint64_t *lease = &leases[turn++ % HELD];
            r->grants[r->len].before = before;
            r->grants[r->len].after = after;
            r->len++;
            r->errors += *lease != 0 && grate_engine_complete(engine, *lease, &served, NULL) != GRATE_OK;
            *lease = decision.lease;
        } else {
            r->errors += status != GRATE_ERR_NO_PROVIDER_AVAILABLE;
            r->without_slot += decision.held_by == GRATE_HELD_BY_CONCURRENCY;
        }
    }
    grate_engine_free(engine);
}

static pid_t start(const char *path, records *r)
{
    pid_t child = fork();
    if (child == 0) {
        work(path, r);
        _exit(0);
    }
    return child;
}

/* Lets all work; `kills` counts those that are killed, or is NULL. */
static void run(const char *path, void *all, unsigned *kills)
{
    uint64_t end = now_ns() + (uint64_t)seconds * SECOND + SECOND / 2, seed = 1;
    pid_t workers[WORKERS];
    int i;
    *stop = 0;
    for (i = 0; i < WORKERS; i++) {
        workers[i] = start(path, records_of(all, i));
    }
    while (now_ns() < end) {
        sleep_ns(KILL_EVERY);
        if (kills != NULL) {
            i = (int)(next_random(&seed) % WORKERS);
            kill(workers[i], SIGKILL);
            CHECK_EQ_I32(ended(workers[i]), -SIGKILL);
            workers[i] = start(path, records_of(all, i));
            ++*kills;
        }
    }
    __atomic_store_n(stop, 1, __ATOMIC_RELAXED);
    for (i = 0; i < WORKERS; i++) {
        CHECK_EQ_I32(ended(workers[i]), 0);
    }
}

/* All grants in order; two events for each. */
static event *events_of(void *all, size_t *len)
{
    event *events, *spare;
    size_t i, grants = 0;
    int w;
    for (w = 0; w < WORKERS; w++) {
        grants += records_of(all, w)->len;
    }
    events = calloc(2 * grants + 1, sizeof *events);
    spare = calloc(2 * grants + 1, sizeof *events);
    *len = 0;
    for (w = 0; w < WORKERS; w++) {
        const records *r = records_of(all, w);
        for (i = 0; i < r->len; i++) {
            events[(*len)++] = (event){r->grants[i].before, 1, 0};
            events[(*len)++] = (event){r->grants[i].after, 0, 1};
        }
    }
    events_sort(events, spare, *len);
    free(spare);
    return events;
}

static recount recount_all(void *all)
{
    limit_history limits = {0};
    recount counted = {0};
    size_t len;
    event *events = events_of(all, &len);
    limit_changes(&limits, 0, 0, LIMIT);
    recount_rolling(events, len, SECOND, &limits, 0, UINT64_MAX, &counted);
    free(events);
    return counted;
}

/* The least share of the limit that is used in a second, from the first grant on; the first second is left out. */
static double least_use(void *all)
{
    size_t len, i = 0;
    event *events = events_of(all, &len);
    uint64_t begin = len > 0 ? events[0].time : 0, window, used, least = UINT64_MAX;
    for (window = 0; window < (uint64_t)seconds; window++) {
        for (used = 0; i < len && events[i].time < begin + (window + 1) * SECOND; i++) {
            used += events[i].ended;
        }
        least = window > 0 && used < least ? used : least;
    }
    free(events);
    return (double)least / LIMIT;
}

static void judge(const char *what, void *all, double wanted)
{
    recount counted = recount_all(all);
    uint64_t calls = 0, errors = 0, without_slot = 0;
    durations longest = {0, 0, 0};
    double used = least_use(all);
    int w;
    for (w = 0; w < WORKERS; w++) {
        const records *r = records_of(all, w);
        calls += r->calls;
        errors += r->errors;
        without_slot += r->without_slot;
        durations_join(&longest, &r->longest);
    }
    printf("%s: %" PRIu64 " acquires, %" PRIu64 " windows recounted, the fullest %.4f, the emptiest second %.4f; ", what, calls,
           counted.windows, counted.worst, used);
    durations_tell(&longest);
    CHECK_EQ_U64(counted.excesses, 0);
    CHECK(used >= wanted);
    CHECK_EQ_U64(errors, 0);
    CHECK_EQ_U64(without_slot, 0);
    CHECK(durations_within(&longest, LONGEST));
}

static void *fresh_records(void)
{
    return shared_memory(WORKERS * (sizeof(records) + most_grants() * sizeof(uint64_t[2])));
}

/* Nobody works any more: nothing is in flight, at the latest when the processes were looked after. */
static void check_at_rest(grate_engine *engine)
{
    grate_quota_state quotas[2] = {GRATE_QUOTA_STATE_INIT, GRATE_QUOTA_STATE_INIT};
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    uint64_t patience = now_ns() + 5 * SECOND;
    state.quotas = quotas;
    state.quotas_capacity = 2;
    do {
        sleep_ns(10 * MS);
        CHECK_EQ_I32(grate_engine_provider_state(engine, "p", &state, NULL), GRATE_OK);
    } while (state.leases_in_flight > 0 && now_ns() < patience);
    CHECK_EQ_U64(state.leases_in_flight, 0);
    CHECK_EQ_U64(quotas[1].used, 0);
    CHECK_EQ_U64(quotas[1].remaining, SLOTS);
    CHECK_EQ_U64(state.acquires, state.completions + state.expired_leases);
}

TEST(eight_processes_keep_a_limit_and_use_it)
{
    const char *path = state_path("left-alone");
    grate_engine *engine = make(path, NULL);
    void *all = fresh_records();
    run(path, all, NULL);
    judge("eight processes", all, 0.97);
    check_at_rest(engine);
    grate_engine_free(engine);
}

TEST(killed_processes_break_no_limit_and_lose_no_slot)
{
    const char *path = state_path("killed");
    grate_engine *engine = make(path, NULL);
    void *all = fresh_records();
    unsigned kills = 0;
    run(path, all, &kills);
    printf("%u processes were killed\n", kills);
    /* A unit of each process that was killed between its grant and its record is not in the records. */
    judge("processes that are killed", all, 0.97 - 1.0 / LIMIT * (double)(SECOND / KILL_EVERY + 1));
    check_at_rest(engine);
    grate_engine_free(engine);
}

TEST(engines_of_their_own_would_be_noticed)
{
    void *all = fresh_records();
    run(NULL, all, NULL);
    CHECK(recount_all(all).worst > WORKERS - 1);
}

int main(int argc, char **argv)
{
    seconds = argc > 1 && strcmp(argv[1], "long") == 0 ? 30 : 4;
    alarm(3 * (unsigned)seconds + 60);
    stop = shared_memory(sizeof *stop);
    RUN(eight_processes_keep_a_limit_and_use_it);
    RUN(killed_processes_break_no_limit_and_lose_no_slot);
    seconds = 1;
    RUN(engines_of_their_own_would_be_noticed);
    return check_report("shared_limit");
}
