/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "figures.h"
#include "memory.h"
#include "pair.h"
#include "sample.h"
#include "sides.h"

#define LEN(array) (sizeof(array) / sizeof *(array))

static task task_of(const side *side, void *self, uint32_t operation)
{
    task task = {side->run, self, operation, NULL};
    return task;
}

static void keep(figures *f, const comparison *c)
{
    if (f->len == LEN(f->comparisons))
        abort();
    f->comparisons[f->len++] = *c;
    report_comparison(c);
}

enum { SIDES = 3 };

/* One operation of all sides, the first of which is libgrate. */
static void compare(figures *f, const workload *work, uint32_t operation, const side *const sides[], void *selves[],
                    size_t len, double seconds)
{
    task tasks[SIDES];
    double ns[SIDES];
    size_t i;

    for (i = 0; i < len; i++)
        tasks[i] = task_of(sides[i], selves[i], operation);
    sample_medians(tasks, len, seconds, ns);
    for (i = 1; i < len; i++) {
        comparison c = {*work, operation, sides[i]->name, ns[0], ns[i]};
        keep(f, &c);
    }
}

/* All operations; `floor` joins in for the cycle, and may be NULL. */
static void configuration(figures *f, clock_kind clock, uint32_t providers, uint32_t quotas, const side *floor,
                          double seconds)
{
    const side *sides[SIDES] = {&LIBGRATE, &GRATE_LIMITER, floor};
    workload work = workload_of(clock, providers, quotas);
    size_t i, len = floor != NULL ? SIDES : SIDES - 1;
    void *selves[SIDES];
    uint32_t operation;

    for (i = 0; i < len; i++)
        selves[i] = warm(sides[i], &work);
    for (operation = SELECT; operation <= CYCLE; operation++)
        compare(f, &work, operation, sides, selves, operation == CYCLE ? len : SIDES - 1, seconds);
    for (i = 0; i < len; i++)
        sides[i]->destroy(selves[i]);
}

/* What it costs that other processes may share the state. */
static void in_a_file(figures *f, clock_kind clock, double seconds)
{
    const side *sides[] = {&LIBGRATE, &SHARED};
    workload work = workload_of(clock, 2, 2);
    void *selves[LEN(sides)];
    size_t i;

    for (i = 0; i < LEN(sides); i++)
        selves[i] = warm(sides[i], &work);
    compare(f, &work, CYCLE, sides, selves, LEN(sides), seconds);
    for (i = 0; i < LEN(sides); i++)
        sides[i]->destroy(selves[i]);
}

void measure_calls(figures *f, double seconds)
{
    static const clock_kind clocks[] = {MOCK, SYSTEM};
    static const uint32_t providers[] = {2, 10, 100, 1000}, quotas[] = {1, 3};
    size_t c, p, q;

    report_section("calls", "Nanoseconds per operation: one thread, medians of alternating batches; ratio below 1: "
                            "libgrate is faster.\n"
                            "grate-limiter always ranks all candidates; select+observe, which reserves nothing, stands "
                            "for acquire+complete.\n"
                            "It cannot give concurrency back, so of 3 quotas it has 2: requests and tokens.\n\n"
                            "operation          clock   providers  quotas  libgrate ns   rival                     "
                            "rival ns   ratio");
    for (c = 0; c < LEN(clocks); c++) {
        configuration(f, clocks[c], 1, 1, &GOVERNOR, seconds);
        for (p = 0; p < LEN(providers); p++)
            for (q = 0; q < LEN(quotas); q++)
                configuration(f, clocks[c], providers[p], quotas[q], NULL, seconds);
    }
    configuration(f, SYSTEM, 2, 2, &FLOOR, seconds);
    for (c = 0; c < LEN(clocks); c++)
        in_a_file(f, clocks[c], seconds);
}

/* How much more an operation costs with `many` providers. */
static double grow(const uint32_t numbers[2], void *selves[2], uint32_t operation, uint32_t quotas, double seconds)
{
    task tasks[2];
    double ns[2];
    growth g;
    int i;

    for (i = 0; i < 2; i++)
        tasks[i] = task_of(&LIBGRATE, selves[i], operation);
    sample_medians(tasks, 2, seconds, ns);
    g = (growth){operation, quotas, numbers[0], numbers[1], ns[0], ns[1]};
    report_growth(&g);
    return ns[1] / ns[0];
}

static double max(double a, double b)
{
    return a > b ? a : b;
}

