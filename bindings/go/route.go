package grate

// #include <stdlib.h>
// #include "native.h"
import "C"

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"
)

// maxCandidates are in an explained decision; the best ones if a capability has more.
const maxCandidates = 1024

// Request is what a request will use and demands. The zero value is one request of unknown size. An estimate of 0 is "not
// given": what requests of this capability used on the provider before stands for it; Zero is a true zero.
type Request struct {
	// Tokens, input and output together. If not given, but one of the next two is, their sum.
	Tokens       uint64
	InputTokens  uint64
	OutputTokens uint64
	Bytes        uint64
	// CostMicroUSD is the cost in millionths of a US dollar.
	CostMicroUSD uint64
	// Headroom is the share of every quota that must stay free after this request, at least 0 and below 1: batch work with
	// 0.3 leaves 30 %.
	Headroom float64
	// Exclude names providers that must not be chosen, such as the one that just failed; at most 64.
	Exclude []string
	// Explain fills Decision.Candidates, for logs and dashboards: it costs an allocation and some time per provider.
	Explain bool
}

// Breakdown has the components of a score, each from 0 to 1. The score is their sum, weighted.
type Breakdown struct {
	Quota    float64 // how well off the tightest quota will be at the forecast horizon; 1 while a quarter of it will be left
	Health   float64
	Priority float64 // relative to the highest of the capability, times the weight
	Latency  float64 // the lowest latency of the capability, relative to this one's
}

// Candidate is one provider of the capability, as a decision saw it.
type Candidate struct {
	// Provider is its name.
	Provider string
	// Score is the weighted sum of the Breakdown, from 0 to 1; also computed for providers that are held.
	Score     float64
	Breakdown Breakdown
	// SecondsToExhaustion of the first quota if the present burn goes on; infinity if none will be spent.
	SecondsToExhaustion float64
	// HeldBy is HeldByNothing, or what holds the provider longest.
	HeldBy HeldBy
	// RetryAfter is the time until it can take this request: 0 if it can now, Never if waiting does not help. Exact for
	// cooldown, health and quotas; for concurrency and probes the expected end of the oldest lease.
	RetryAfter time.Duration
	// HeldDimension of the quota, with HeldByQuota and HeldByConcurrency; else 0.
	HeldDimension Dimension
	// HeldWindow of the quota, with HeldByQuota; else 0.
	HeldWindow time.Duration
	// Index is its place in the capability's list, from 0.
	Index int
}

// Decision is the provider that was chosen, and why; or, in a NoAvailableProvidersError, the one that frees first ("" if the
// capability has none).
type Decision struct {
	Candidate
	// Candidates are all providers of the capability if Request.Explain was set: those that can be chosen, best first, then
	// those that are held, soonest free first. At most 1024.
	Candidates []Candidate
}

// Lease is the reservation of one request on the provider that was chosen. Settle it once, with Complete or Cancel; one that
// never is expires (Settings.LeaseTTL): its slot is freed, its usage stays counted.
//
// "defer lease.Cancel()" is fine for what may return before the request is sent: it does nothing after Complete.
type Lease struct {
	Decision
	engine  *Engine
	id      uint64
	settled atomic.Bool
}

// ID is the number for [Engine.Complete] and [Engine.Cancel], where the lease itself is not at hand.
func (l *Lease) ID() uint64 {
	return l.id
}

// Select chooses a provider and changes nothing: a look, not a promise. Concurrent callers may get the same answer; to
// reserve, use Acquire.
//
// Errors: *NoAvailableProvidersError, ErrUnknownCapability, ErrInvalidName, ErrInvalidArgument.
func (e *Engine) Select(capability string, request Request) (Decision, error) {
	var d Decision
	_, err := e.route(capability, &request, false, &d)
	return d, err
}

// Acquire chooses a provider and reserves one request, the estimated usage and a concurrency slot on all its quotas, all or
// nothing. It does not wait: ctx is only looked at, and its error returned if it is done.
//
// Errors: those of Select, and ErrCapacity if there are too many leases in flight.
func (e *Engine) Acquire(ctx context.Context, capability string, request Request) (*Lease, error) {
	// So short that it is inlined: a lease that does not leave its caller is then not allocated.
	return e.acquire(ctx, capability, &request, new(Lease))
}

func (e *Engine) acquire(ctx context.Context, capability string, request *Request, l *Lease) (*Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id, err := e.route(capability, request, true, &l.Decision)
	if err != nil {
		return nil, err
	}
	l.engine, l.id = e, id
	return l, nil
}

