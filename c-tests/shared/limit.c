/*
 * Eight processes share one key of 1000 requests a second, and hammer it: left alone, and while one of them is killed every
 * 200 ms and started again. What all were granted is recounted: no window holds more than the limit, nearly all of it is
 * used, no slot is lost, and no call waits for a process that is gone.
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

#define WORKERS 8
#define LIMIT 1000
#define SLOTS 12 /* four more than workers: so many may wait for somebody to notice that their process is gone */
#define MS UINT64_C(1000000)
#define SECOND GRATE_WINDOW_SECOND
#define HELD (2 * MS)  /* how long a request takes */
#define RETRY (MS / 5) /* how long a refused worker waits */
#define KILL_EACH (200 * MS)
#define LONGEST (100 * MS) /* call */

static const char JSON[] =
    "{\"providers\": [{\"name\": \"key\", \"quotas\": ["
    "{\"dimension\": \"requests\", \"limit\": 1000, \"window\": \"second\"}, {\"dimension\": \"concurrency\", \"limit\": 12}]}],"
    " \"capabilities\": [{\"name\": \"api\", \"providers\": [{\"provider\": \"key\"}]}]}";

/* The engine's time of a grant lies between the two. */
typedef struct {
    uint64_t before, after;
} grant;

typedef struct {
    int stop;
    uint64_t out_of_slots;
    struct {
        uint64_t entered; /* the call that it is in; 0: none */
        uint64_t longest; /* call */
    } workers[WORKERS];
    uint64_t len;
    grant grants[];
} log_book;

static log_book *book;
static uint64_t room, seconds;
static const char *path;

/* A call begins, and ends. */
static void enter(int worker)
{
    __atomic_store_n(&book->workers[worker].entered, now_ns(), __ATOMIC_SEQ_CST);
}

static uint64_t leave(int worker)
{
    uint64_t now = now_ns(), took = now - book->workers[worker].entered;
    if (took > book->workers[worker].longest) {
        book->workers[worker].longest = took;
    }
    __atomic_store_n(&book->workers[worker].entered, 0, __ATOMIC_SEQ_CST);
    return now;
}

static void work(int worker)
{
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_engine *engine;
    config.skew_ns = GRATE_ZERO;
    enter(worker);
    engine = open_state(path, &config, JSON);
    leave(worker);
    while (!__atomic_load_n(&book->stop, __ATOMIC_SEQ_CST)) {
        grate_decision decision = GRATE_DECISION_INIT;
        grate_response served = GRATE_RESPONSE_INIT;
        grant granted;
        grate_status status;
        uint64_t at;
        enter(worker);
        granted.before = book->workers[worker].entered;
        status = grate_engine_acquire(engine, "api", NULL, &decision, NULL);
        granted.after = leave(worker);
        if (status == GRATE_ERR_NO_PROVIDER_AVAILABLE) {
            if (decision.held_by == GRATE_HELD_BY_CONCURRENCY) {
                __atomic_fetch_add(&book->out_of_slots, 1, __ATOMIC_SEQ_CST);
            }
            sleep_ns(RETRY);
            continue;
        }
        must(status, "acquire");
        at = __atomic_fetch_add(&book->len, 1, __ATOMIC_SEQ_CST);
        if (at < room) {
            book->grants[at] = granted;
        }
        sleep_ns(HELD);
        served.http_status = 200;
        enter(worker);
        status = grate_engine_complete(engine, decision.lease, &served, NULL);
        leave(worker);
        must(status, "complete");
    }
    enter(worker);
    grate_engine_free(engine);
    leave(worker);
    _exit(0);
}

static pid_t start(int worker)
{
    pid_t child = fork();
    if (child == 0) {
        alarm((unsigned)seconds + 20);
        work(worker);
    }
    CHECK(child > 0);
    return child;
}

static int by_time(const void *a, const void *b)
{
    const grant *x = a, *y = b;
    return x->before < y->before ? -1 : x->before > y->before;
}

/* The most grants that certainly lie in one window; a killed worker may have left one unwritten, all zero. */
static uint64_t most_in_a_window(void)
{
    uint64_t first, i, most = 0;
    qsort(book->grants, book->len, sizeof *book->grants, by_time);
    for (first = 0; first < book->len; first++) {
        uint64_t end = book->grants[first].before + SECOND, n = 0;
        for (i = first; i < book->len && book->grants[i].before < end; i++) {
            n += book->grants[i].after < end;
        }
        most = book->grants[first].before != 0 && n > most ? n : most;
    }
    return most;
}

