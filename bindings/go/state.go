package grate

// #include "native.h"
import "C"

import (
	"time"
	"unsafe"
)

// Counters are what happened to a provider, or on an engine, since it was made.
type Counters struct {
	Selects              uint64 // calls of Select that chose it
	Acquires             uint64 // leases granted
	Completions          uint64 // leases settled by Complete
	Cancellations        uint64 // leases given back by Cancel
	ExpiredLeases        uint64 // leases that expired unsettled
	Observations         uint64 // calls of Observe
	CooldownsTriggered   uint64 // cooldowns started
	RateLimitedResponses uint64 // outcomes RateLimited and QuotaExhausted: the number this library exists to keep at 0
	LeasesInFlight       uint64 // leases in flight now
}

// Metrics are the counters of an engine.
type Metrics struct {
	Counters
	NoneAvailable uint64 // calls of Select and Acquire that found no provider available
	CappedWaits   uint64 // waits told by providers that were longer than Settings.MaxRetryAfter, and cut
}

// ProviderState is a provider, as it stands.
type ProviderState struct {
	Counters
	Circuit             Circuit
	Health              float64       // from 0 to 1
	CooldownRemaining   time.Duration // 0 if there is no cooldown
	Latency             time.Duration // average; 0 if unknown
	ConsecutiveFailures uint32        // failures since the last success
	Quotas              []QuotaState
}

// QuotaState is a quota, as it stands.
type QuotaState struct {
	Dimension           Dimension
	Strategy            Strategy
	Limit               uint64        // as configured; Unlimited if nobody did, but one was learned
	Window              time.Duration // 0 for concurrency
	Used                uint64        // units counted now: in the window, missing from the bucket, or in flight
	Remaining           uint64        // units that may be reserved now
	PredictedShare      float64       // of the limit, that will be left at the forecast horizon
	BurnPerSec          float64       // units per second
	SecondsToExhaustion float64       // if the present burn goes on; infinity if it will not be spent
	Pool                string        // "" if it is the provider's own
	EffectiveLimit      uint64        // the limit in force
	Margin              uint64        // units kept free of others who share the quota
	LimitSource         LimitSource   // why the limit in force is what it is
}

// ProviderHealth is the provider's health now, from 0 to 1. Errors: ErrUnknownProvider, ErrInvalidName.
func (e *Engine) ProviderHealth(provider string) (float64, error) {
	c, err := e.begin()
	if err != nil {
		return 0, err
	}
	defer e.end(c)
	out := result[C.double](c)
	if err := c.failure(C.grate_engine_provider_health(e.pointer, c.named(provider), out, &c.m.error)); err != nil {
		return 0, err
	}
	return float64(*out), nil
}

// ProviderInCooldown tells whether the provider is cooling down now. Errors: ErrUnknownProvider, ErrInvalidName.
func (e *Engine) ProviderInCooldown(provider string) (bool, error) {
	c, err := e.begin()
	if err != nil {
		return false, err
	}
	defer e.end(c)
	out := result[C.int32_t](c)
	if err := c.failure(C.grate_engine_provider_in_cooldown(e.pointer, c.named(provider), out, &c.m.error)); err != nil {
		return false, err
	}
	return *out != 0, nil
}

// RemainingQuota is how many units may be reserved now: the least over the provider's quotas of that dimension, Unlimited if
// it has none. Errors: ErrUnknownProvider, ErrInvalidName, ErrInvalidArgument for an unknown dimension.
func (e *Engine) RemainingQuota(provider string, dimension Dimension) (uint64, error) {
	c, err := e.begin()
	if err != nil {
		return 0, err
	}
	defer e.end(c)
	out := result[C.uint64_t](c)
	status := C.grate_engine_remaining_quota(e.pointer, c.named(provider), C.int32_t(dimension), out, &c.m.error)
	if err := c.failure(status); err != nil {
		return 0, err
	}
	return uint64(*out), nil
}

