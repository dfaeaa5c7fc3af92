/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE

#include "stopwatch.h"

#include <stdio.h>

#include "common.h"

/* A call that is longer is looked at. */
#define LONG UINT64_C(10000000)

/* How long this thread has been ready and had no core, if the system tells. */
static uint64_t read_delay(void)
{
    unsigned long long delay = 0;
    FILE *file = fopen("/proc/thread-self/schedstat", "r");
    if (file != NULL) {
        if (fscanf(file, "%*u %llu", &delay) != 1) {
            delay = 0;
        }
        fclose(file);
    }
    return delay;
}

void stopwatch_start(stopwatch *watch, durations *longest)
{
    watch->longest = longest;
    watch->read_at = now_ns();
    watch->delay = read_delay();
}

void stopwatch_note(stopwatch *watch, uint64_t before, uint64_t after)
{
    durations call = {after - before, after - before, 0};
    /* Read so often that little of the waiting was before the call. */
    if (call.all > LONG || after - watch->read_at > LONG) {
        uint64_t delay = read_delay();
        call.waiting = delay - watch->delay;
        call.running = call.waiting < call.all ? call.all - call.waiting : 0;
        watch->delay = delay;
        watch->read_at = after;
    }
    durations_join(watch->longest, &call);
}

static void join(uint64_t *longest, uint64_t other)
{
    *longest = other > *longest ? other : *longest;
}

void durations_join(durations *longest, const durations *others)
{
    join(&longest->all, others->all);
    join(&longest->running, others->running);
    join(&longest->waiting, others->waiting);
}

void durations_tell(const durations *longest)
{
    printf("longest call %.1f ms, %.1f ms without waiting for a core, which lasted up to %.1f ms\n", (double)longest->all / 1e6,
           (double)longest->running / 1e6, (double)longest->waiting / 1e6);
}

int durations_within(const durations *longest, uint64_t limit)
{
    return longest->running <= limit + longest->waiting;
}