void measure_growth(figures *f, double seconds)
{
    static const uint32_t numbers[2] = {100, 1000};
    uint32_t quotas;

    report_section("growth", "Ten times the providers: mock clock, nanoseconds per operation.\n\n"
                             "operation          quotas  100 providers  1000 providers  factor");
    for (quotas = 1; quotas <= 3; quotas += 2) {
        void *selves[2];
        int i;
        for (i = 0; i < 2; i++) {
            workload work = workload_of(MOCK, numbers[i], quotas);
            selves[i] = warm(&LIBGRATE, &work);
        }
        f->growth_of_select = max(f->growth_of_select, grow(numbers, selves, SELECT, quotas, seconds));
        f->growth_of_cycle = max(f->growth_of_cycle, grow(numbers, selves, CYCLE, quotas, seconds));
        for (i = 0; i < 2; i++)
            LIBGRATE.destroy(selves[i]);
    }
}

/*
 * One side with one thread, or process, and with two; how many times the throughput. One alone is timed on both processors, of
 * which the slower counts: what another program, or another guest of the host, takes of it is not ours.
 */
static double share(const side *side, const workload *work, pair_of kind, double seconds)
{
    enum { FIRST, SECOND, BOTH, TASKS };
    void *first = warm(side, work), *second = side->another(first);
    task tasks[TASKS] = {task_of(side, first, CYCLE)};
    pair *pair = pair_new(tasks[FIRST], task_of(side, second, CYCLE), kind);
    threads t = {*work, kind == PROCESSES ? "libgrate, 2 processes" : side->name, 0, 0};
    double ns[TASKS];

    tasks[SECOND] = pair_second(pair);
    tasks[BOTH] = pair_both(pair);
    sample_medians(tasks, TASKS, seconds, ns);
    pair_free(pair);
    side->destroy(second);
    side->destroy(first);
    t.one = max(ns[FIRST], ns[SECOND]);
    t.two = ns[BOTH] / 2;
    report_threads(&t);
    return t.one / t.two;
}

void measure_threads(figures *f, double seconds)
{
    static const clock_kind clocks[] = {STILL, SYSTEM};
    size_t i;

    report_section("threads", "Two threads, or processes: acquire+complete (select+observe), 2 quotas, nanoseconds per operation over "
                              "all threads.\n"
                              "One thread is timed on both processors; the slower counts. Where two threads with locks of their own do not\n"
                              "reach 2, the machine is not idle.\n\n"
                              "threads are on       clock   side                      1 thread   2 threads  factor");
    for (i = 0; i < LEN(clocks); i++) {
        workload apart = workload_of(clocks[i], 2, 2), together = workload_of(clocks[i], 1, 2);
        apart.apart = 1;
        f->threads_apart[clocks[i]] = share(&LIBGRATE, &apart, THREADS, seconds);
        share(&GRATE_LIMITER, &apart, THREADS, seconds);
        share(&FLOOR, &apart, THREADS, seconds);
        f->processes_apart[clocks[i]] = share(&SHARED, &apart, PROCESSES, seconds);
        f->threads_together[clocks[i]] = share(&LIBGRATE, &together, THREADS, seconds);
        share(&GRATE_LIMITER, &together, THREADS, seconds);
    }
}

void measure_single_calls(figures *f, double seconds)
{
    static const struct {
        clock_kind clock;
        uint32_t providers, quotas;
    } rows[] = {{MOCK, 2, 1}, {MOCK, 2, 3}, {MOCK, 10, 1}, {MOCK, 10, 3}, {MOCK, 100, 1}, {MOCK, 100, 3}, {SYSTEM, 2, 2}};
    percentiles p[SINGLE_CALLS];
    size_t r, i;

    report_section("single_calls", "Single calls, in nanoseconds, less what reading the time costs.\n\n"
                                   "call      clock   providers  quotas       p50       p99     p99.9   p99.9/p50");
    for (r = 0; r < LEN(rows); r++) {
        workload work = workload_of(rows[r].clock, rows[r].providers, rows[r].quotas);
        single_calls(&work, seconds, p);
        for (i = 0; i < SINGLE_CALLS; i++) {
            report_single(&work, &p[i]);
            f->worst_tail = max(f->worst_tail, p[i].p999 / p[i].p50);
        }
    }
}

void measure_memory(figures *f)
{
    uint32_t quotas;

    report_section("memory", "Memory: 1000 providers in one capability, a request on each.\n\n"
                             "quotas  bytes per provider");
    for (quotas = 1; quotas <= 3; quotas += 2) {
        workload work = workload_of(MOCK, 1000, quotas);
        double bytes = bytes_per_provider(&work);
        report_bytes(quotas, bytes);
        if (quotas == 3)
            f->bytes = bytes;
    }
}
