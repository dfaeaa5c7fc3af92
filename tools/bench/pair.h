/*
 * Two threads, or processes, that do the same at the same time, as one task.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BENCH_PAIR_H
#define BENCH_PAIR_H

#include "sample.h"

typedef struct pair pair;

typedef enum { THREADS, PROCESSES } pair_of;

/* Starts the second one. Each runs its task as often as the pair is asked to. */
pair *pair_new(task first, task second, pair_of kind);
task pair_task(pair *p);
void pair_free(pair *p);

#endif /* BENCH_PAIR_H */
