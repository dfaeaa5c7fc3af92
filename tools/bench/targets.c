/*
 * The promises: each line says what was measured and whether it is kept. Figures of a loaded machine break some of them.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <math.h>
#include <string.h>

#include "figures.h"
#include "sides.h"

/* Ours / the rival's; NaN if it was not measured. */
static double ratio(const figures *f, operation operation, clock_kind clock, uint32_t providers, uint32_t quotas,
                    const side *rival)
{
    size_t i;
    for (i = 0; i < f->len; i++) {
        const comparison *c = &f->comparisons[i];
        if (c->operation == (uint32_t)operation && c->work.clock == (uint32_t)clock && c->work.providers == providers
            && c->work.quotas == quotas && strcmp(c->rival, rival->name) == 0)
            return c->ours / c->theirs;
    }
    return NAN;
}

/* How many times faster than grate-limiter: mock clock, 1 quota. */
static double speed(const figures *f, operation operation, uint32_t providers)
{
    return 1 / ratio(f, operation, MOCK, providers, 1, &GRATE_LIMITER);
}

/* How many times longer a cycle takes if the state may be shared. */
static double file_costs(const figures *f, clock_kind clock)
{
    return 1 / ratio(f, CYCLE, clock, 2, 2, &SHARED);
}

static void at_least(const char *text, double measured, double wanted)
{
    target t = {text, measured, wanted, 1};
    report_target(&t);
}

static void at_most(const char *text, double measured, double wanted)
{
    target t = {text, measured, wanted, 0};
    report_target(&t);
}

void judge(const figures *f)
{
    report_section("targets", "Targets; mock clock where none is named.\n");
    at_least("select, 2 providers: times as fast as grate-limiter", speed(f, SELECT, 2), 8);
    at_least("select, 10 providers: times as fast as grate-limiter", speed(f, SELECT, 10), 12);
    at_least("select, 100 providers: times as fast as grate-limiter", speed(f, SELECT, 100), 40);
    at_least("observe, 2 providers: times as fast as grate-limiter", speed(f, OBSERVE, 2), 2.5);
    at_least("observe, 10 providers: times as fast as grate-limiter", speed(f, OBSERVE, 10), 2.5);
    at_least("observe, 100 providers: times as fast as grate-limiter", speed(f, OBSERVE, 100), 2.5);
    at_least("acquire+complete, 10 providers: times as fast as its select+observe", speed(f, CYCLE, 10), 10);
    at_most("acquire+complete, 2 providers, 2 quotas, system clock: floors", ratio(f, CYCLE, SYSTEM, 2, 2, &FLOOR), 2.5);
    at_most("select: 1000 providers cost so many times 100", f->growth_of_select, 12);
    at_most("acquire+complete: 1000 providers cost so many times 100", f->growth_of_cycle, 12);
    at_most("single calls: worst p99.9 / p50", f->worst_tail, 20);
    at_least("2 threads on different providers: times 1 thread", f->threads_apart[STILL], 1.7);
    at_least("2 threads on different providers, system clock: times 1 thread", f->threads_apart[SYSTEM], 1.7);
    at_least("2 threads on one provider: times 1 thread", f->threads_together[STILL], 0.8);
    at_least("2 threads on one provider, system clock: times 1 thread", f->threads_together[SYSTEM], 0.8);
    at_most("acquire+complete, 2 providers, 2 quotas, state in a file: times as long", file_costs(f, MOCK), 1.5);
    at_most("the same, system clock", file_costs(f, SYSTEM), 1.5);
    at_least("2 processes on different providers: times 1 process", f->processes_apart[STILL], 1.6);
    at_least("2 processes on different providers, system clock: times 1 process", f->processes_apart[SYSTEM], 1.6);
    at_most("bytes per provider with 3 quotas (1024 is the goal)", f->bytes, 2048);
}
