/*
 * All sides but libgrate, which has a file of its own.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _POSIX_C_SOURCE 200809L

#include "sides.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* Exported by competitors/src/lib.rs. */
void *limiter_new(const workload *);
void *limiter_another(void *);
void limiter_run(void *, uint32_t, uint64_t);
void limiter_free(void *);
void *governor_new(const workload *);
void governor_run(void *, uint32_t, uint64_t);
void governor_free(void *);

/* Whoever books a request when it is sent and when it is answered reads a clock and takes a lock, twice. */
typedef struct {
    pthread_mutex_t lock;
    uint64_t now;
} books;

static void *floor_new(const workload *work)
{
    books *books = malloc(sizeof *books);
    (void)work;
    if (books == NULL)
        abort();
    pthread_mutex_init(&books->lock, NULL);
    return books;
}

/* With a lock of its own. */
static void *floor_another(void *self)
{
    (void)self;
    return floor_new(NULL);
}

static void book(books *books)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    pthread_mutex_lock(&books->lock);
    books->now = (uint64_t)now.tv_nsec;
    pthread_mutex_unlock(&books->lock);
}

static void floor_run(void *self, uint32_t operation, uint64_t n)
{
    (void)operation;
    while (n-- > 0) {
        book(self);
        book(self);
    }
}

static void floor_free(void *self)
{
    books *books = self;
    pthread_mutex_destroy(&books->lock);
    free(books);
}

const side GRATE_LIMITER = {"grate-limiter", limiter_new, limiter_another, limiter_run, limiter_free};
const side GOVERNOR = {"governor check()", governor_new, NULL, governor_run, governor_free};
const side FLOOR = {"2 clock reads, 2 locks", floor_new, floor_another, floor_run, floor_free};

void *warm(const side *side, const workload *work)
{
    void *self = side->create(work);
    side->run(self, OBSERVE, WARM_UP);
    return self;
}
