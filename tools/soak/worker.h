/*
 * A thread that makes all calls at random, checks what they answer, and tells what was granted to it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SOAK_WORKER_H
#define SOAK_WORKER_H

#include <pthread.h>

#include "plan.h"

/* A grant that counts. The engine's time of it is between the two that were read around the call. */
typedef struct {
    uint64_t before, after;
    uint64_t end; /* until when it surely held its slots */
    uint32_t tokens, provider;
} grant;

typedef struct {
    uint64_t calls, selects, acquires, completions, cancellations, abandoned, late, observations;
    uint64_t none_available, rate_limited, capped_waits;
    uint64_t acquires_of[PROVIDERS], observations_of[PROVIDERS];
} tally;

/* As many as a thread gets while the others are read out. */
#define RING (1u << 15)
#define HELD 4

typedef struct {
    grant grant;
    uint64_t lease, due;
} held_lease;

typedef struct {
    pthread_t thread;
    grate_engine *engine;
    uint64_t random;
    held_lease held[HELD];
    size_t held_len;
    tally done;
    const char *wrong; /* the first thing that must not happen, and the status or number that shows it */
    int64_t wrong_value;
    /* Shared with the thread that recounts. */
    grant *ring;
    uint64_t written, read;
    uint64_t settled; /* all grants of calls that began before this time are in the ring */
    uint64_t longest; /* the longest call since it was last asked for */
} worker;

extern int worker_stop;

uint64_t mono_ns(void);
void *worker_run(void *argument);

/* The present state of a provider, checked; on a failed check `wrong` is set. */
void worker_check_provider(worker *w, int provider);

#endif
