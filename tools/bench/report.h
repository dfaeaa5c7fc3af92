/*
 * Tells the figures as they come: a table for people on standard output, JSON for programs in a file.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "single.h"
#include "workload.h"

/* An operation of libgrate and of a rival, in nanoseconds. */
typedef struct {
    workload work;
    uint32_t operation;
    const char *rival;
    double ours, theirs;
} comparison;

/* A side with one thread and with two, in nanoseconds per operation over all threads. */
typedef struct {
    workload work;
    const char *side;
    double one, two;
} threads;

/* What growing from `few` to `many` providers costs, in nanoseconds per operation. */
typedef struct {
    uint32_t operation, quotas, few, many;
    double with_few, with_many;
} growth;

/* A promise, and what was measured. */
typedef struct {
    const char *text;
    double measured, wanted;
    int at_least; /* otherwise at most */
} target;

void report_open(const char *json_path, int is_quick);
/* Starts a section: its name in the JSON, and the lines above its table. */
void report_section(const char *name, const char *heading);
void report_comparison(const comparison *c);
void report_threads(const threads *t);
void report_growth(const growth *g);
void report_single(const workload *work, const percentiles *p);
void report_bytes(uint32_t quotas, double bytes_per_provider);
void report_target(const target *t);
void report_close(void);

#endif /* BENCH_REPORT_H */
