/*
 * Measures all there is, section by section, and judges it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BENCH_FIGURES_H
#define BENCH_FIGURES_H

#include <stddef.h>

#include "report.h"

/* What the targets are about. */
typedef struct {
    comparison comparisons[128];
    size_t len;
    double growth_of_select, growth_of_cycle; /* from 100 to 1000 providers, the worse of 1 and 3 quotas */
    double threads_apart[3], threads_together[3]; /* times one thread's throughput, by clock */
    double processes_apart[3];                            /* the same, of processes that share a state file */
    double worst_tail;                            /* p99.9 / p50 */
    double bytes;                                 /* per provider with 3 quotas */
} figures;

/* Each measurement takes so many seconds; they report as they go. */
void measure_calls(figures *f, double seconds);
void measure_growth(figures *f, double seconds);
void measure_threads(figures *f, double seconds);
void measure_single_calls(figures *f, double seconds);
void measure_memory(figures *f);

/* Reports the targets. */
void judge(const figures *f);

#endif /* BENCH_FIGURES_H */
