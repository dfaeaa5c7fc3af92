/* SPDX-License-Identifier: Apache-2.0 */
#include "single.h"

#include <stdlib.h>

#include "library.h"
#include "sample.h"
#include "sides.h"

#if defined(__x86_64__)
#include <x86intrin.h>

/* The time stamp counter, read when all that came before is done, and before anything that follows. */
static uint64_t ticks(void)
{
    unsigned cpu;
    uint64_t now = __rdtscp(&cpu);
    _mm_lfence();
    return now;
}
#else
static uint64_t ticks(void)
{
    return now_ns();
}
#endif

/* Enough for one in a thousand to be hundreds. */
#define MAX_SAMPLES 262144

static double ns_per_tick(void)
{
    uint64_t start_ns = now_ns(), start = ticks(), elapsed;
    do
        elapsed = now_ns() - start_ns;
    while (elapsed < 10000000);
    return (double)elapsed / (double)(ticks() - start);
}

static double time_call(void (*call)(caller *), caller *c)
{
    uint64_t start = ticks();
    call(c);
    return (double)(ticks() - start);
}

static void nothing(caller *c)
{
    (void)c;
}

/* What time_call itself takes. */
static double cost_of_reading(void)
{
    enum { READINGS = 1001 };
    static double readings[READINGS];
    void (*volatile call)(caller *) = nothing; /* as opaque as the other calls */
    size_t i;
    for (i = 0; i < READINGS; i++)
        readings[i] = time_call(call, NULL);
    sort_doubles(readings, READINGS);
    return readings[READINGS / 2];
}

void single_calls(const workload *work, double seconds, percentiles out[SINGLE_CALLS])
{
    static const struct {
        const char *name;
        void (*call)(caller *);
        int is_sent; /* a request: time passes before it is told of */
    } calls[SINGLE_CALLS] = {
        {"select", caller_select, 0},
        {"observe", caller_observe, 1},
        {"acquire", caller_acquire, 0},
        {"complete", caller_complete, 1},
    };
    static double samples[SINGLE_CALLS][MAX_SAMPLES];
    double unit = ns_per_tick(), cost = cost_of_reading();
    caller *c = warm(&LIBGRATE, work);
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    size_t i, len;

    for (len = 0; len < MAX_SAMPLES && (len % 16 != 0 || now_ns() < end); len++)
        for (i = 0; i < SINGLE_CALLS; i++) {
            if (calls[i].is_sent)
                caller_tick(c);
            samples[i][len] = (time_call(calls[i].call, c) - cost) * unit;
        }
    caller_free(c);
    for (i = 0; i < SINGLE_CALLS; i++) {
        sort_doubles(samples[i], len);
        out[i].call = calls[i].name;
        out[i].p50 = samples[i][len / 2];
        out[i].p99 = samples[i][len * 99 / 100];
        out[i].p999 = samples[i][len * 999 / 1000];
    }
}
