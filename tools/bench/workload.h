/*
 * What is measured: the same for all sides. Rust has a copy of the struct and of the numbers (competitors/src/lib.rs).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <stdint.h>

typedef enum {
    MOCK,  /* each request moves it by a millisecond */
    STILL, /* a mock that never moves: threads would meet at one that does */
    SYSTEM
} clock_kind;

typedef enum {
    SELECT,        /* look for the best provider */
    SELECT_RANKED, /* the same, with all candidates ranked, which is what grate-limiter's select always tells */
    OBSERVE,       /* report a request that was sent without a lease */
    CYCLE          /* acquire and complete; the nearest that grate-limiter has is select and observe */
} operation;

typedef struct {
    uint32_t clock; /* a clock_kind */
    uint32_t providers;
    uint32_t quotas; /* 1: requests per minute; 2: tokens per minute, too; 3: and concurrency */
    uint32_t apart;  /* 0: one capability has all providers; 1: each provider is a capability of its own */
    uint64_t requests_per_minute; /* the limit of each provider */
    uint64_t tokens;              /* of each request */
    uint64_t latency_ms;
    uint64_t cooldown_secs;
} workload;

/* Requests per minute on the mock clock: one each millisecond. */
#define LOAD 60000
/* Requests that an engine has seen before it is timed: a full minute, so that its windows are in use throughout. */
#define WARM_UP LOAD
#define CONCURRENCY 100

workload workload_of(clock_kind clock, uint32_t providers, uint32_t quotas);

const char *clock_name(uint32_t clock);
const char *operation_name(uint32_t operation);

#endif /* BENCH_WORKLOAD_H */
