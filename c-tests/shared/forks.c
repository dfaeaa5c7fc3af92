/*
 * A child goes on with the engine that it inherits: forked while other threads are in calls, its own child too, and after its
 * parent has freed the engine. Its leases are its own, and end with it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "common.h"

#define THREADS 2
#define FORKS 40
#define CALLS 200
#define PLACES 256 /* on the list of users */
#define NO_CONTAINERS 77
#define MS UINT64_C(1000000)

static const char JSON[] =
    "{\"providers\": [{\"name\": \"p\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 100000000, \"window\": \"day\"},"
    " {\"dimension\": \"concurrency\", \"limit\": 20, \"pool\": \"slots\"}]}],"
    " \"capabilities\": [{\"name\": \"api\", \"providers\": [{\"provider\": \"p\"}]}]}";

static const char *path;
static int stop;

static grate_engine *make_with(const grate_clock *clock)
{
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    config.clock = clock;
    return open_state(path, &config, JSON);
}

static grate_engine *make(void)
{
    return make_with(NULL);
}

/* As many users as there are places. */
static void make_all(grate_engine **engines, const grate_clock *clock)
{
    int i;
    for (i = 0; i < PLACES; i++) {
        engines[i] = make_with(clock);
    }
}

static void free_all(grate_engine **engines)
{
    int i;
    for (i = 0; i < PLACES; i++) {
        grate_engine_free(engines[i]);
    }
}

static uint64_t acquire(grate_engine *engine)
{
    grate_decision decision = GRATE_DECISION_INIT;
    must(grate_engine_acquire(engine, "api", NULL, &decision, NULL), "acquire");
    return decision.lease;
}

static void complete(grate_engine *engine, uint64_t lease)
{
    grate_response served = GRATE_RESPONSE_INIT;
    served.outcome = GRATE_OUTCOME_SUCCESS;
    must(grate_engine_complete(engine, lease, &served, NULL), "complete");
}

static void use(grate_engine *engine)
{
    complete(engine, acquire(engine));
}

static grate_metrics metrics_of(grate_engine *engine)
{
    grate_metrics metrics = GRATE_METRICS_INIT;
    must(grate_engine_metrics(engine, &metrics, NULL), "metrics");
    return metrics;
}

static uint64_t in_flight(grate_engine *engine)
{
    return metrics_of(engine).leases_in_flight;
}

static void *hammer(void *engine)
{
    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
        use(engine);
    }
    return NULL;
}

/* Waits until so many leases are in flight; for a second at most. */
static uint64_t settles_at(grate_engine *engine, uint64_t wanted)
{
    int i;
    for (i = 0; i < 200 && in_flight(engine) != wanted; i++) {
        sleep_ns(5 * MS);
    }
    return in_flight(engine);
}

