/*
 * What is configured: providers with quotas of all strategies, own and pooled, whose limits change while they are used.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef SOAK_PLAN_H
#define SOAK_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "grate.h"

#define MS ((uint64_t)1000000)
#define LEASE_TTL_NS (100 * MS)
#define SKEW_NS (5 * MS)
#define MAX_RETRY_AFTER_NS (200 * MS)
#define GUESTS 8

/* TOLD has responses with headers, which correct its books: it is not recounted. Guests come and go on all threads. */
enum { A, B, C, D, TOLD, GUEST, PROVIDERS = GUEST + GUESTS };
extern const char *const PROVIDER_NAMES[PROVIDERS];

enum { CHAT, BATCH, VISIT, FREE, CAPABILITIES };
extern const char *const CAPABILITY_NAMES[CAPABILITIES];

#define LIMITS 3
typedef struct {
    const char *name;
    unsigned members; /* bits of providers */
    int32_t dimension, strategy;
    uint64_t window_ns, burst;
    const char *pool;
    uint64_t limits[LIMITS]; /* one after the other; UINT64_MAX: not configured */
} quota_plan;

#define QUOTAS 13
extern const quota_plan QUOTA_PLAN[QUOTAS];

/* Which of its limits each quota has. */
typedef struct {
    unsigned step[QUOTAS];
} plan_state;

uint64_t plan_limit(const plan_state *state, size_t quota);

/* Units of a request of so many tokens. */
uint32_t plan_units(int32_t dimension, uint32_t tokens);

grate_status plan_upsert(grate_engine *engine, const plan_state *state, int provider);

/* `variant` turns the order and the priorities round. */
grate_status plan_capability(grate_engine *engine, int capability, unsigned variant);

/* The providers of a set of bits as JSON; with `whole`, all there is, which replaces everything else. */
grate_status plan_json(grate_engine *engine, const plan_state *state, unsigned providers, int whole, unsigned variant);

#endif
