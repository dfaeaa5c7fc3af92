/*
 * Times the sides of a comparison in turns: short batches alternate (A B A B ...), so that all sides meet whatever else
 * the machine does meanwhile, and medians leave out the batches that were hit.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BENCH_SAMPLE_H
#define BENCH_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

/* An operation of a side. */
typedef struct {
    void (*run)(void *self, uint32_t operation, uint64_t n);
    void *self;
    uint32_t operation;
    void (*prepare)(void *self); /* called before each batch, untimed; or NULL */
} task;

#define MAX_TASKS 4

/* Runs all tasks in turns for so long altogether; `ns` gets the median nanoseconds per operation of each. */
void sample_medians(const task *tasks, size_t len, double seconds, double *ns);

/* The system's monotonic clock. */
uint64_t now_ns(void);

/* Sorts. */
void sort_doubles(double *values, size_t len);

#endif /* BENCH_SAMPLE_H */
