/*
 * What a call costs without a binding, as the others are compared with: one line, `bench<TAB>C<TAB>empty<TAB>cycle`, in
 * nanoseconds. empty is one grate_version through the shared library, cycle one acquire and complete; both are the medians of
 * batches that take turns.
 *
 *   bench CONFIGURATION.json
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _POSIX_C_SOURCE 200809L

#include <grate.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BATCHES 2000
#define WARM_UP 200 /* batches that do not count */
#define CALLS 500   /* so few that other programs interrupt few batches, and not all of them, on a busy machine */

static volatile uint32_t version;
static grate_engine *engine;
static grate_request request = GRATE_REQUEST_INIT;
static grate_response response = GRATE_RESPONSE_INIT;
static grate_error error = GRATE_ERROR_INIT;

static void must(grate_status status)
{
    if (status != GRATE_OK) {
        fprintf(stderr, "bench: %s\n", error.message);
        exit(EXIT_FAILURE);
    }
}

static void empty(void)
{
    version = grate_version();
}

static void cycle(void)
{
    grate_decision decision = GRATE_DECISION_INIT;
    must(grate_engine_acquire(engine, "chat", &request, &decision, &error));
    must(grate_engine_complete(engine, decision.lease, &response, &error));
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double batch(void (*call)(void))
{
    double begin = now();
    int i;
    for (i = 0; i < CALLS; i++)
        call();
    return (now() - begin) / CALLS;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, BATCHES, sizeof *values, compare);
    return values[BATCHES / 2];
}

int main(int argc, char **argv)
{
    static char json[4096];
    static double empties[BATCHES], cycles[BATCHES];
    FILE *file = fopen(argc > 1 ? argv[1] : "", "rb");
    size_t length = file != NULL ? fread(json, 1, sizeof json, file) : 0;
    int i;

    must(grate_engine_new(NULL, &engine, &error));
    must(grate_engine_configure_json(engine, json, length, &error));
    request.tokens = response.tokens = 100;
    response.http_status = 200;
    for (i = -WARM_UP; i < BATCHES; i++) {
        double e = batch(empty), c = batch(cycle);
        if (i >= 0) {
            empties[i] = e;
            cycles[i] = c;
        }
    }
    printf("bench\tC\t%.1f\t%.1f\n", median(empties), median(cycles));
    grate_engine_free(engine);
    return 0;
}