const (
	// shortestNap keeps waiters from spinning. After longestNap they look again, however long the wait: leases end when they
	// end, on the provider that frees first or on another, and give back what they did not use.
	shortestNap = time.Millisecond
	longestNap  = 50 * time.Millisecond
)

// AcquireWait is Acquire that waits while no provider is available, and tries again when one frees. There is no order among
// those who wait. It sleeps in real time, also with a mock clock.
//
// It returns the *NoAvailableProvidersError at once if waiting does not help, or not before the deadline of ctx; and
// one that is both that error and ctx.Err() if ctx ends while it waits.
func (e *Engine) AcquireWait(ctx context.Context, capability string, request Request) (*Lease, error) {
	var timer *time.Timer
	for {
		l, err := e.Acquire(ctx, capability, request)
		none, ok := err.(*NoAvailableProvidersError)
		if !ok {
			return l, err
		}
		wait, ends := none.Wait()
		if !ends {
			return nil, err
		}
		guessed := none.HeldBy == HeldByConcurrency || none.HeldBy == HeldByProbe
		if deadline, ok := ctx.Deadline(); ok && !guessed && time.Until(deadline) < wait {
			return nil, err
		}
		nap := max(shortestNap, min(wait, longestNap))
		if timer == nil {
			timer = time.NewTimer(nap)
			defer timer.Stop()
		} else {
			timer.Reset(nap)
		}
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// route fills d and returns the lease.
func (e *Engine) route(capability string, request *Request, acquire bool, d *Decision) (uint64, error) {
	c := newCall()
	c.named(capability)
	c.setRequest(request)
	if request.Explain {
		c.m.decision.candidates = (*C.grate_candidate)(C.malloc(maxCandidates * C.sizeof_grate_candidate))
		C.grate_candidate_init(c.m.decision.candidates, C.sizeof_grate_candidate)
		c.m.decision.candidates_capacity = maxCandidates
	}
	var lease uint64
	err := ErrClosed
	if e.enter() {
		if acquire {
			C.grate_go_acquire(e.address(), c.address())
		} else {
			C.grate_go_select(e.address(), c.address())
		}
		switch c.m.error.code {
		case C.GRATE_OK:
			err = nil
			e.read(c, d)
			lease = uint64(c.m.decision.lease)
		case C.GRATE_ERR_NO_PROVIDER_AVAILABLE:
			none := new(NoAvailableProvidersError)
			e.read(c, &none.Decision)
			err = none
		default:
			err = c.failure(c.m.error.code)
		}
		e.leave()
	}
	if request.Explain {
		C.free(unsafe.Pointer(c.m.decision.candidates))
		c.m.decision.candidates, c.m.decision.candidates_capacity = nil, 0
	}
	c.release()
	return lease, err
}

// read copies a decision while its names are valid.
func (e *Engine) read(c *call, to *Decision) {
	from := &c.m.decision
	// One by one: a Candidate that is made first and copied then takes longer.
	to.Provider = e.name(from.provider)
	to.Score = float64(from.score)
	to.Breakdown.Quota = float64(from.quota_score)
	to.Breakdown.Health = float64(from.health_score)
	to.Breakdown.Priority = float64(from.priority_score)
	to.Breakdown.Latency = float64(from.latency_score)
	to.SecondsToExhaustion = float64(from.seconds_to_exhaustion)
	to.HeldBy = HeldBy(from.held_by)
	to.RetryAfter = duration(from.retry_after_ns)
	to.HeldDimension = Dimension(from.held_dimension)
	to.HeldWindow = duration(from.held_window_ns)
	to.Index = int(from.index)
	if from.candidates == nil {
		return
	}
	rows := unsafe.Slice(from.candidates, from.candidates_len)
	to.Candidates = make([]Candidate, len(rows))
	for i := range rows {
		row := &rows[i]
		to.Candidates[i] = Candidate{
			Provider: e.name(row.provider),
			Score:    float64(row.score),
			Breakdown: Breakdown{
				Quota:    float64(row.quota_score),
				Health:   float64(row.health_score),
				Priority: float64(row.priority_score),
				Latency:  float64(row.latency_score),
			},
			SecondsToExhaustion: float64(row.seconds_to_exhaustion),
			HeldBy:              HeldBy(row.held_by),
			RetryAfter:          duration(row.retry_after_ns),
			HeldDimension:       Dimension(row.held_dimension),
			HeldWindow:          duration(row.held_window_ns),
			Index:               int(row.index),
		}
	}
}
