/*
 * Times single calls of libgrate, one by one.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BENCH_SINGLE_H
#define BENCH_SINGLE_H

#include "workload.h"

/* Nanoseconds, less what reading the time costs. */
typedef struct {
    const char *call;
    double p50, p99, p999;
} percentiles;

enum { SINGLE_CALLS = 4 };

/* Select, observe, acquire and complete in turns for so long altogether. */
void single_calls(const workload *work, double seconds, percentiles out[SINGLE_CALLS]);

#endif /* BENCH_SINGLE_H */
