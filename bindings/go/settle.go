package grate

// #include "native.h"
import "C"

import "time"

// Response is what became of a request. Outcome or HTTPStatus is required.
type Response struct {
	// Outcome; 0: derived from HTTPStatus.
	Outcome Outcome
	// HTTPStatus as it came, at least 100. Only used if Outcome is 0.
	HTTPStatus int
	// Latency from sending to the end of the answer. 0: since Acquire (unknown for Observe); negative: none at all.
	Latency time.Duration
	// RetryAfter is how long the provider says to stay away, if that is known from elsewhere than Header. 0: it did not
	// say; negative: not at all. Without effect on a success, client error or cancelled request.
	RetryAfter time.Duration
	// Requests used. 0 is 1; Zero is none.
	Requests uint64
	// Tokens used, input and output together. 0: as estimated (none, of a request that was refused); Zero: none. The same for
	// the fields below; if only input and output are given, this is their sum.
	Tokens       uint64
	InputTokens  uint64
	OutputTokens uint64
	Bytes        uint64
	// CostMicroUSD is the cost in millionths of a US dollar.
	CostMicroUSD uint64
	// Header of the response, an http.Header. Rate-limit fields in it correct what the engine knows of the provider.
	Header map[string][]string
}

// Complete settles a lease whose request was sent: it frees its slot, corrects the estimate to the actual usage, and learns
// from the outcome.
//
// Errors: ErrStaleLease if it was settled before or has expired, ErrInvalidArgument (then it is not settled).
func (l *Lease) Complete(response Response) error {
	if l.settled.Load() || l.engine == nil {
		return errSettled
	}
	return l.done(l.engine.complete(l.id, &response))
}

// Cancel gives a lease back whose request was not sent: its slot and all it reserved. Errors: ErrStaleLease.
func (l *Lease) Cancel() error {
	if l.settled.Load() || l.engine == nil {
		return errSettled
	}
	return l.done(l.engine.Cancel(l.id))
}

// errSettled spares a deferred Cancel the call.
var errSettled error = &Error{Code: ErrStaleLease, Message: "this lease was settled already"}

func (l *Lease) done(err error) error {
	if err == nil {
		l.settled.Store(true)
	}
	return err
}

// Complete settles a lease by its number, as Lease.Complete does.
func (e *Engine) Complete(lease uint64, response Response) error {
	return e.complete(lease, &response)
}

func (e *Engine) complete(lease uint64, response *Response) error {
	c := newCall()
	c.setResponse(response)
	err := ErrClosed
	if e.enter() {
		C.grate_go_complete(e.address(), C.uint64_t(lease), c.address())
		err = c.failure(c.m.error.code)
		e.leave()
	}
	c.release()
	return err
}

// Cancel gives a lease back by its number, as Lease.Cancel does.
func (e *Engine) Cancel(lease uint64) error {
	c, err := e.begin()
	if err != nil {
		return err
	}
	defer e.end(c)
	C.grate_go_cancel(e.address(), C.uint64_t(lease), c.address())
	return c.failure(c.m.error.code)
}

// Observe reports usage and outcome of a request that was sent without a lease. Concurrency, which only leases hold, is
// untouched. The usage counts even beyond a limit. Errors: ErrUnknownProvider, ErrInvalidName, ErrInvalidArgument.
func (e *Engine) Observe(provider string, response Response) error {
	c, err := e.begin()
	if err != nil {
		return err
	}
	defer e.end(c)
	c.named(provider)
	c.setResponse(&response)
	C.grate_go_observe(e.address(), c.address())
	return c.failure(c.m.error.code)
}
