/*
 * What a forked child can do. Forked while no other thread is in a call, it goes on with the engine that it inherits, on its
 * own copy. Forked in the middle of calls it may find a lock taken for good, so that a call on that engine never returns: an
 * engine that the child makes works all the same.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "grate.h"

#define THREADS 3
#define FORKS 40
#define WAITED 3 /* exit status of a child that waits for a lock */

static const char JSON[] =
    "{\"providers\": [{\"name\": \"p\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 1000000, \"window\": \"day\"},"
    " {\"dimension\": \"concurrency\", \"limit\": 10, \"pool\": \"slots\"}]}],"
    " \"capabilities\": [{\"name\": \"api\", \"providers\": [{\"provider\": \"p\"}]}]}";

static int stop;

static grate_engine *make(void)
{
    grate_engine *engine = NULL;
    if (grate_engine_new(NULL, &engine, NULL) != GRATE_OK ||
        grate_engine_configure_json(engine, JSON, sizeof JSON - 1, NULL) != GRATE_OK) {
        return NULL;
    }
    return engine;
}

/* Every kind of call on an engine; the name of the first that fails, or NULL. */
static const char *use(grate_engine *engine)
{
    static char text[65536];
    grate_decision decision = GRATE_DECISION_INIT;
    grate_response served = GRATE_RESPONSE_INIT;
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    grate_metrics metrics = GRATE_METRICS_INIT;
    uint64_t len;
    served.outcome = GRATE_OUTCOME_SUCCESS;
    if (grate_engine_select(engine, "api", NULL, &decision, NULL) != GRATE_OK) {
        return "select";
    }
    if (grate_engine_acquire(engine, "api", NULL, &decision, NULL) != GRATE_OK) {
        return "acquire";
    }
    if (grate_engine_complete(engine, decision.lease, &served, NULL) != GRATE_OK) {
        return "complete";
    }
    if (grate_engine_observe(engine, "p", &served, NULL) != GRATE_OK) {
        return "observe";
    }
    if (grate_engine_provider_state(engine, "p", &state, NULL) != GRATE_OK ||
        grate_engine_metrics(engine, &metrics, NULL) != GRATE_OK ||
        grate_engine_prometheus(engine, text, sizeof text, &len, NULL) != GRATE_OK) {
        return "inspection";
    }
    return grate_engine_configure_json(engine, JSON, sizeof JSON - 1, NULL) == GRATE_OK ? NULL : "configuration";
}

/* How a child ended: its exit status, or minus the signal. */
static int outcome(pid_t child)
{
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(an_engine_that_is_inherited_at_rest)
{
    grate_engine *engine = make();
    grate_metrics metrics = GRATE_METRICS_INIT;
    pid_t child;
    CHECK(use(engine) == NULL);
    child = fork();
    if (child == 0) {
        alarm(20);
        if (use(engine) != NULL || grate_engine_metrics(engine, &metrics, NULL) != GRATE_OK || metrics.acquires != 2) {
            _exit(1);
        }
        grate_engine_free(engine);
        _exit(0);
    }
    CHECK_EQ_I32(outcome(child), 0);
    /* The child has its own copy. */
    CHECK_EQ_I32(grate_engine_metrics(engine, &metrics, NULL), GRATE_OK);
    CHECK_EQ_U64(metrics.acquires, 1);
    grate_engine_free(engine);
}

static void *hammer(void *engine)
{
    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
        use(engine);
    }
    return NULL;
}

static void give_up(int number)
{
    (void)number;
    _exit(WAITED);
}

TEST(a_fork_in_the_middle_of_calls)
{
    const struct itimerval patience = {{0, 0}, {0, 50000}};
    grate_engine *engine = make();
    pthread_t threads[THREADS];
    int i, stuck = 0;
    stop = 0;
    for (i = 0; i < THREADS; i++) {
        CHECK_EQ_I32(pthread_create(&threads[i], NULL, hammer, engine), 0);
    }
    for (i = 0; i < FORKS; i++) {
        pid_t child;
        int ended;
        usleep(1000);
        child = fork();
        if (child == 0) {
            grate_engine *own;
            alarm(20);
            own = make();
            if (own == NULL || use(own) != NULL) {
                _exit(1);
            }
            grate_engine_free(own);
            signal(SIGALRM, give_up);
            setitimer(ITIMER_REAL, &patience, NULL);
            _exit(use(engine) == NULL ? 0 : 2);
        }
        ended = outcome(child);
        CHECK(ended == 0 || ended == WAITED);
        stuck += ended == WAITED;
    }
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
    for (i = 0; i < THREADS; i++) {
        CHECK_EQ_I32(pthread_join(threads[i], NULL), 0);
    }
    printf("of %d children, %d waited for a lock of the engine that they inherited\n", FORKS, stuck);
    CHECK(use(engine) == NULL);
    grate_engine_free(engine);
}

TEST(a_lease_of_a_child_is_stale_in_its_parent)
{
    int ends[2];
    uint64_t theirs = 0;
    grate_decision decision = GRATE_DECISION_INIT;
    grate_response served = GRATE_RESPONSE_INIT;
    grate_engine *engine;
    pid_t child;
    served.outcome = GRATE_OUTCOME_SUCCESS;
    CHECK_EQ_I32(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        engine = make();
        grate_engine_acquire(engine, "api", NULL, &decision, NULL);
        _exit(write(ends[1], &decision.lease, sizeof decision.lease) != sizeof decision.lease);
    }
    CHECK_EQ_I32(outcome(child), 0);
    CHECK_EQ_I32(read(ends[0], &theirs, sizeof theirs), sizeof theirs);
    engine = make();
    CHECK_EQ_I32(grate_engine_acquire(engine, "api", NULL, &decision, NULL), GRATE_OK);
    CHECK_EQ_I32(grate_engine_complete(engine, theirs, &served, NULL), GRATE_ERR_STALE_LEASE);
    CHECK_EQ_I32(grate_engine_complete(engine, decision.lease, &served, NULL), GRATE_OK);
    grate_engine_free(engine);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    alarm(120);
    RUN(an_engine_that_is_inherited_at_rest);
    RUN(a_fork_in_the_middle_of_calls);
    RUN(a_lease_of_a_child_is_stale_in_its_parent);
    return check_report("fork");
}
