/*
 * Processes with several threads do all there is to do, on a few providers that share pools, and are killed at any moment: also
 * while they hold locks, and while they change the configuration. After each round all are dead, and others go on: nothing
 * waits for good, no lease stays in flight, all counts agree, and every provider can be used. Every second round nobody else
 * had the file open, so that it was abandoned and is put right.
 *
 *   shared_kills [long]
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "common.h"
#include "stopwatch.h"

#define WORKERS 6
#define THREADS 3
#define LEN(array) (sizeof(array) / sizeof *(array))
#define MS UINT64_C(1000000)
#define SECOND GRATE_WINDOW_SECOND
#define SIZE (UINT64_C(1) << 22) /* of the state file */
#define RESPITE (2 * MS)         /* the longest between two kills */
#define LONGEST (100 * MS)       /* call, but for the time without a core */
#define PATIENCE (5 * SECOND)    /* until those who are gone were looked after */
#define LEFT 200                 /* leases that a thread leaves in flight at most: the file has room for some 10,000 */

/* E comes and goes. */
static const char *const NAMES[] = {"a", "b", "c", "d", "e"};
#define STAYING 4

#define REQUESTS "{\"dimension\": \"requests\", \"limit\": %d, \"window\": \"day\"}"
#define TOKENS ", {\"dimension\": \"tokens\", \"limit\": 1000000000, \"window\": \"day\", \"strategy\": \"token_bucket\"}"
#define BYTES ", {\"dimension\": \"bytes\", \"limit\": 1000000000, \"window\": \"day\", \"strategy\": \"fixed_window\"}"
#define ACCOUNT ", {\"dimension\": \"requests\", \"limit\": 1000000000, \"window\": \"hour\", \"pool\": \"account\"}"
#define SLOTS ", {\"dimension\": \"concurrency\", \"limit\": 100000, \"pool\": \"slots\"}"
#define MONEY ", {\"dimension\": \"cost_micro_usd\", \"limit\": 1000000000, \"window\": \"hour\", \"pool\": \"money\"}"
#define PROVIDER(name, quotas) "{\"name\": \"" name "\", \"quotas\": [" REQUESTS quotas "]}"

static const char JSON[] =
    "{\"providers\": [" PROVIDER("a", TOKENS ACCOUNT SLOTS) ", " PROVIDER("b", BYTES ACCOUNT SLOTS MONEY) ", "
    PROVIDER("c", TOKENS BYTES SLOTS MONEY) ", " PROVIDER("d", ACCOUNT MONEY) ", " PROVIDER("e", "") "],"
    " \"capabilities\": [{\"name\": \"api\", \"providers\": [{\"provider\": \"a\"}, {\"provider\": \"b\"},"
    " {\"provider\": \"c\"}, {\"provider\": \"d\"}, {\"provider\": \"e\"}]}]}";

/* What all workers ever found; threads write to it as they are killed. */
typedef struct {
    uint64_t calls, changes;
    durations longest;
    int32_t unexpected; /* a status */
} findings;

static findings *all;
static const char *path;
static const uint64_t *words; /* of the file */

static grate_engine *make(void)
{
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    config.state_size = SIZE;
    return open_state(path, &config, NULL);
}

/* A thread of a worker, with what it keeps from call to call. */
typedef struct {
    grate_engine *engine;
    findings *found;
    uint64_t seed;
    stopwatch watch;
    unsigned left; /* leases in flight that it will never settle */
} caller;

/* All five with a limit that changes, so that it is a change. */
static grate_status configure(grate_engine *engine, int limit)
{
    char json[sizeof JSON + LEN(NAMES) * 16];
    int len = snprintf(json, sizeof json, JSON, limit, limit, limit, limit, limit);
    return grate_engine_configure_json(engine, json, (uint64_t)len, NULL);
}

static grate_status acquire_and_settle(caller *c)
{
    grate_request request = GRATE_REQUEST_INIT;
    grate_decision decision = GRATE_DECISION_INIT;
    grate_response response = GRATE_RESPONSE_INIT;
    uint64_t how = next_random(&c->seed);
    grate_status status;
    request.tokens = 100;
    request.bytes = 1000;
    request.cost_micro_usd = 3;
    request.exclude = &NAMES[how % STAYING];
    request.exclude_len = 1 + how / 8 % (uint64_t)(STAYING - how % STAYING);
    status = grate_engine_acquire(c->engine, "api", how % 7 == 0 ? NULL : &request, &decision, NULL);
    if (status != GRATE_OK) {
        return status == GRATE_ERR_NO_PROVIDER_AVAILABLE ? GRATE_OK : status;
    }
    switch (how / 64 % 8) {
    case 0: /* it stays in flight until this process is killed */
        if (c->left < LEFT) {
            c->left++;
            return GRATE_OK;
        }
        /* fall through */
    case 1:
        return grate_engine_cancel(c->engine, decision.lease, NULL);
    default:
        response.outcome = GRATE_OUTCOME_SUCCESS;
        response.tokens = 50 + how / 512 % 100;
        return grate_engine_complete(c->engine, decision.lease, &response, NULL);
    }
}

