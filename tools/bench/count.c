/*
 * Makes the hot calls for callgrind, which counts their instructions: scripts/bench-check.sh runs it.
 * A line of output for each count, in the order of the dumps.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "library.h"
#include "sides.h"

#define CALLS 1000 /* of each count; scripts/bench-check.sh divides by it */

/*
 * Takes the place of the system's, for the library as well: the seeds of its hash tables, otherwise different in each
 * run, decide how many names have to be compared.
 */
ssize_t getrandom(void *buffer, size_t len, unsigned flags)
{
    (void)flags;
    memset(buffer, 0, len);
    return (ssize_t)len;
}

/* Callgrind knows both by their names. The empty assembler keeps them, and their calls, as they are written. */
void counted(void (*call)(caller *), caller *c);
void count_is_over(void);

__attribute__((noinline)) void counted(void (*call)(caller *), caller *c)
{
    call(c);
    __asm__ volatile("");
}

__attribute__((noinline)) void count_is_over(void)
{
    __asm__ volatile("");
}

static void plain(void (*call)(caller *), caller *c)
{
    call(c);
}

typedef void how(void (*call)(caller *), caller *c);

static void select_once(caller *c)
{
    counted(caller_select, c);
}

static void observe_once(caller *c)
{
    caller_tick(c);
    counted(caller_observe, c);
}

static void cycle(caller *c, how *acquire, how *complete)
{
    acquire(caller_acquire, c);
    caller_tick(c);
    complete(caller_complete, c);
}

static void acquire_once(caller *c)
{
    cycle(c, counted, plain);
}

static void complete_once(caller *c)
{
    cycle(c, plain, counted);
}

int main(void)
{
    static const struct {
        const char *name;
        void (*once)(caller *);
    } calls[] = {
        {"select", select_once}, {"observe", observe_once}, {"acquire", acquire_once}, {"complete", complete_once}};
    static const uint32_t providers[] = {2, 10, 100};
    uint32_t p, quotas, i, n;

    for (p = 0; p < 3; p++)
        for (quotas = 1; quotas <= 3; quotas += 2) {
            workload work = workload_of(MOCK, providers[p], quotas);
            caller *c = caller_new(&work);
            LIBGRATE.run(c, OBSERVE, WARM_UP);
            for (i = 0; i < 4; i++) {
                for (n = 0; n < CALLS; n++)
                    calls[i].once(c);
                count_is_over();
                printf("%s %" PRIu32 " %" PRIu32 "\n", calls[i].name, providers[p], quotas);
            }
            caller_free(c);
        }
    return 0;
}
