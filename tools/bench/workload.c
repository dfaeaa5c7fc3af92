/* SPDX-License-Identifier: Apache-2.0 */
#include "workload.h"

/* More than any program asks for in a minute of real time, so that no call is answered with "nothing is available". */
#define UNREACHED 1000000000

workload workload_of(clock_kind clock, uint32_t providers, uint32_t quotas)
{
    workload work = {0};

    work.clock = clock;
    work.providers = providers;
    work.quotas = quotas;
    /* On the mock clock twice the load over all, for the same reason. */
    work.requests_per_minute = clock == MOCK ? 2 * LOAD / providers : UNREACHED;
    work.tokens = 1000;
    work.latency_ms = 50;
    work.cooldown_secs = 30;
    return work;
}

const char *clock_name(uint32_t clock)
{
    static const char *const names[] = {"mock", "still", "system"};
    return names[clock];
}

const char *operation_name(uint32_t operation)
{
    static const char *const names[] = {"select", "select, all ranked", "observe", "acquire+complete"};
    return names[operation];
}
