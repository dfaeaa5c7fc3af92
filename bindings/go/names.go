package grate

// #include "native.h"
import "C"

import (
	"math"
	"strconv"
	"time"
)

const (
	// Zero is a true zero in counts where 0 means "not given": an estimate of nothing, a request that used nothing.
	Zero uint64 = C.GRATE_ZERO
	// PriorityZero is the same for [CapabilityProvider].Priority.
	PriorityZero uint32 = C.GRATE_PRIORITY_ZERO
	// Never is a wait that does not end by itself: do not sleep for it.
	Never time.Duration = math.MaxInt64
	// Unlimited stands for the limit that nobody configured, and what remains of a quota that does not exist.
	Unlimited uint64 = math.MaxUint64
	// Absent is a number that headers do not tell.
	Absent uint64 = C.GRATE_ABSENT
)

// Dimension is what a quota counts.
type Dimension int32

// The dimensions. Concurrency counts requests in flight and is held by leases; CostMicroUSD is money in millionths of a
// US dollar; Tokens are input and output together.
const (
	DimensionRequests     Dimension = C.GRATE_DIMENSION_REQUESTS
	DimensionTokens       Dimension = C.GRATE_DIMENSION_TOKENS
	DimensionInputTokens  Dimension = C.GRATE_DIMENSION_INPUT_TOKENS
	DimensionOutputTokens Dimension = C.GRATE_DIMENSION_OUTPUT_TOKENS
	DimensionConcurrency  Dimension = C.GRATE_DIMENSION_CONCURRENCY
	DimensionBytes        Dimension = C.GRATE_DIMENSION_BYTES
	DimensionCostMicroUSD Dimension = C.GRATE_DIMENSION_COST_MICRO_USD
)

var dimensionNames = []string{
	DimensionRequests:     "requests",
	DimensionTokens:       "tokens",
	DimensionInputTokens:  "input_tokens",
	DimensionOutputTokens: "output_tokens",
	DimensionConcurrency:  "concurrency",
	DimensionBytes:        "bytes",
	DimensionCostMicroUSD: "cost_micro_usd",
}

// String is the name in configurations, such as "requests"; that of 0 is empty.
func (d Dimension) String() string { return nameOf(dimensionNames, int32(d)) }

// Strategy is how a quota counts. The zero value is the default: rolling, or concurrency for that dimension.
type Strategy int32

// The strategies; the README of libgrate tells which is for what.
const (
	StrategyRolling     Strategy = C.GRATE_STRATEGY_ROLLING
	StrategyTokenBucket Strategy = C.GRATE_STRATEGY_TOKEN_BUCKET
	StrategyFixedWindow Strategy = C.GRATE_STRATEGY_FIXED_WINDOW
	StrategyConcurrency Strategy = C.GRATE_STRATEGY_CONCURRENCY
)

var strategyNames = []string{
	StrategyRolling:     "rolling",
	StrategyTokenBucket: "token_bucket",
	StrategyFixedWindow: "fixed_window",
	StrategyConcurrency: "concurrency",
}

// String is the name in configurations, such as "token_bucket"; that of 0 is empty.
func (s Strategy) String() string { return nameOf(strategyNames, int32(s)) }

// Outcome is what became of a request. The zero value says: see the HTTP status.
type Outcome int32

// The outcomes.
const (
	OutcomeSuccess        Outcome = C.GRATE_OUTCOME_SUCCESS         // served
	OutcomeRateLimited    Outcome = C.GRATE_OUTCOME_RATE_LIMITED    // refused because of a rate limit (429)
	OutcomeQuotaExhausted Outcome = C.GRATE_OUTCOME_QUOTA_EXHAUSTED // refused because a budget or long quota is spent
	OutcomeForbidden      Outcome = C.GRATE_OUTCOME_FORBIDDEN       // refused as not allowed (401, 402, 403)
	OutcomeServerError    Outcome = C.GRATE_OUTCOME_SERVER_ERROR    // failed (5xx), or could not be reached: then with Requests: Zero
	OutcomeOverloaded     Outcome = C.GRATE_OUTCOME_OVERLOADED      // overloaded, whoever asks (503, 529)
	OutcomeTimeout        Outcome = C.GRATE_OUTCOME_TIMEOUT         // no answer in time (408, or the caller's own timeout)
	OutcomeClientError    Outcome = C.GRATE_OUTCOME_CLIENT_ERROR    // refused as wrong (other 4xx): the provider works
	OutcomeCancelled      Outcome = C.GRATE_OUTCOME_CANCELLED       // sent, then given up by the caller: its usage counts
)