// ProviderState is all that is known of a provider and of its quotas. Errors: ErrUnknownProvider, ErrInvalidName.
func (e *Engine) ProviderState(provider string) (ProviderState, error) {
	c, err := e.begin()
	if err != nil {
		return ProviderState{}, err
	}
	defer e.end(c)
	var s C.grate_provider_state
	C.grate_provider_state_init(&s, C.sizeof_grate_provider_state)
	// Once to learn how many quotas there are, and again if they became more meanwhile.
	for {
		err := c.failure(C.grate_engine_provider_state(e.pointer, c.named(provider), &s, &c.m.error))
		if err != nil {
			return ProviderState{}, err
		}
		if s.quotas_total <= s.quotas_capacity {
			break
		}
		s.quotas = (*C.grate_quota_state)(c.reserve(int(s.quotas_total) * C.sizeof_grate_quota_state))
		C.grate_quota_state_init(s.quotas, C.sizeof_grate_quota_state)
		s.quotas_capacity = s.quotas_total
	}
	state := ProviderState{
		Counters: Counters{
			Selects:              uint64(s.selects),
			Acquires:             uint64(s.acquires),
			Completions:          uint64(s.completions),
			Cancellations:        uint64(s.cancellations),
			ExpiredLeases:        uint64(s.expired_leases),
			Observations:         uint64(s.observations),
			CooldownsTriggered:   uint64(s.cooldowns_triggered),
			RateLimitedResponses: uint64(s.rate_limited_responses),
			LeasesInFlight:       uint64(s.leases_in_flight),
		},
		Circuit:             Circuit(s.circuit),
		Health:              float64(s.health),
		CooldownRemaining:   duration(s.cooldown_remaining_ns),
		Latency:             duration(s.latency_ns),
		ConsecutiveFailures: uint32(s.consecutive_failures),
	}
	for _, q := range unsafe.Slice(s.quotas, s.quotas_len) {
		state.Quotas = append(state.Quotas, QuotaState{
			Dimension:           Dimension(q.dimension),
			Strategy:            Strategy(q.strategy),
			Limit:               uint64(q.limit),
			Window:              duration(q.window_ns),
			Used:                uint64(q.used),
			Remaining:           uint64(q.remaining),
			PredictedShare:      float64(q.predicted_share),
			BurnPerSec:          float64(q.burn_per_sec),
			SecondsToExhaustion: float64(q.seconds_to_exhaustion),
			Pool:                e.name(q.pool),
			EffectiveLimit:      uint64(q.effective_limit),
			Margin:              uint64(q.margin),
			LimitSource:         LimitSource(q.limit_source),
		})
	}
	return state, nil
}

// Metrics are the engine's counters; those that change meanwhile may be from slightly different moments.
func (e *Engine) Metrics() (Metrics, error) {
	c, err := e.begin()
	if err != nil {
		return Metrics{}, err
	}
	defer e.end(c)
	m := result[C.grate_metrics](c)
	C.grate_metrics_init(m, C.sizeof_grate_metrics)
	if err := c.failure(C.grate_engine_metrics(e.pointer, m, &c.m.error)); err != nil {
		return Metrics{}, err
	}
	return Metrics{
		Counters: Counters{
			Selects:              uint64(m.selects),
			Acquires:             uint64(m.acquires),
			Completions:          uint64(m.completions),
			Cancellations:        uint64(m.cancellations),
			ExpiredLeases:        uint64(m.expired_leases),
			Observations:         uint64(m.observations),
			CooldownsTriggered:   uint64(m.cooldowns_triggered),
			RateLimitedResponses: uint64(m.rate_limited_responses),
			LeasesInFlight:       uint64(m.leases_in_flight),
		},
		NoneAvailable: uint64(m.none_available),
		CappedWaits:   uint64(m.capped_waits),
	}, nil
}

// Prometheus is all metrics in the Prometheus text format, engine-wide and per provider.
func (e *Engine) Prometheus() (string, error) {
	c, err := e.begin()
	if err != nil {
		return "", err
	}
	defer e.end(c)
	for size := C.uint64_t(8 << 10); ; {
		buffer := c.reserve(int(size))
		var length C.uint64_t
		status := C.grate_engine_prometheus(e.pointer, (*C.char)(buffer), size, &length, &c.m.error)
		if status != C.GRATE_ERR_BUFFER_TOO_SMALL {
			return string(unsafe.Slice((*byte)(buffer), length)), c.failure(status)
		}
		size = length + 1
	}
}
