package gratehttp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	grate "github.com/libgrate/libgrate/bindings/go"
)

// attempt is one request to one provider, and what is to be told of it.
type attempt struct {
	provider string
	request  *http.Request // as it is sent
	complete func(grate.Response) error
	cancel   func() error
	again    bool         // the provider refused, or was never reached: another may be asked
	stage    atomic.Int32 // set by the transport that sends the request, on goroutines of its own
	torn     atomic.Bool  // by it, too: the body of the request could not be read

	mu      sync.Mutex // guards what the caller may touch in several goroutines: the response
	report  grate.Response
	settled bool
}

// The stages of an attempt on its way to a connection.
const (
	connected = iota // or with a transport that does not tell
	waiting          // for one to become free, perhaps: there may be as many as the transport may have
	dialing
	checked // by net/http, which tells what comes next, and sends nothing that is malformed
)

type attemptKey struct{}

// newAttempt is one that was not sent yet.
func newAttempt(provider string, complete func(grate.Response) error, cancel func() error) *attempt {
	return &attempt{provider: provider, complete: complete, cancel: cancel, report: unused(grate.OutcomeCancelled)}
}

// unused is the report of a request that was not sent: there is nothing that the provider could count.
func unused(outcome grate.Outcome) grate.Response {
	return grate.Response{
		Outcome:      outcome,
		Requests:     grate.Zero,
		Tokens:       grate.Zero,
		InputTokens:  grate.Zero,
		OutputTokens: grate.Zero,
		Bytes:        grate.Zero,
		CostMicroUSD: grate.Zero,
	}
}

// context lets Amend find the attempt, and watches whether there is a connection. A transport asks again for one if it
// could not send the request on the last. It may begin to dial when another one has become free.
func (a *attempt) context(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, attemptKey{}, a)
	dial := func() { a.stage.CompareAndSwap(waiting, dialing) }
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { a.stage.Store(waiting) },
		DNSStart:     func(httptrace.DNSStartInfo) { dial() },
		ConnectStart: func(string, string) { dial() },
		GotConn:      func(httptrace.GotConnInfo) { a.stage.Store(connected) },
	})
}

// fail notes an error of the request, or of reading the response.
func (a *attempt) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	outcome, stage := a.outcome(err), a.stage.Load()
	var operation *net.OpError
	if errors.As(err, &operation) && operation.Op == "dial" {
		stage = dialing
	}
	if stage == connected {
		a.report.Outcome = outcome
		return
	}
	if stage == checked || stage == waiting && outcome == grate.OutcomeTimeout {
		outcome = grate.OutcomeCancelled // the caller's own mistake, or in its own queue: the provider was not asked
	}
	a.report = unused(outcome) // if the provider was asked, its health suffers nevertheless
	a.again = stage != checked
}

// outcome is what an error of the request says, unless the caller's own body or context is behind it: that may have ended with
// whatever cause. Client.Timeout ends a request in two ways at once, and one of them, the channel Cancel, does not tell why.
func (a *attempt) outcome(err error) grate.Outcome {
	err = errors.Join(a.request.Context().Err(), err)
	var timeout net.Error
	if a.torn.Load() || errors.Is(err, context.Canceled) {
		return grate.OutcomeCancelled
	}
	if errors.As(err, &timeout) && timeout.Timeout() {
		return grate.OutcomeTimeout
	}
	select {
	case <-a.request.Cancel:
		if deadline, ok := a.request.Context().Deadline(); ok && !time.Now().Before(deadline) {
			return grate.OutcomeTimeout
		}
		return grate.OutcomeCancelled
	default:
		return grate.OutcomeServerError
	}
}

// answered notes the header of a response, which the caller may change. A refusal is settled at once, all else with the body.
func (a *attempt) answered(response *http.Response) {
	a.stage.Store(connected)
	a.report.Outcome, a.report.HTTPStatus, a.report.Header = 0, response.StatusCode, response.Header.Clone()
	switch response.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, statusOverloaded:
		a.again = true
		a.settle()
	case http.StatusSwitchingProtocols:
		a.settle() // the body is a connection from now on
	default:
		b := &body{watched: watched{ReadCloser: response.Body, failed: a.fail}, attempt: a}
		runtime.SetFinalizer(b, func(b *body) { go b.Close() })
		response.Body = b
	}
}

const statusOverloaded = 529

// settle tells the engine, once. What was given up unsent is given back.
func (a *attempt) settle() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.settled {
		return
	}
	a.settled = true
	if a.unsent() {
		a.cancel()
		return
	}
	// If the report is invalid, by what Amend set or a status below 100, its usage still counts. Other errors, that the
	// lease has expired or the engine was closed, leave nothing to settle.
	if err := a.complete(a.report); errors.Is(err, grate.ErrInvalidArgument) {
		a.complete(grate.Response{Outcome: grate.OutcomeCancelled})
	}
}

// unsent: given up by the caller, or failed here, before it was sent.
func (a *attempt) unsent() bool {
	return a.report.Outcome == grate.OutcomeCancelled && a.report.Requests == grate.Zero
}

// watched is a body whose errors are noted, but for those of reading it while or after it is closed: these say nothing.
type watched struct {
	io.ReadCloser
	failed func(error)
	closed atomic.Bool
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && err != io.EOF && !w.closed.Load() {
		w.failed(err)
	}
	return n, err
}

func (w *watched) Close() error {
	w.closed.Store(true)
	return w.ReadCloser.Close()
}

// body is that of a response, and settles the attempt when it is closed.
type body struct {
	watched
	attempt *attempt
}

func (b *body) Close() error {
	runtime.SetFinalizer(b, nil)
	err := b.watched.Close()
	b.attempt.settle()
	return err
}

// Amend changes what the engine will be told of a response when its body is closed: the tokens that the answer says it used,
// or another outcome than the status has. It reports whether it did: not if response did not come from a Transport, or
// is settled already. The body is to be read before: change must neither read nor close it, which would wait for its own end.
//
//	gratehttp.Amend(response, func(r *grate.Response) { r.Tokens = answer.Usage.TotalTokens })
func Amend(response *http.Response, change func(*grate.Response)) bool {
	a := attemptOf(response)
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.settled {
		return false
	}
	change(&a.report)
	return true
}

// attemptOf is the attempt that a response came from, or nil.
func attemptOf(response *http.Response) *attempt {
	if response == nil || response.Request == nil {
		return nil
	}
	a, _ := response.Request.Context().Value(attemptKey{}).(*attempt)
	return a
}
