/*
 * The library loaded at run time: over and over without growth, and twice in one process under two names and in two
 * namespaces, each copy with engines of its own, also on one state file. The first argument is libgrate.so, the second a copy of it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "grate.h"

#define ROUNDS 100
#define PAGES_OF_SLACK 64

static const char *library, *copy;

static const char JSON[] =
    "{\"providers\": [{\"name\": \"p\", \"quotas\": [{\"dimension\": \"requests\", \"limit\": 50, \"window\": \"day\"}]}],"
    " \"capabilities\": [{\"name\": \"api\", \"providers\": [{\"provider\": \"p\"}]}]}";

typedef struct {
    void *handle;
    grate_status (*new_engine)(const grate_engine_config *, grate_engine **, grate_error *);
    void (*free_engine)(grate_engine *);
    grate_status (*configure)(grate_engine *, const char *, uint64_t, grate_error *);
    grate_status (*acquire)(grate_engine *, const char *, const grate_request *, grate_decision *, grate_error *);
    grate_status (*complete)(grate_engine *, uint64_t, const grate_response *, grate_error *);
    grate_status (*remaining)(grate_engine *, const char *, int32_t, uint64_t *, grate_error *);
} api;

/* ISO C has no cast from an object to a function. */
static void find(void *handle, const char *name, void *into)
{
    void *symbol = dlsym(handle, name);
    if (!CHECK(symbol != NULL)) {
        exit(1);
    }
    memcpy(into, &symbol, sizeof symbol);
}

static api from(void *handle)
{
    api a;
    if (handle == NULL) {
        check_fail(__FILE__, __LINE__, "%s", dlerror());
        exit(1);
    }
    a.handle = handle;
    find(handle, "grate_engine_new", &a.new_engine);
    find(handle, "grate_engine_free", &a.free_engine);
    find(handle, "grate_engine_configure_json", &a.configure);
    find(handle, "grate_engine_acquire", &a.acquire);
    find(handle, "grate_engine_complete", &a.complete);
    find(handle, "grate_engine_remaining_quota", &a.remaining);
    return a;
}

static grate_engine *make_with(const api *a, const grate_engine_config *config)
{
    grate_engine *engine = NULL;
    CHECK_EQ_I32(a->new_engine(config, &engine, NULL), GRATE_OK);
    CHECK_EQ_I32(a->configure(engine, JSON, sizeof JSON - 1, NULL), GRATE_OK);
    return engine;
}

static grate_engine *make(const api *a)
{
    return make_with(a, NULL);
}

static void request(const api *a, grate_engine *engine)
{
    grate_decision decision = GRATE_DECISION_INIT;
    grate_response served = GRATE_RESPONSE_INIT;
    served.outcome = GRATE_OUTCOME_SUCCESS;
    CHECK_EQ_I32(a->acquire(engine, "api", NULL, &decision, NULL), GRATE_OK);
    CHECK_STR(decision.provider, "p");
    CHECK_EQ_I32(a->complete(engine, decision.lease, &served, NULL), GRATE_OK);
}

static uint64_t left(const api *a, grate_engine *engine)
{
    uint64_t remaining = 0;
    CHECK_EQ_I32(a->remaining(engine, "p", GRATE_DIMENSION_REQUESTS, &remaining, NULL), GRATE_OK);
    return remaining;
}

/* Pages of memory in use. */
static long pages(void)
{
    long all = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%ld %ld", &all, &resident) == 2);
    fclose(file);
    return resident;
}

TEST(loaded_a_hundred_times)
{
    long before = 0;
    int i;
    for (i = 0; i < ROUNDS; i++) {
        api a = from(dlopen(library, RTLD_NOW | RTLD_LOCAL));
        grate_engine *engine = make(&a);
        request(&a, engine);
        a.free_engine(engine);
        CHECK_EQ_I32(dlclose(a.handle), 0);
        before = i == ROUNDS / 4 ? pages() : before;
    }
    CHECK(pages() - before <= PAGES_OF_SLACK);
}

static void side_by_side(void *one, void *two)
{
    const api both[2] = {from(one), from(two)};
    grate_engine *engines[2];
    int i;
    CHECK((void *)both[0].handle != both[1].handle);
    CHECK(both[0].acquire != both[1].acquire);
    for (i = 0; i < 2; i++) {
        engines[i] = make(&both[i]);
    }
    for (i = 0; i < 40; i++) {
        request(&both[0], engines[0]);
        if (i % 2 == 0) {
            request(&both[1], engines[1]);
        }
    }
    CHECK_EQ_U64(left(&both[0], engines[0]), 10);
    CHECK_EQ_U64(left(&both[1], engines[1]), 30);
    both[0].free_engine(engines[0]);
    request(&both[1], engines[1]);
    both[1].free_engine(engines[1]);
    CHECK_EQ_I32(dlclose(one), 0);
    CHECK_EQ_I32(dlclose(two), 0);
}

TEST(two_files)
{
    side_by_side(dlopen(library, RTLD_NOW | RTLD_LOCAL), dlopen(copy, RTLD_NOW | RTLD_LOCAL));
}

TEST(two_namespaces)
{
    side_by_side(dlopen(library, RTLD_NOW | RTLD_LOCAL), dlmopen(LM_ID_NEWLM, library, RTLD_NOW | RTLD_LOCAL));
}

/* Who leaves a state file takes nothing of the other's along. */
TEST(two_on_one_state_file)
{
    const api both[2] = {from(dlopen(library, RTLD_NOW | RTLD_LOCAL)), from(dlopen(copy, RTLD_NOW | RTLD_LOCAL))};
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_decision decision = GRATE_DECISION_INIT;
    grate_response served = GRATE_RESPONSE_INIT;
    grate_engine *stays, *goes;
    char path[64];
    snprintf(path, sizeof path, "/tmp/grate-load-%ld", (long)getpid());
    unlink(path);
    config.state_path = path;
    served.outcome = GRATE_OUTCOME_SUCCESS;
    stays = make_with(&both[0], &config);
    goes = make_with(&both[1], &config);
    CHECK_EQ_I32(both[0].acquire(stays, "api", NULL, &decision, NULL), GRATE_OK);
    both[1].free_engine(goes);
    CHECK_EQ_I32(both[0].complete(stays, decision.lease, &served, NULL), GRATE_OK);
    goes = make_with(&both[1], &config);
    request(&both[1], goes);
    CHECK_EQ_U64(left(&both[0], stays), 48);
    both[0].free_engine(stays);
    both[1].free_engine(goes);
    unlink(path);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s LIBRARY COPY\n", argv[0]);
        return 2;
    }
    library = argv[1];
    copy = argv[2];
    RUN(loaded_a_hundred_times);
    RUN(two_files);
    RUN(two_namespaces);
    RUN(two_on_one_state_file);
    return check_report("load");
}
