/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_MEMORY_H
#define BENCH_MEMORY_H

#include "workload.h"

/* Bytes on the heap per provider: registered, in a capability of all, and with a request acquired and completed. */
double bytes_per_provider(const workload *work);

#endif /* BENCH_MEMORY_H */