var outcomeNames = []string{
	OutcomeSuccess:        "success",
	OutcomeRateLimited:    "rate_limited",
	OutcomeQuotaExhausted: "quota_exhausted",
	OutcomeForbidden:      "forbidden",
	OutcomeServerError:    "server_error",
	OutcomeOverloaded:     "overloaded",
	OutcomeTimeout:        "timeout",
	OutcomeClientError:    "client_error",
	OutcomeCancelled:      "cancelled",
}

// String is a name such as "rate_limited"; that of 0 is empty.
func (o Outcome) String() string { return nameOf(outcomeNames, int32(o)) }

// HeldBy is what keeps a provider from being chosen.
type HeldBy int32

// The reasons.
const (
	HeldByNothing     HeldBy = C.GRATE_HELD_BY_NOTHING     // it can be chosen
	HeldByCooldown    HeldBy = C.GRATE_HELD_BY_COOLDOWN    // it is cooling down
	HeldByHealth      HeldBy = C.GRATE_HELD_BY_HEALTH      // its health is too low
	HeldByQuota       HeldBy = C.GRATE_HELD_BY_QUOTA       // a quota has no room
	HeldByConcurrency HeldBy = C.GRATE_HELD_BY_CONCURRENCY // all its slots are taken
	HeldByProbe       HeldBy = C.GRATE_HELD_BY_PROBE       // it is half-open, and the leases that may try it are out
	HeldByExclusion   HeldBy = C.GRATE_HELD_BY_EXCLUSION   // the request excludes it
)

var heldByNames = []string{
	HeldByNothing:     "nothing",
	HeldByCooldown:    "cooldown",
	HeldByHealth:      "health",
	HeldByQuota:       "quota",
	HeldByConcurrency: "concurrency",
	HeldByProbe:       "probe",
	HeldByExclusion:   "exclusion",
}

// String is a name such as "cooldown".
func (h HeldBy) String() string { return nameOf(heldByNames, int32(h)) }

// Circuit is the state of a provider between working and cooling down.
type Circuit int32

// The states.
const (
	CircuitClosed   Circuit = C.GRATE_CIRCUIT_CLOSED    // working normally
	CircuitOpen     Circuit = C.GRATE_CIRCUIT_OPEN      // cooling down: not chosen
	CircuitHalfOpen Circuit = C.GRATE_CIRCUIT_HALF_OPEN // the cooldown is over, one lease at a time may try it
	CircuitRamping  Circuit = C.GRATE_CIRCUIT_RAMPING   // recovering: twice as many leases after each success
)

var circuitNames = []string{
	CircuitClosed:   "closed",
	CircuitOpen:     "open",
	CircuitHalfOpen: "half_open",
	CircuitRamping:  "ramping",
}

// String is a name such as "half_open".
func (c Circuit) String() string { return nameOf(circuitNames, int32(c)) }

// LimitSource is where the limit in force comes from.
type LimitSource int32

// The sources.
const (
	LimitConfigured LimitSource = C.GRATE_LIMIT_CONFIGURED // it is the configured one
	LimitLearned    LimitSource = C.GRATE_LIMIT_LEARNED    // requests were refused while the books showed room
	LimitTold       LimitSource = C.GRATE_LIMIT_TOLD       // the provider told it in response headers
)

var limitSourceNames = []string{
	LimitConfigured: "configured",
	LimitLearned:    "learned",
	LimitTold:       "told",
}

// String is a name such as "learned".
func (s LimitSource) String() string { return nameOf(limitSourceNames, int32(s)) }

// nameOf is the number itself for one that a newer library may know.
func nameOf(names []string, value int32) string {
	if value < 0 || int(value) >= len(names) {
		return strconv.Itoa(int(value))
	}
	return names[value]
}

// duration reads nanoseconds of the library. What does not fit, above all GRATE_NEVER, never ends: 292 years do not.
func duration(ns C.uint64_t) time.Duration {
	if ns > math.MaxInt64 {
		return Never
	}
	return time.Duration(ns)
}

// nanoseconds is the opposite for what callers give: 0 is "not given", and a negative duration a true zero.
func nanoseconds(d time.Duration) C.uint64_t {
	if d < 0 {
		return C.GRATE_ZERO
	}
	return C.uint64_t(d)
}