TEST(a_fork_in_the_middle_of_calls)
{
    grate_engine *engine = make();
    pthread_t threads[THREADS];
    int i;
    stop = 0;
    for (i = 0; i < THREADS; i++) {
        CHECK_EQ_I32(pthread_create(&threads[i], NULL, hammer, engine), 0);
    }
    for (i = 0; i < FORKS; i++) {
        pid_t child = fork();
        if (child == 0) {
            int n;
            pid_t grandchild;
            alarm(20);
            for (n = 0; n < CALLS; n++) {
                use(engine);
            }
            grandchild = fork();
            if (grandchild == 0) {
                alarm(20);
                for (n = 0; n < CALLS; n++) {
                    use(engine);
                }
                _exit(0);
            }
            use(engine);
            n = ended(grandchild);
            grate_engine_free(engine);
            _exit(n != 0);
        }
        use(engine);
        CHECK_EQ_I32(ended(child), 0);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
    for (i = 0; i < THREADS; i++) {
        CHECK_EQ_I32(pthread_join(threads[i], NULL), 0);
    }
    CHECK_EQ_U64(settles_at(engine, 0), 0);
    grate_engine_free(engine);
}

TEST(the_leases_of_a_child_are_its_own)
{
    grate_engine *engine = make();
    uint64_t mine = acquire(engine);
    pid_t child = fork();
    if (child == 0) {
        acquire(engine);
        if (fork() == 0) {
            acquire(engine);
            _exit(0);
        }
        wait(NULL);
        acquire(engine);
        kill(getpid(), SIGKILL);
    }
    CHECK_EQ_I32(ended(child), -SIGKILL);
    CHECK_EQ_U64(settles_at(engine, 1), 1);
    complete(engine, mine);
    CHECK_EQ_U64(in_flight(engine), 0);

    /* One that never used the engine takes nothing with it, however it ends. */
    mine = acquire(engine);
    child = fork();
    if (child == 0) {
        grate_engine_free(engine);
        _exit(0);
    }
    CHECK_EQ_I32(ended(child), 0);
    sleep_ns(100 * MS);
    CHECK_EQ_U64(in_flight(engine), 1);
    complete(engine, mine);
    grate_engine_free(engine);
}

TEST(a_child_outlives_the_engine_of_its_parent)
{
    grate_engine *engine = make();
    int *freed = shared_memory(sizeof *freed);
    pid_t child = fork();
    if (child == 0) {
        uint64_t lease = acquire(engine);
        alarm(20);
        while (!__atomic_load_n(freed, __ATOMIC_SEQ_CST)) {
            use(engine);
        }
        complete(engine, lease);
        for (int n = 0; n < CALLS; n++) {
            use(engine);
        }
        grate_engine_free(engine);
        _exit(0);
    }
    use(engine);
    acquire(engine);
    grate_engine_free(engine);
    __atomic_store_n(freed, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ_I32(ended(child), 0);
    engine = make();
    CHECK_EQ_U64(in_flight(engine), 0);
    grate_engine_free(engine);
}

TEST(a_child_that_comes_after_its_parent_left)
{
    grate_engine *engine = make();
    int *freed = shared_memory(2 * sizeof *freed), *used = freed + 1;
    pid_t child = fork();
    if (child == 0) {
        uint64_t lease;
        alarm(20);
        while (!__atomic_load_n(freed, __ATOMIC_SEQ_CST)) {
            sleep_ns(MS);
        }
        lease = acquire(engine);
        __atomic_store_n(used, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(freed, __ATOMIC_SEQ_CST)) {
            sleep_ns(MS);
        }
        complete(engine, lease);
        _exit(0);
    }
    /* The parent leaves the file in order, and the child uses it nevertheless. */
    grate_engine_free(engine);
    __atomic_store_n(freed, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(used, __ATOMIC_SEQ_CST)) {
        sleep_ns(MS);
    }
    engine = make();
    CHECK_EQ_U64(in_flight(engine), 1);
    __atomic_store_n(freed, 0, __ATOMIC_SEQ_CST);
    CHECK_EQ_I32(ended(child), 0);
    CHECK_EQ_U64(in_flight(engine), 0);
    grate_engine_free(engine);
}

TEST(a_child_that_can_open_no_more_files_lives)
{
    grate_engine *engine = make();
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        uint64_t lease;
        setrlimit(RLIMIT_NOFILE, &none);
        lease = acquire(engine);
        sleep_ns(500 * MS);
        complete(engine, lease);
        _exit(0);
    }
    CHECK_EQ_U64(settles_at(engine, 1), 1);
    sleep_ns(200 * MS);
    CHECK_EQ_U64(in_flight(engine), 1);
    CHECK_EQ_I32(ended(child), 0);
    grate_engine_free(engine);
}

/* Forks children that leave a lease behind, as long as there are slots. */
static void lose(grate_engine *engine, int children)
{
    int i;
    for (i = 0; i < children; i++) {
        pid_t child = fork();
        if (child == 0) {
            grate_decision decision = GRATE_DECISION_INIT;
            grate_engine_acquire(engine, "api", NULL, &decision, NULL);
            kill(getpid(), SIGKILL);
        }
        CHECK_EQ_I32(ended(child), -SIGKILL);
    }
}

TEST(many_that_die_at_once)
{
    grate_engine *engine = make();
    int i;
    lose(engine, 18);
    /* Not one in a tick, but all within a few. */
    for (i = 0; i < 10; i++) {
        sleep_ns(21 * MS);
        use(engine);
    }
    CHECK_EQ_U64(in_flight(engine), 0);
    grate_engine_free(engine);
}

TEST(more_users_than_the_list_has_places)
{
    static grate_engine *engines[PLACES];
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_error error = GRATE_ERROR_INIT;
    grate_engine *one_more = NULL;
    uint64_t lease, acquires;
    int i;
    make_all(engines, NULL);
    config.state_path = path;
    CHECK_EQ_I32(grate_engine_new(&config, &one_more, &error), GRATE_ERR_CAPACITY);
    CHECK(strstr(error.message, "256") != NULL);

    /* Children find no place; their leases end with them all the same, and with nobody else. */
    lease = acquire(engines[0]);
    acquires = metrics_of(engines[0]).acquires;
    lose(engines[0], 9);
    /* Some of them may have ended already. */
    CHECK_EQ_U64(metrics_of(engines[0]).acquires - acquires, 9);
    for (i = 0; i < 10 && in_flight(engines[0]) != 1; i++) {
        sleep_ns(200 * MS);
    }
    CHECK_EQ_U64(in_flight(engines[0]), 1);
    complete(engines[0], lease);
    free_all(engines);

    /* Places of the dead are taken, though nobody has called since. */
    engines[0] = make();
    lose(engines[0], PLACES + 40);
    one_more = make();
    for (i = 0; i < 10 && in_flight(one_more) != 0; i++) {
        sleep_ns(200 * MS);
    }
    CHECK_EQ_U64(in_flight(one_more), 0);
    grate_engine_free(one_more);
    grate_engine_free(engines[0]);
}

TEST(the_unlisted_are_looked_after_whenever_in_a_second_calls_come)
{
    static grate_engine *engines[PLACES];
    grate_clock *clock = grate_clock_mock_new(0);
    int i, n;
    unlink(path);
    make_all(engines, clock);
    for (n = 0; n < 25; n++) {
        lose(engines[0], 1);
        for (i = 0; i < 6; i++) {
            grate_clock_advance_ms(clock, 200);
            use(engines[0]);
        }
        CHECK_EQ_U64(in_flight(engines[0]), 0);
        grate_clock_advance_ms(clock, 10);
    }
    free_all(engines);
    grate_clock_free(clock);
}

TEST(a_process_that_may_make_no_large_files)
{
    pid_t child = fork();
    if (child == 0) {
        struct rlimit small = {1000000, 1000000};
        grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
        grate_error error = GRATE_ERROR_INIT;
        grate_engine *engine = NULL;
        setrlimit(RLIMIT_FSIZE, &small);
        unlink(path);
        config.state_path = path;
        _exit(grate_engine_new(&config, &engine, &error) != GRATE_ERR_STATE_FILE || strstr(error.message, "ulimit") == NULL);
    }
    CHECK_EQ_I32(ended(child), 0);
}

/* That a process which opens the file, and may not do all that others may, finds those who use it. */
static void comes(void (*restricted)(void))
{
    grate_engine *engine = make();
    uint64_t lease = acquire(engine);
    pid_t child = fork();
    if (child == 0) {
        restricted();
        _exit(in_flight(make()) != 1);
    }
    CHECK_EQ_I32(ended(child), 0);
    CHECK_EQ_I32(grate_engine_cancel(engine, lease, NULL), GRATE_OK);
    grate_engine_free(engine);
}

static void one_more_file(void)
{
    int next = open("/dev/null", O_RDONLY);
    struct rlimit limit = {(rlim_t)next + 1, (rlim_t)next + 1};
    setrlimit(RLIMIT_NOFILE, &limit);
    close(next);
}

TEST(a_process_that_can_open_only_one_more_file)
{
    comes(one_more_file);
}

/* As security modules refuse it. */
static void no_signals(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kill, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

TEST(a_process_that_may_send_no_signals)
{
    comes(no_signals);
}

/* Starts a process in a container of its own, as far as process ids go; its parent ends as it does. 0 in that process. */
static pid_t contain(void)
{
    pid_t outside = fork(), inside;
    if (outside != 0) {
        return outside;
    }
    if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) {
        _exit(NO_CONTAINERS);
    }
    inside = fork();
    if (inside != 0) {
        _exit(ended(inside));
    }
    return 0;
}

static grate_status try_to_make(void)
{
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_engine *engine = NULL;
    config.state_path = path;
    return grate_engine_new(&config, &engine, NULL);
}

/* One that has closed all its files is there all the same, and one that died is not. */
TEST(a_container_goes_on_from_one_that_died_and_not_from_one_that_lives)
{
    int *stage = shared_memory(sizeof *stage), i;
    pid_t first, second;
    unlink(path);
    first = contain();
    if (first == 0) {
        acquire(make());
        for (i = 3; i < 100; i++) {
            close(i);
        }
        __atomic_store_n(stage, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(stage, __ATOMIC_SEQ_CST) == 1) {
            sleep_ns(MS);
        }
        _exit(0);
    }
    while (__atomic_load_n(stage, __ATOMIC_SEQ_CST) == 0 && waitpid(first, &i, WNOHANG) == 0) {
        sleep_ns(MS);
    }
    if (__atomic_load_n(stage, __ATOMIC_SEQ_CST) == 0) {
        puts("no containers here");
        return;
    }
    second = contain();
    if (second == 0) {
        _exit(try_to_make() != GRATE_ERR_STATE_FILE);
    }
    CHECK_EQ_I32(ended(second), 0);
    __atomic_store_n(stage, 2, __ATOMIC_SEQ_CST);
    CHECK_EQ_I32(ended(first), 0);
    second = contain();
    if (second == 0) {
        grate_engine *engine = make();
        i = in_flight(engine) != 0;
        acquire(engine);
        _exit(i);
    }
    CHECK_EQ_I32(ended(second), 0);
    CHECK_EQ_I32(try_to_make(), GRATE_OK);
    unlink(path);
}

/* Copied with its list of users, and may be in the middle of a call of theirs. */
TEST(a_copy_of_a_file_has_no_users_but_its_own)
{
    const char *original = path;
    grate_engine *engine = make(), *other;
    uint64_t lease = acquire(engine);
    char command[600];
    path = state_path("copy");
    snprintf(command, sizeof command, "cp %s %s", original, path);
    CHECK_EQ_I32(system(command), 0);
    other = make();
    CHECK_EQ_U64(in_flight(other), 0);
    grate_engine_free(other);
    path = original;
    CHECK_EQ_I32(grate_engine_cancel(engine, lease, NULL), GRATE_OK);
    grate_engine_free(engine);
}

int main(void)
{
    alarm(120);
    path = state_path("forks");
    RUN(a_fork_in_the_middle_of_calls);
    RUN(the_leases_of_a_child_are_its_own);
    RUN(a_child_outlives_the_engine_of_its_parent);
    RUN(a_child_that_comes_after_its_parent_left);
    RUN(a_child_that_can_open_no_more_files_lives);
    RUN(many_that_die_at_once);
    RUN(more_users_than_the_list_has_places);
    RUN(the_unlisted_are_looked_after_whenever_in_a_second_calls_come);
    RUN(a_process_that_may_make_no_large_files);
    RUN(a_process_that_can_open_only_one_more_file);
    RUN(a_process_that_may_send_no_signals);
    RUN(a_container_goes_on_from_one_that_died_and_not_from_one_that_lives);
    RUN(a_copy_of_a_file_has_no_users_but_its_own);
    return check_report("shared_forks");
}