/* The least in a full window of one second, the first left out. */
static uint64_t least_in_a_window(uint64_t from, uint64_t until)
{
    uint64_t window, i, least = LIMIT;
    for (window = from + SECOND; window + SECOND <= until; window += SECOND) {
        uint64_t n = 0;
        for (i = 0; i < book->len; i++) {
            n += book->grants[i].before >= window && book->grants[i].before < window + SECOND;
        }
        least = n < least ? n : least;
    }
    return least;
}

/* After everything: nobody holds anything. */
static void nothing_is_left(void)
{
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    grate_quota_state quotas[2] = {GRATE_QUOTA_STATE_INIT, GRATE_QUOTA_STATE_INIT};
    grate_engine *engine;
    config.skew_ns = GRATE_ZERO;
    engine = open_state(path, &config, NULL);
    state.quotas = quotas;
    state.quotas_capacity = 2;
    CHECK_EQ_I32(grate_engine_provider_state(engine, "key", &state, NULL), GRATE_OK);
    CHECK_EQ_U64(state.leases_in_flight, 0);
    CHECK_EQ_U64(state.acquires, state.completions + state.expired_leases);
    CHECK(state.acquires >= book->len);
    CHECK_EQ_U64(quotas[1].used, 0);
    CHECK_EQ_U64(quotas[1].remaining, SLOTS);
    sleep_ns(SECOND);
    CHECK_EQ_I32(grate_engine_provider_state(engine, "key", &state, NULL), GRATE_OK);
    CHECK_EQ_U64(quotas[0].used, 0);
    CHECK_EQ_U64(quotas[0].remaining, LIMIT);
    grate_engine_free(engine);
}

/* All at work for some seconds; `least` is how much of each window they must use. */
static void run(const char *name, int kills, uint64_t least)
{
    uint64_t from, until, tick, next, slack = 0, longest = 0, killed = 0, most, used;
    pid_t workers[WORKERS];
    int i;
    path = state_path(name);
    room = LIMIT * (seconds + 10);
    book = shared_memory(sizeof *book + room * sizeof(grant));
    for (i = 0; i < WORKERS; i++) {
        workers[i] = start(i);
    }
    from = now_ns();
    until = from + seconds * SECOND;
    next = from + KILL_EACH;
    while ((tick = now_ns()) < until) {
        for (i = 0; i < WORKERS; i++) {
            uint64_t entered = __atomic_load_n(&book->workers[i].entered, __ATOMIC_SEQ_CST);
            uint64_t lasts = entered != 0 && tick > entered ? tick - entered : 0;
            longest = lasts > longest ? lasts : longest;
        }
        if (kills && tick >= next) {
            next += KILL_EACH;
            i = (int)(killed++ * 5 % WORKERS);
            kill(workers[i], SIGKILL);
            CHECK_EQ_I32(ended(workers[i]), -SIGKILL);
            book->workers[i].entered = 0;
            workers[i] = start(i);
        }
        /* How late a process gets to run, whatever it does. */
        tick = now_ns();
        sleep_ns(MS);
        tick = now_ns() - tick - MS;
        slack = tick > slack ? tick : slack;
    }
    book->stop = 1;
    for (i = 0; i < WORKERS; i++) {
        CHECK_EQ_I32(ended(workers[i]), 0);
        longest = book->workers[i].longest > longest ? book->workers[i].longest : longest;
    }
    CHECK(book->len <= room);
    most = most_in_a_window();
    used = least_in_a_window(book->grants[0].before != 0 ? book->grants[0].before : from, until);
    printf("%s: %" PRIu64 " grants in %" PRIu64 " s, windows of %d hold at most %" PRIu64 " and at least %" PRIu64 "; %" PRIu64
           " kills; longest call %.1f ms, of which %.1f ms may be the scheduler's; %" PRIu64 " times no slot was free\n",
           name, book->len, seconds, LIMIT, most, used, killed, (double)longest / 1e6, (double)slack / 1e6,
           book->out_of_slots);
    CHECK(most <= LIMIT);
    CHECK(used * 100 >= least * LIMIT);
    CHECK(longest <= LONGEST + slack);
    CHECK(!kills || killed >= seconds * SECOND / KILL_EACH * 9 / 10);
    nothing_is_left();
}

TEST(eight_processes_use_one_limit_wholly_and_never_exceed_it)
{
    run("left-alone", 0, 97);
}

TEST(nothing_is_exceeded_or_lost_when_processes_are_killed)
{
    run("killed", 1, 95);
}

int main(int argc, char **argv)
{
    seconds = argc > 1 && strcmp(argv[1], "long") == 0 ? 30 : 5;
    RUN(eight_processes_use_one_limit_wholly_and_never_exceed_it);
    RUN(nothing_is_exceeded_or_lost_when_processes_are_killed);
    return check_report("shared_limit");
}
