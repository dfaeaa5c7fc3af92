/*
 * A process that goes on with another program (exec), as servers do that start themselves anew: what its threads were in the
 * middle of holds nobody up, its leases end, and it takes no more places on the list of users. A process that goes on with the
 * same program is not taken for one.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "check.h"
#include "common.h"

#define THREADS 3
#define BUSY_ROUNDS 30
#define IDLE_ROUNDS 300 /* more than there are places on the list of users */
#define MS UINT64_C(1000000)

static const char JSON[] =
    "{\"providers\": [{\"name\": \"p\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 100000000, \"window\": \"day\"},"
    " {\"dimension\": \"concurrency\", \"limit\": 20, \"pool\": \"slots\"}]}],"
    " \"capabilities\": [{\"name\": \"api\", \"providers\": [{\"provider\": \"p\"}]}]}";

static grate_engine *engine;

static grate_engine *make(const char *path)
{
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    return open_state(path, &config, JSON);
}

static uint64_t acquire(void)
{
    grate_decision decision = GRATE_DECISION_INIT;
    must(grate_engine_acquire(engine, "api", NULL, &decision, NULL), "acquire");
    return decision.lease;
}

static void *work(void *unused)
{
    grate_response served = GRATE_RESPONSE_INIT;
    (void)unused;
    served.outcome = GRATE_OUTCOME_SUCCESS;
    for (;;) {
        must(grate_engine_complete(engine, acquire(), &served, NULL), "complete");
    }
    return NULL;
}

static void *configure(void *unused)
{
    char json[64];
    int i;
    (void)unused;
    for (i = 0;; i = !i) {
        snprintf(json, sizeof json, "{\"providers\": [{\"name\": \"q\", \"priority\": %d}]}", i);
        must(grate_engine_configure_json(engine, json, strlen(json), NULL), "configure");
    }
    return NULL;
}

static uint64_t in_flight(void)
{
    grate_metrics metrics = GRATE_METRICS_INIT;
    must(grate_engine_metrics(engine, &metrics, NULL), "metrics");
    return metrics.leases_in_flight;
}

/* What a program of the process does before the next one: `rounds` are left, and a thread is in a call if it is busy. */
static int stage(const char *program, const char *path, int rounds, int is_busy)
{
    char left[16];
    int i;
    alarm(20);
    engine = make(path);
    if (in_flight() != 0) {
        fprintf(stderr, "leases of the program before are still in flight\n");
        return 1;
    }
    if (rounds == 0) {
        grate_engine_free(engine);
        return 0;
    }
    /* Never settled. */
    acquire();
    for (i = 0; is_busy && i < THREADS; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, i == 0 ? configure : work, NULL);
    }
    sleep_ns(is_busy ? 2 * MS : 0);
    snprintf(left, sizeof left, "%d", rounds - 1);
    execl("/proc/self/exe", program, path, left, is_busy ? "busy" : "idle", (char *)NULL);
    return 1;
}

static const char *program;

/* A process that comes and goes meanwhile. */
static pid_t others(const char *path)
{
    pid_t other = fork();
    if (other == 0) {
        alarm(60);
    }
    while (other == 0) {
        grate_engine_free(make(path));
    }
    return other;
}

static void go_through(const char *name, int rounds, int is_busy)
{
    const char *path = state_path(name);
    pid_t child, other;
    engine = make(path);
    other = others(path);
    child = fork();
    if (child == 0) {
        char left[16];
        snprintf(left, sizeof left, "%d", rounds);
        execl("/proc/self/exe", program, path, left, is_busy ? "busy" : "idle", (char *)NULL);
        _exit(1);
    }
    CHECK_EQ_I32(ended(child), 0);
    kill(other, SIGKILL);
    ended(other);
    CHECK_EQ_U64(in_flight(), 0);
    acquire();
    grate_engine_free(engine);
}

TEST(in_the_middle_of_calls)
{
    go_through("exec-busy", BUSY_ROUNDS, 1);
}

TEST(more_often_than_the_list_has_places)
{
    go_through("exec-idle", IDLE_ROUNDS, 0);
}

/* As the Go runtime does when the first library in Go is loaded. */
TEST(whose_random_bytes_are_overwritten)
{
    const char *path = state_path("exec-random");
    grate_engine *other;
    uint64_t lease;
    engine = make(path);
    lease = acquire();
    memset((void *)getauxval(AT_RANDOM), 7, 16);
    other = make(path);
    CHECK_EQ_U64(in_flight(), 1);
    CHECK_EQ_I32(grate_engine_cancel(engine, lease, NULL), GRATE_OK);
    grate_engine_free(other);
    grate_engine_free(engine);
}

int main(int argc, char **argv)
{
    program = argv[0];
    if (argc == 4) {
        return stage(argv[0], argv[1], atoi(argv[2]), strcmp(argv[3], "busy") == 0);
    }
    alarm(120);
    RUN(in_the_middle_of_calls);
    RUN(more_often_than_the_list_has_places);
    RUN(whose_random_bytes_are_overwritten);
    return check_report("shared_exec");
}
