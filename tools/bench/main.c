/*
 * Times the hot calls of libgrate, through the C ABI of the shared library, beside its competitors in the same run, and
 * says whether it keeps its promises. Exits with 0 whatever they are: other programs on the machine break some of them.
 *
 *   bench [--quick] --json PATH
 *
 * `workload` says what is measured, `library` and `sides` are who is, `sample`, `pair`, `single` and `memory` how;
 * `measure` goes through all of it, `report` tells it, `targets` judges. `count` is a program of its own: see
 * scripts/bench-check.sh.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "figures.h"
#include "sample.h"

int main(int argc, char **argv)
{
    static figures f;
    const char *json = NULL;
    uint64_t start = now_ns();
    double seconds = 0.9;
    int i;

    for (i = 1; i < argc; i++)
        if (strcmp(argv[i], "--quick") == 0)
            seconds = 0.03;
        else if (strcmp(argv[i], "--json") == 0 && i + 1 < argc)
            json = argv[++i];
        else
            break;
    if (json == NULL || i < argc) {
        fputs("usage: bench [--quick] --json PATH\n", stderr);
        return EXIT_FAILURE;
    }

    report_open(json, seconds < 0.1);
    measure_calls(&f, seconds);
    measure_growth(&f, seconds);
    measure_threads(&f, seconds);
    measure_single_calls(&f, seconds);
    measure_memory(&f);
    judge(&f);
    report_close();
    printf("\nTook %.0f s. The same as JSON: %s\n", (double)(now_ns() - start) / 1e9, json);
    return EXIT_SUCCESS;
}
