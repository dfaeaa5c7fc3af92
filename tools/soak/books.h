/*
 * The books of the soak: takes the grants from the threads, recounts every window of every quota once it is over, and forgets
 * what no later window reaches.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SOAK_BOOKS_H
#define SOAK_BOOKS_H

#include "recount.h"
#include "worker.h"

typedef struct {
    limit_history limits[QUOTAS];
    recount results[QUOTAS];
    bucket_state bucket;
    uint64_t grants;
    uint64_t changes; /* of limits */
} books;

/* `plant` writes some grants down twice: an excess that the recount must notice. */
void books_open(books *b, uint64_t now, const plan_state *state, int plant);

/* A call between the two times made these the limits. */
void books_limits(books *b, uint64_t before, uint64_t after, const plan_state *state);

/* Recounts what is over. `own_longest` is the longest call of the caller's. 0 if the grants are too many to be kept. */
int books_recount(books *b, worker *workers, size_t n, uint64_t own_longest);

#endif
