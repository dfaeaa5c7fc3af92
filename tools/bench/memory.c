/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <malloc.h>

#include "library.h"

/* What malloc has handed out, large blocks, which it maps, included. */
static double heap(void)
{
    struct mallinfo2 info = mallinfo2();
    return (double)info.uordblks + (double)info.hblkhd;
}

double bytes_per_provider(const workload *work)
{
    caller *c = caller_bare(work, NULL);
    double before = heap(), after;
    uint32_t i;

    caller_register_providers(c);
    /* For the time of a request, each provider is the only one to choose. */
    for (i = 0; i < work->providers; i++) {
        caller_capability(c, 0, i, 1);
        caller_acquire(c);
        caller_tick(c);
        caller_complete(c);
    }
    caller_capability(c, 0, 0, work->providers);
    after = heap();
    caller_free(c);
    return (after - before) / work->providers;
}
