/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE

#include "pair.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Between batches the second one, a thread or a process, sleeps, so that it is in nobody's way; it is woken before the batch is timed, and
 * waits for its start awake.
 */
struct pair {
    task first, second;
    pair_of kind;
    pthread_t thread;
    pid_t process;
    cpu_set_t allowed; /* where the first thread ran before */
    sem_t wake;
    int is_over;
    int is_awake;  /* atomic */
    uint64_t runs; /* atomic: how often the second one has to run its task; 0 when it has */
};

static void *second_one(void *self)
{
    pair *p = self;
    for (;;) {
        uint64_t n;
        sem_wait(&p->wake);
        if (p->is_over)
            return NULL;
        __atomic_store_n(&p->is_awake, 1, __ATOMIC_RELEASE);
        while ((n = __atomic_load_n(&p->runs, __ATOMIC_ACQUIRE)) == 0)
            sched_yield();
        p->second.run(p->second.self, p->second.operation, n);
        __atomic_store_n(&p->is_awake, 0, __ATOMIC_RELEASE);
        __atomic_store_n(&p->runs, 0, __ATOMIC_RELEASE);
    }
}

static void prepare(void *self)
{
    pair *p = self;
    sem_post(&p->wake);
    while (!__atomic_load_n(&p->is_awake, __ATOMIC_ACQUIRE))
        sched_yield();
}

static void start_second(pair *p, uint64_t n)
{
    __atomic_store_n(&p->runs, n, __ATOMIC_RELEASE);
}

static void await_second(pair *p)
{
    while (__atomic_load_n(&p->runs, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
}

static void run_both(void *self, uint32_t operation, uint64_t n)
{
    pair *p = self;
    (void)operation;
    start_second(p, n);
    p->first.run(p->first.self, p->first.operation, n);
    await_second(p);
}

static void run_second(void *self, uint32_t operation, uint64_t n)
{
    (void)operation;
    start_second(self, n);
    await_second(self);
}

static cpu_set_t only(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return one;
}

/* A processor for each, or the kernel may leave both on one: the first and the last, which rarely are one core. */
static void pin_both(pair *p)
{
    int cpu, first = -1, last = -1;
    cpu_set_t one;
    if (pthread_getaffinity_np(pthread_self(), sizeof p->allowed, &p->allowed) != 0)
        abort();
    for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &p->allowed)) {
            first = first < 0 ? cpu : first;
            last = cpu;
        }
    one = only(first);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    one = only(last);
    if (p->kind == THREADS)
        pthread_setaffinity_np(p->thread, sizeof one, &one);
    else
        sched_setaffinity(p->process, sizeof one, &one);
}

pair *pair_new(task first, task second, pair_of kind)
{
    pair *p = mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        abort();
    p->kind = kind;
    p->first = first;
    p->second = second;
    if (sem_init(&p->wake, kind == PROCESSES, 0) != 0)
        abort();
    if (kind == THREADS) {
        if (pthread_create(&p->thread, NULL, second_one, p) != 0)
            abort();
    } else {
        pid_t child = fork();
        if (child == 0) {
            second_one(p);
            _exit(0);
        }
        if (child < 0)
            abort();
        p->process = child;
    }
    pin_both(p);
    return p;
}

task pair_both(pair *p)
{
    task task = {run_both, p, 0, prepare};
    return task;
}

task pair_second(pair *p)
{
    task task = {run_second, p, 0, prepare};
    return task;
}

void pair_free(pair *p)
{
    p->is_over = 1;
    sem_post(&p->wake);
    if (p->kind == THREADS)
        pthread_join(p->thread, NULL);
    else
        waitpid(p->process, NULL, 0);
    sem_destroy(&p->wake);
    pthread_setaffinity_np(pthread_self(), sizeof p->allowed, &p->allowed);
    munmap(p, sizeof *p);
}
