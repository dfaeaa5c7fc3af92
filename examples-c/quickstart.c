/*
 * The story of libgrate on a mock clock: two LLM providers with request and token quotas, traffic that leaves the better one
 * before its quota is spent, an outage with cooldown, probe and recovery, and the exact wait when nothing is available.
 * It ends at once: nothing here sleeps.
 */
#include <grate.h>

#include <stdio.h>
#include <stdlib.h>

static grate_engine *engine;
static grate_clock *mock;

/* Ends the program if a call fails: an example has nobody to hand an error to. */
static void must(grate_status status, const grate_error *err)
{
    if (status != GRATE_OK) {
        fprintf(stderr, "%s: %s\n", grate_status_name(status), err->message);
        exit(EXIT_FAILURE);
    }
}

static double clock_secs(void)
{
    return (double)grate_clock_now_ns(mock) / 1e9;
}

static void provider(const char *name, uint32_t priority, uint64_t requests, uint64_t tokens)
{
    grate_error err = GRATE_ERROR_INIT;
    grate_quota_config quotas[2] = {GRATE_QUOTA_CONFIG_INIT, GRATE_QUOTA_CONFIG_INIT};
    grate_provider_config config = GRATE_PROVIDER_CONFIG_INIT;

    quotas[0].dimension = GRATE_DIMENSION_REQUESTS;
    quotas[0].limit = requests;
    quotas[0].window_ns = GRATE_WINDOW_MINUTE;
    quotas[1].dimension = GRATE_DIMENSION_TOKENS;
    quotas[1].limit = tokens;
    quotas[1].window_ns = GRATE_WINDOW_MINUTE;
    config.name = name;
    config.priority = priority;
    config.quotas = quotas;
    config.quotas_len = 2;
    must(grate_engine_upsert_provider(engine, &config, &err), &err);
}

static void setup(void)
{
    grate_error err = GRATE_ERROR_INIT;
    grate_engine_config config = GRATE_ENGINE_CONFIG_INIT;
    grate_capability_provider list[2] = {GRATE_CAPABILITY_PROVIDER_INIT, GRATE_CAPABILITY_PROVIDER_INIT};
    grate_capability_config chat = GRATE_CAPABILITY_CONFIG_INIT;

    mock = grate_clock_mock_new(1767225600000);
    config.clock = mock;
    must(grate_engine_new(&config, &engine, &err), &err);
    provider("sonnet", 10, 60, 40000);
    provider("gpt", 5, 60, 60000);
    list[0].provider = "sonnet";
    list[1].provider = "gpt";
    chat.name = "chat";
    chat.providers = list;
    chat.providers_len = 2;
    must(grate_engine_upsert_capability(engine, &chat, &err), &err);
}

static grate_status acquire(uint64_t tokens, grate_decision *decision)
{
    grate_request request = GRATE_REQUEST_INIT;
    request.tokens = tokens;
    return grate_engine_acquire(engine, "chat", &request, decision, NULL);
}

static void complete(const grate_decision *decision, int32_t http_status, uint64_t tokens)
{
    grate_error err = GRATE_ERROR_INIT;
    grate_response response = GRATE_RESPONSE_INIT;
    response.http_status = http_status;
    response.tokens = tokens;
    must(grate_engine_complete(engine, decision->lease, &response, &err), &err);
}

static grate_provider_state state_of(const char *name)
{
    grate_error err = GRATE_ERROR_INIT;
    grate_provider_state state = GRATE_PROVIDER_STATE_INIT;
    must(grate_engine_provider_state(engine, name, &state, &err), &err);
    return state;
}

/* The decision for the next request, with the numbers that made it. */
static void explain(uint64_t tokens)
{
    static const char *const holds[] = {"", "cooldown", "health", "quota", "concurrency", "probe", "exclusion"};
    grate_error err = GRATE_ERROR_INIT;
    grate_request request = GRATE_REQUEST_INIT;
    grate_candidate row[2] = {GRATE_CANDIDATE_INIT, GRATE_CANDIDATE_INIT};
    grate_decision decision = GRATE_DECISION_INIT;
    uint64_t i;

    request.tokens = tokens;
    decision.candidates = row;
    decision.candidates_capacity = 2;
    if (grate_engine_select(engine, "chat", &request, &decision, &err) != GRATE_OK
        && err.code != GRATE_ERR_NO_PROVIDER_AVAILABLE)
        must(err.code, &err);
    for (i = 0; i < decision.candidates_len; i++) {
        printf("   %-7s score %.3f = quota %.2f, health %.2f, priority %.2f, latency %.2f", row[i].provider, row[i].score,
               row[i].quota_score, row[i].health_score, row[i].priority_score, row[i].latency_score);
        if (row[i].held_by == GRATE_HELD_BY_NOTHING)
            printf("%s\n", i == 0 ? "   <- chosen" : "");
        else
            printf("   held by %s, %.2f s\n", holds[row[i].held_by], (double)row[i].retry_after_ns / 1e9);
    }
}

