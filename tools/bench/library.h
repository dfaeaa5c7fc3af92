/*
 * libgrate as its users call it: through the C ABI of the shared library.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BENCH_LIBRARY_H
#define BENCH_LIBRARY_H

#include "grate.h"
#include "workload.h"

/* A caller of an engine, with all that it keeps between calls. */
typedef struct caller caller;

/* An engine with its providers. Whatever fails ends the program. */
caller *caller_new(const workload *work);
void caller_free(caller *c);

/* In steps: an engine that knows nothing, with its state in a file or for itself (NULL), its providers, and a capability of
 * some of them. */
caller *caller_bare(const workload *work, const char *state_path);
void caller_register_providers(caller *c);
void caller_capability(caller *c, uint32_t capability, uint32_t first, uint32_t len);

/* Single calls. */
void caller_select(caller *c);
void caller_observe(caller *c);
void caller_acquire(caller *c);
void caller_complete(caller *c); /* settles what was acquired */

/* Between two requests: the mock clock moves, and it is the next provider's turn to be observed. */
void caller_tick(caller *c);

#endif /* BENCH_LIBRARY_H */
