/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE

#include "pair.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>

/*
 * Between batches the second thread sleeps, so that it is in nobody's way; it is woken before the batch is timed, and
 * waits for its start awake.
 */
struct pair {
    task first, second;
    pthread_t thread;
    cpu_set_t allowed; /* where the first thread ran before */
    sem_t wake;
    int is_over;
    int is_awake;  /* atomic */
    uint64_t runs; /* atomic: how often the second thread has to run its task; 0 when it has */
};

static void *second_thread(void *self)
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

static void run(void *self, uint32_t operation, uint64_t n)
{
    pair *p = self;
    (void)operation;
    __atomic_store_n(&p->runs, n, __ATOMIC_RELEASE);
    p->first.run(p->first.self, p->first.operation, n);
    while (__atomic_load_n(&p->runs, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
}

static void pin(pthread_t thread, int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(thread, sizeof one, &one);
}

/* A processor for each, or the kernel may leave both on one: the first and the last, which rarely are one core. */
static void pin_both(pair *p)
{
    int cpu, first = -1, last = -1;
    if (pthread_getaffinity_np(pthread_self(), sizeof p->allowed, &p->allowed) != 0)
        abort();
    for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &p->allowed)) {
            first = first < 0 ? cpu : first;
            last = cpu;
        }
    pin(pthread_self(), first);
    pin(p->thread, last);
}

pair *pair_new(task first, task second)
{
    pair *p = calloc(1, sizeof *p);
    if (p == NULL)
        abort();
    p->first = first;
    p->second = second;
    if (sem_init(&p->wake, 0, 0) != 0 || pthread_create(&p->thread, NULL, second_thread, p) != 0)
        abort();
    pin_both(p);
    return p;
}

task pair_task(pair *p)
{
    task task = {run, p, 0, prepare};
    return task;
}

void pair_free(pair *p)
{
    p->is_over = 1;
    sem_post(&p->wake);
    pthread_join(p->thread, NULL);
    sem_destroy(&p->wake);
    pthread_setaffinity_np(pthread_self(), sizeof p->allowed, &p->allowed);
    free(p);
}
