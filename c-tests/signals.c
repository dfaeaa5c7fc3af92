/*
 * A signal handler that interrupts calls thousands of times, on several threads, changes nothing: the handler does not call
 * the library (that is not allowed), the calls do not fail, and every count is right.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include "check.h"
#include "grate.h"

#define THREADS 2
#define ROUNDS 100000
#define ENOUGH_SIGNALS 100

static grate_engine *engine;
static volatile sig_atomic_t signals;
static uint64_t refused;

static void count_signal(int number)
{
    (void)number;
    signals++;
}

static void *work(void *unused)
{
    grate_response served = GRATE_RESPONSE_INIT;
    int i;
    (void)unused;
    served.outcome = GRATE_OUTCOME_SUCCESS;
    for (i = 0; i < ROUNDS; i++) {
        grate_decision decision = GRATE_DECISION_INIT;
        if (grate_engine_acquire(engine, "api", NULL, &decision, NULL) != GRATE_OK ||
            grate_engine_complete(engine, decision.lease, &served, NULL) != GRATE_OK) {
            __atomic_add_fetch(&refused, 1, __ATOMIC_SEQ_CST);
        }
    }
    return NULL;
}

static void storm(int flags)
{
    static const char json[] =
        "{\"providers\": [{\"name\": \"p\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 100000000, \"window\":"
        " \"day\"}, {\"dimension\": \"concurrency\", \"limit\": 2}]}], \"capabilities\": [{\"name\": \"api\", \"providers\":"
        " [{\"provider\": \"p\"}]}]}";
    struct sigaction action;
    struct itimerval fast = {{0, 50}, {0, 50}};
    const struct itimerval off = {{0, 0}, {0, 0}};
    pthread_t threads[THREADS];
    grate_metrics metrics = GRATE_METRICS_INIT;
    uint64_t remaining = 0, done;
    int i, rounds;

    signals = 0;
    refused = 0;
    memset(&action, 0, sizeof action);
    action.sa_handler = count_signal;
    action.sa_flags = flags;
    CHECK_EQ_I32(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_EQ_I32(grate_engine_new(NULL, &engine, NULL), GRATE_OK);
    CHECK_EQ_I32(setitimer(ITIMER_REAL, &fast, NULL), 0);
    CHECK_EQ_I32(grate_engine_configure_json(engine, json, sizeof json - 1, NULL), GRATE_OK);
    for (rounds = 0; rounds == 0 || (signals < ENOUGH_SIGNALS && rounds < 20); rounds++) {
        for (i = 0; i < THREADS; i++) {
            CHECK_EQ_I32(pthread_create(&threads[i], NULL, work, NULL), 0);
        }
        for (i = 0; i < THREADS; i++) {
            CHECK_EQ_I32(pthread_join(threads[i], NULL), 0);
        }
    }
    CHECK_EQ_I32(setitimer(ITIMER_REAL, &off, NULL), 0);

    CHECK(signals >= ENOUGH_SIGNALS);
    done = (uint64_t)rounds * THREADS * ROUNDS;
    CHECK_EQ_U64(refused, 0);
    CHECK_EQ_I32(grate_engine_metrics(engine, &metrics, NULL), GRATE_OK);
    CHECK_EQ_U64(metrics.acquires, done);
    CHECK_EQ_U64(metrics.completions, done);
    CHECK_EQ_U64(metrics.leases_in_flight, 0);
    CHECK_EQ_I32(grate_engine_remaining_quota(engine, "p", GRATE_DIMENSION_REQUESTS, &remaining, NULL), GRATE_OK);
    CHECK_EQ_U64(remaining, 100000000 - done);
    grate_engine_free(engine);
}

TEST(a_handler_that_restarts_system_calls)
{
    storm(SA_RESTART);
}

TEST(a_handler_that_interrupts_them)
{
    storm(0);
}

int main(void)
{
    RUN(a_handler_that_restarts_system_calls);
    RUN(a_handler_that_interrupts_them);
    return check_report("signals");
}
