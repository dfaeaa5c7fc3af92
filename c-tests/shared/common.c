/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE

#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATHS 8

static char paths[PATHS][256];
static size_t paths_len;
static pid_t owner;

static void remove_all(void)
{
    size_t i;
    for (i = 0; i < paths_len && getpid() == owner; i++) {
        unlink(paths[i]);
    }
}

const char *state_path(const char *name)
{
    const char *directory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    char *path = paths[paths_len];
    if (paths_len++ == 0) {
        owner = getpid();
        atexit(remove_all);
    }
    snprintf(path, sizeof paths[0], "%s/grate-test-%ld-%s", directory, (long)owner, name);
    unlink(path);
    return path;
}

static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "process %ld: %s: %s\n", (long)getpid(), what, why);
    _exit(EXIT_FAILURE);
}

void must(grate_status status, const char *what)
{
    if (status != GRATE_OK) {
        give_up(what, grate_status_name(status));
    }
}

grate_engine *open_state(const char *path, const grate_engine_config *config, const char *json)
{
    grate_engine_config shared = *config;
    grate_engine *engine = NULL;
    grate_error error = GRATE_ERROR_INIT;
    shared.state_path = path;
    if (grate_engine_new(&shared, &engine, &error) != GRATE_OK ||
        (json != NULL && grate_engine_configure_json(engine, json, strlen(json), &error) != GRATE_OK)) {
        give_up(path, error.message);
    }
    return engine;
}

void *shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        give_up("mmap", "no memory");
    }
    return memory;
}

uint64_t next_random(uint64_t *seed)
{
    uint64_t mixed = *seed += UINT64_C(0x9E3779B97F4A7C15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94D049BB133111EB);
    return mixed ^ mixed >> 31;
}

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void sleep_ns(uint64_t ns)
{
    struct timespec span;
    span.tv_sec = (time_t)(ns / 1000000000);
    span.tv_nsec = (long)(ns % 1000000000);
    nanosleep(&span, NULL);
}

int ended(pid_t child)
{
    int status = 0;
    if (waitpid(child, &status, 0) != child) {
        give_up("waitpid", "no such child");
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}
