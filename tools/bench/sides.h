/*
 * The sides of a comparison: libgrate, alone and with its state in a file, its competitors, and the floor below which no limiter gets.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BENCH_SIDES_H
#define BENCH_SIDES_H

#include "workload.h"

typedef struct {
    const char *name;
    void *(*create)(const workload *);
    /* A second caller of the same engine, for another thread; NULL if it is for one only. Freed before the first. */
    void *(*another)(void *self);
    void (*run)(void *self, uint32_t operation, uint64_t n);
    void (*destroy)(void *self);
} side;

extern const side LIBGRATE, SHARED, GRATE_LIMITER, GOVERNOR, FLOOR;

/* A side that has seen a minute of requests. */
void *warm(const side *side, const workload *work);

#endif /* BENCH_SIDES_H */