static grate_status observe(caller *c)
{
    grate_response response = GRATE_RESPONSE_INIT;
    response.outcome = GRATE_OUTCOME_SUCCESS;
    response.tokens = response.bytes = response.cost_micro_usd = 5;
    return grate_engine_observe(c->engine, NAMES[next_random(&c->seed) % STAYING], &response, NULL);
}

static grate_status look(caller *c)
{
    static char text[1 << 16];
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    grate_decision decision = GRATE_DECISION_INIT;
    uint64_t len;
    switch (next_random(&c->seed) % 3) {
    case 0: return grate_engine_provider_state(c->engine, NAMES[next_random(&c->seed) % STAYING], &state, NULL);
    case 1: return grate_engine_select(c->engine, "api", NULL, &decision, NULL);
    default: return grate_engine_prometheus(c->engine, text, sizeof text, &len, NULL);
    }
}

static grate_status change(caller *c)
{
    grate_quota_config quota = GRATE_QUOTA_CONFIG_INIT;
    grate_provider_config provider = GRATE_PROVIDER_CONFIG_INIT;
    uint64_t how = next_random(&c->seed);
    grate_status status;
    c->found->changes++;
    quota.dimension = GRATE_DIMENSION_REQUESTS;
    quota.window_ns = GRATE_WINDOW_DAY;
    quota.limit = 1000000000 + how % 5;
    switch (how / 8 % 3) {
    case 0:
        return configure(c->engine, 1000000000 + (int)(how % 5));
    case 1:
        status = grate_engine_remove_provider(c->engine, "e", NULL);
        return status == GRATE_ERR_UNKNOWN_PROVIDER ? GRATE_OK : status;
    default:
        provider.name = "e";
        provider.quotas = &quota;
        provider.quotas_len = 1;
        return grate_engine_upsert_provider(c->engine, &provider, NULL);
    }
}

static void *call_on(void *self)
{
    caller *c = self;
    stopwatch_start(&c->watch, &c->found->longest);
    for (;;) {
        uint64_t what = next_random(&c->seed) % 100, before = now_ns();
        grate_status status = what < 75 ? acquire_and_settle(c) : what < 90 ? observe(c) : what < 97 ? look(c) : change(c);
        stopwatch_note(&c->watch, before, now_ns());
        c->found->calls++;
        if (status != GRATE_OK) {
            c->found->unexpected = status;
        }
    }
    return NULL;
}

static pid_t start(int worker)
{
    static uint64_t seed = 1;
    caller callers[THREADS];
    pthread_t threads[THREADS];
    grate_engine *engine;
    pid_t child;
    int i;
    next_random(&seed);
    child = fork();
    if (child != 0) {
        return child;
    }
    engine = make();
    for (i = 0; i < THREADS; i++) {
        callers[i] = (caller){engine, &all[worker * THREADS + i], next_random(&seed), {0}, 0};
        if (i + 1 < THREADS && pthread_create(&threads[i], NULL, call_on, &callers[i]) != 0) {
            _exit(2);
        }
    }
    call_on(&callers[THREADS - 1]);
    _exit(0);
}

/* What a process writes into the locks that it takes: its id, and when it started. */
static uint64_t holder_of(pid_t pid)
{
    char path[32], text[512] = "";
    const char *field;
    unsigned long long started = 0;
    FILE *file;
    int i;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = fopen(path, "r");
    field = file != NULL && fgets(text, sizeof text, file) != NULL ? strrchr(text, ')') : NULL;
    for (i = 0; i < 20 && field != NULL; i++) {
        field = strchr(field + 1, ' ');
    }
    if (field == NULL || sscanf(field, "%llu", &started) != 1) {
        must(GRATE_ERR_INVALID_ARGUMENT, path);
    }
    fclose(file);
    return (uint64_t)pid | (started & ((1u << 21) - 1)) << 22;
}

/* Kills, and how many of them left a lock behind: of a provider, a table or the configuration. */
static unsigned kills, in_locks;

static void kill_one(pid_t pid)
{
    uint64_t holder = holder_of(pid);
    size_t i, locks = 0;
    kill(pid, SIGKILL);
    CHECK_EQ_I32(ended(pid), -SIGKILL);
    for (i = 0; i < SIZE / sizeof *words; i++) {
        locks += __atomic_load_n(&words[i], __ATOMIC_RELAXED) == holder;
    }
    kills++;
    in_locks += locks > 0;
}

/* What is there for certain of a provider that nobody uses. */
static void check_counts(grate_engine *engine, const char *name)
{
    grate_quota_state quotas[8];
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    uint64_t i;
    grate_quota_state_init(&quotas[0], sizeof quotas[0]);
    state.quotas = quotas;
    state.quotas_capacity = LEN(quotas);
    CHECK_EQ_I32(grate_engine_provider_state(engine, name, &state, NULL), GRATE_OK);
    CHECK_EQ_U64(state.leases_in_flight, 0);
    CHECK_EQ_U64(state.acquires, state.completions + state.cancellations + state.expired_leases);
    CHECK_EQ_I32(state.circuit, GRATE_CIRCUIT_CLOSED);
    for (i = 0; i < state.quotas_len; i++) {
        CHECK_EQ_U64(quotas[i].used + quotas[i].remaining, quotas[i].effective_limit);
        if (quotas[i].dimension == GRATE_DIMENSION_CONCURRENCY) {
            CHECK_EQ_U64(quotas[i].used, 0);
        }
    }
}

