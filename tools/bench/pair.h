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

/* Starts the second one, and gives each a processor of its own. */
pair *pair_new(task first, task second, pair_of kind);
/* Both at the same time, each as often as is asked. */
task pair_both(pair *p);
/* The second one alone. */
task pair_second(pair *p);
void pair_free(pair *p);

#endif /* BENCH_PAIR_H */
