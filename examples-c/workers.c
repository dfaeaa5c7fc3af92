/*
 * Worker processes that share one state, as those of a server do: what one counts, all count, and whoever is killed leaves
 * nothing behind. The upstreams are pretended: "gpt" allows less than it says, "local" fails for five seconds of every twenty.
 *
 *     workers FILE [WORKERS [SECONDS]]            4 and 10 by default; grate-top FILE shows what they do
 */
#define _POSIX_C_SOURCE 200809L
#include <grate.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Requests that a worker has in flight. */
#define IN_FLIGHT 6
#define STEP_NS 12000000

static const char json[] =
    "{\"providers\": ["
    "{\"name\": \"sonnet\", \"priority\": 10, \"quotas\": ["
    "    {\"dimension\": \"requests\", \"limit\": 600, \"window_ms\": 10000},"
    "    {\"dimension\": \"tokens\", \"limit\": 1500000, \"window_ms\": 10000, \"pool\": \"account\"}]},"
    "{\"name\": \"haiku\", \"priority\": 8, \"quotas\": ["
    "    {\"dimension\": \"requests\", \"limit\": 100, \"window_ms\": 1000, \"strategy\": \"token_bucket\", \"burst\": 200},"
    "    {\"dimension\": \"tokens\", \"limit\": 1500000, \"window_ms\": 10000, \"pool\": \"account\"}]},"
    "{\"name\": \"gpt\", \"priority\": 6, \"cooldown_seconds\": 2, \"quotas\": ["
    "    {\"dimension\": \"requests\", \"limit\": 200, \"window\": \"second\"}]},"
    "{\"name\": \"local\", \"priority\": 3, \"cooldown_seconds\": 3, \"quotas\": ["
    "    {\"dimension\": \"concurrency\", \"limit\": 10}]}],"
    "\"capabilities\": [{\"name\": \"chat\", \"providers\": [{\"provider\": \"sonnet\"}, {\"provider\": \"haiku\"},"
    "    {\"provider\": \"gpt\"}, {\"provider\": \"local\"}]}]}";

typedef struct {
    uint64_t lease;
    char provider[16];
    uint64_t tokens;
} sent;

static void wait_ns(uint64_t ns)
{
    struct timespec wait;
    wait.tv_sec = (time_t)(ns / 1000000000);
    wait.tv_nsec = (long)(ns % 1000000000);
    nanosleep(&wait, NULL);
}

/* What a provider answers to a worker that has sent it so much in this second. */
static int answer(const char *provider, time_t second, unsigned sent_this_second)
{
    if (!strcmp(provider, "gpt") && sent_this_second > 12)
        return 429;
    if (!strcmp(provider, "local") && second % 20 < 5)
        return 503;
    return 200;
}

static void settle(grate_engine *engine, const sent *request, int status)
{
    grate_response response = GRATE_RESPONSE_INIT;
    response.http_status = status;
    response.tokens = request->tokens;
    grate_engine_complete(engine, request->lease, &response, NULL);
}

/* A worker. It ends in time, or with its parent. */
static int work(grate_engine *engine, unsigned number, time_t end, pid_t parent)
{
    sent ring[IN_FLIGHT] = {{0, "", 0}};
    time_t second = 0;
    unsigned sent_this_second = 0, step;

    srand(number + 1);
    for (step = 0; time(NULL) < end && getppid() == parent; step++) {
        sent *request = &ring[step % IN_FLIGHT];
        grate_request estimate = GRATE_REQUEST_INIT;
        grate_decision decision = GRATE_DECISION_INIT;

        if (time(NULL) != second) {
            second = time(NULL);
            sent_this_second = 0;
        }
        if (request->lease)
            settle(engine, request, answer(request->provider, second, sent_this_second));
        request->lease = 0;
        request->tokens = 200 + (uint64_t)rand() % 1600;
        estimate.tokens = request->tokens + 100;
        if (grate_engine_acquire(engine, "chat", &estimate, &decision, NULL) == GRATE_OK) {
            request->lease = decision.lease;
            snprintf(request->provider, sizeof request->provider, "%s", decision.provider);
            sent_this_second += !strcmp(request->provider, "gpt");
        }
        wait_ns(STEP_NS);
    }
    for (step = 0; step < IN_FLIGHT; step++)
        if (ring[step].lease)
            settle(engine, &ring[step], 200);
    grate_engine_free(engine);
    return 0;
}

int main(int argc, char **argv)
{
    int workers = argc > 2 ? atoi(argv[2]) : 4, seconds = argc > 3 ? atoi(argv[3]) : 10, i;
    time_t end = time(NULL) + seconds;
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_metrics before = GRATE_METRICS_INIT, metrics = GRATE_METRICS_INIT;
    grate_error err = GRATE_ERROR_INIT;
    grate_engine *engine;
    pid_t parent = getpid();

    if (argc < 2 || argc > 4 || workers < 1 || seconds < 1)
        return fprintf(stderr, "usage: workers FILE [WORKERS [SECONDS]]\n"), 2;
    config.state_path = argv[1];
    if (grate_engine_new(&config, &engine, &err) || grate_engine_configure_json(engine, json, strlen(json), &err))
        return fprintf(stderr, "%s\n", err.message), 1;
    grate_engine_metrics(engine, &before, NULL); /* a file that was there goes on counting */
    for (i = 0; i < workers; i++)
        if (fork() == 0)
            return work(engine, (unsigned)i, end, parent);
    while (wait(NULL) > 0) {
    }
    grate_engine_metrics(engine, &metrics, NULL);
    printf("%d workers: %llu requests, %llu answered with 429\n", workers,
           (unsigned long long)(metrics.completions - before.completions),
           (unsigned long long)(metrics.rate_limited_responses - before.rate_limited_responses));
    grate_engine_free(engine);
    return 0;
}