/* Requests of 1000 tokens, four a second, until the provider changes or `most` are sent. Returns how many. */
static int traffic(int most, const char **chosen)
{
    int sent;
    *chosen = NULL;
    for (sent = 0; sent < most; sent++) {
        grate_decision decision = GRATE_DECISION_INIT;
        if (acquire(1000, &decision) != GRATE_OK)
            break;
        if (*chosen != NULL && decision.provider != *chosen) { /* names are stable pointers */
            must(grate_engine_cancel(engine, decision.lease, NULL), NULL);
            break;
        }
        *chosen = decision.provider;
        grate_clock_advance_ms(mock, 250);
        complete(&decision, 200, 1000);
    }
    return sent;
}

int main(void)
{
    grate_decision decision = GRATE_DECISION_INIT;
    grate_metrics metrics = GRATE_METRICS_INIT;
    grate_provider_state state;
    const char *chosen;
    uint64_t left = 0;
    int i, sent, total;

    setup();
    printf("Two providers serve \"chat\": sonnet (priority 10, 60 requests and 40000 tokens a minute)\n"
           "and gpt (priority 5, 60 requests and 60000 tokens a minute).\n\n");

    printf("1. At rest, priority decides:\n");
    explain(1000);

    printf("\n2. Traffic: 4 requests of 1000 tokens a second. sonnet is left before its quota is spent:\n");
    sent = traffic(60, &chosen);
    must(grate_engine_remaining_quota(engine, chosen, GRATE_DIMENSION_TOKENS, &left, NULL), NULL);
    printf("   after %d requests in %.1f s, %s has %u of 40000 tokens left, and the next goes elsewhere:\n", sent,
           clock_secs(), chosen, (unsigned)left);
    explain(1000);

    printf("\n3. The burst goes on until nothing fits. No request was refused; the wait is exact:\n");
    for (total = sent; (sent = traffic(100, &chosen)) > 0;)
        total += sent;
    if (acquire(1000, &decision) == GRATE_ERR_NO_PROVIDER_AVAILABLE)
        printf("   after %d requests: %s is free first, in %.3f s\n", total, decision.provider,
               (double)decision.retry_after_ns / 1e9);
    explain(1000);
    grate_clock_advance_ms(mock, decision.retry_after_ns / 1000000);
    printf("   that much later: %s\n",
           acquire(1000, &decision) == GRATE_OK ? decision.provider : "still nothing");
    complete(&decision, 200, 1000);

    printf("\n4. A minute later sonnet has an outage: three requests fail, and it cools down.\n");
    grate_clock_advance_secs(mock, 60);
    for (i = 0; i < 3; i++) {
        must(acquire(1000, &decision), NULL);
        printf("   request to %s: 503\n", decision.provider);
        complete(&decision, 503, 0);
        grate_clock_advance_ms(mock, 200);
    }
    explain(1000);

    printf("\n5. 30 s later it is half-open: one probe may try it, everyone else goes to gpt.\n");
    grate_clock_advance_secs(mock, 30);
    {
        grate_decision probe = GRATE_DECISION_INIT;
        must(acquire(1000, &probe), NULL);
        must(acquire(1000, &decision), NULL);
        printf("   the first request goes to %s, the one beside it to %s\n", probe.provider, decision.provider);
        explain(1000);
        complete(&probe, 200, 1000);
        complete(&decision, 200, 1000);
    }
    for (i = 0; i < 3; i++) {
        must(acquire(1000, &decision), NULL);
        complete(&decision, 200, 1000);
    }
    state = state_of("sonnet");
    printf("   the probe succeeds, and after a short ramp it is back: circuit %s, health %.2f\n",
           state.circuit == GRATE_CIRCUIT_CLOSED ? "closed" : "not closed", state.health);

    must(grate_engine_metrics(engine, &metrics, NULL), NULL);
    printf("\n%u requests sent, %u refused with 429, %u cooldown, %u times nothing was available.\n",
           (unsigned)metrics.completions, (unsigned)metrics.rate_limited_responses, (unsigned)metrics.cooldowns_triggered,
           (unsigned)metrics.none_available);
    grate_engine_free(engine);
    grate_clock_free(mock);
    return EXIT_SUCCESS;
}
