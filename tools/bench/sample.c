/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L

#include "sample.h"

#include <stdlib.h>
#include <time.h>

/* Long enough that reading the clock twice does not show, short enough that most batches are not interrupted. */
#define BATCH_NS 200000
/* More than fit into any budget. */
#define MAX_BATCHES 16384

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void sort_doubles(double *values, size_t len)
{
    qsort(values, len, sizeof *values, compare);
}

static uint64_t run_batch(const task *task, uint64_t size)
{
    uint64_t start;
    if (task->prepare != NULL)
        task->prepare(task->self);
    start = now_ns();
    task->run(task->self, task->operation, size);
    return now_ns() - start;
}

/* Whether so many operations take as long as a batch, even if they are not interrupted. */
static int is_long(const task *task, uint64_t size)
{
    int tries = 3;
    while (tries > 0 && run_batch(task, size) >= BATCH_NS)
        tries--;
    return tries == 0;
}

/* How many operations make a batch. Finding out also warms the caches. */
static uint64_t batch_size(const task *task)
{
    uint64_t size = 1;
    while (!is_long(task, size))
        size *= 2;
    return size;
}

void sample_medians(const task *tasks, size_t len, double seconds, double *ns)
{
    static double samples[MAX_TASKS][MAX_BATCHES];
    uint64_t sizes[MAX_TASKS], end;
    size_t i, batches = 0;

    for (i = 0; i < len; i++)
        sizes[i] = batch_size(&tasks[i]);
    end = now_ns() + (uint64_t)(seconds * 1e9);
    do {
        for (i = 0; i < len; i++)
            samples[i][batches] = (double)run_batch(&tasks[i], sizes[i]) / (double)sizes[i];
        batches++;
    } while (now_ns() < end && batches < MAX_BATCHES);
    for (i = 0; i < len; i++) {
        sort_doubles(samples[i], batches);
        ns[i] = samples[i][batches / 2];
    }
}