/* Waits until the leases of those who are gone are ended. */
static void wait_for_leases(grate_engine *engine)
{
    grate_metrics metrics = GRATE_METRICS_INIT;
    uint64_t end = now_ns() + PATIENCE;
    do {
        CHECK_EQ_I32(grate_engine_metrics(engine, &metrics, NULL), GRATE_OK);
        sleep_ns(metrics.leases_in_flight > 0 ? 5 * MS : 0);
    } while (metrics.leases_in_flight > 0 && now_ns() < end);
}

/* One request on each provider that stays. */
static void check_use(grate_engine *engine)
{
    const char *others[STAYING];
    size_t i, j, len;
    for (i = 0; i < STAYING; i++) {
        grate_request request = GRATE_REQUEST_INIT;
        grate_decision decision = GRATE_DECISION_INIT;
        grate_response served = GRATE_RESPONSE_INIT;
        for (len = 0, j = 0; j < LEN(NAMES); j++) {
            if (j != i) {
                others[len++] = NAMES[j];
            }
        }
        request.exclude = others;
        request.exclude_len = len;
        served.outcome = GRATE_OUTCOME_SUCCESS;
        CHECK_EQ_I32(grate_engine_acquire(engine, "api", &request, &decision, NULL), GRATE_OK);
        CHECK_STR(decision.provider, NAMES[i]);
        CHECK_EQ_I32(grate_engine_complete(engine, decision.lease, &served, NULL), GRATE_OK);
    }
}

/* All are dead. The first calls on an engine are timed: they may find locks taken. */
static void check_all(grate_engine *engine, stopwatch *watch)
{
    uint64_t before = now_ns();
    size_t i;
    check_use(engine);
    stopwatch_note(watch, before, now_ns());
    before = now_ns();
    CHECK_EQ_I32(configure(engine, 999999999), GRATE_OK);
    stopwatch_note(watch, before, now_ns());
    wait_for_leases(engine);
    for (i = 0; i < LEN(NAMES); i++) {
        check_counts(engine, NAMES[i]);
    }
    check_use(engine);
}

static void one_round(int is_abandoned, durations *after)
{
    static uint64_t seed = 7;
    grate_engine *bystander = is_abandoned ? NULL : make(), *fresh;
    uint64_t end = now_ns() + SECOND, before;
    pid_t workers[WORKERS];
    stopwatch watch;
    int i;
    for (i = 0; i < WORKERS; i++) {
        workers[i] = start(i);
    }
    while (now_ns() < end) {
        sleep_ns(next_random(&seed) % RESPITE);
        i = (int)(next_random(&seed) % WORKERS);
        kill_one(workers[i]);
        workers[i] = start(i);
    }
    for (i = 0; i < WORKERS; i++) {
        kill_one(workers[i]);
    }
    stopwatch_start(&watch, after);
    if (!is_abandoned) {
        check_all(bystander, &watch);
    }
    before = now_ns();
    fresh = make();
    stopwatch_note(&watch, before, now_ns());
    check_all(fresh, &watch);
    grate_engine_free(fresh);
    grate_engine_free(bystander);
}

static int rounds;

TEST(processes_are_killed_at_any_moment)
{
    grate_engine *engine = make();
    int file = open(path, O_RDONLY);
    findings sum = {0};
    durations after = {0, 0, 0};
    int i;
    must(configure(engine, 1000000000), "configure");
    grate_engine_free(engine);
    words = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, file, 0);
    CHECK(words != MAP_FAILED);
    close(file);
    for (i = 0; i < rounds && check_failures == 0; i++) {
        one_round(i % 2, &after);
    }
    for (i = 0; i < WORKERS * THREADS; i++) {
        sum.calls += all[i].calls;
        sum.changes += all[i].changes;
        durations_join(&sum.longest, &all[i].longest);
        CHECK_EQ_I32(all[i].unexpected, GRATE_OK);
    }
    printf("%u processes were killed, %u of them with a lock in their hands, during %" PRIu64 " calls and %" PRIu64
           " changes of the configuration\n", kills, in_locks, sum.calls, sum.changes);
    durations_tell(&sum.longest);
    printf("after all were dead: ");
    durations_tell(&after);
    CHECK(in_locks >= kills / 20);
    CHECK(durations_within(&sum.longest, LONGEST));
    CHECK(durations_within(&after, LONGEST));
}

int main(int argc, char **argv)
{
    rounds = argc > 1 && strcmp(argv[1], "long") == 0 ? 30 : 4;
    alarm(10 * (unsigned)rounds + 60);
    path = state_path("kills");
    all = shared_memory(WORKERS * THREADS * sizeof *all);
    RUN(processes_are_killed_at_any_moment);
    return check_report("shared_kills");
}
