/*
 * Mistakes of a caller, made on purpose and named by the argument: a tool that does not report them inside the library sees
 * nothing there, and its silence about the other tests would mean nothing. See scripts/sanitize.sh.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "grate.h"

static grate_engine *engine;
static grate_metrics metrics = GRATE_METRICS_INIT;

static void *write_metrics(void *unused)
{
    (void)unused;
    grate_engine_metrics(engine, &metrics, NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    const char *mistake = argc == 2 ? argv[1] : "";
    if (grate_engine_new(NULL, &engine, NULL) != GRATE_OK) {
        return 2;
    }
    if (strcmp(mistake, "leak") == 0) {
        engine = NULL;
    } else if (strcmp(mistake, "use-after-free") == 0) {
        grate_engine_free(engine);
        write_metrics(NULL);
        engine = NULL;
    } else if (strcmp(mistake, "race") == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, write_metrics, NULL);
        write_metrics(NULL);
        pthread_join(thread, NULL);
    } else if (strcmp(mistake, "overflow") == 0) {
        volatile int most = INT_MAX;
        printf("%d\n", most + argc);
    } else if (strcmp(mistake, "none") != 0) {
        return 2;
    }
    grate_engine_free(engine);
    return 0;
}
