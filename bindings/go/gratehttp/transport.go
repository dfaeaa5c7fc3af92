// Package gratehttp sends HTTP requests to whichever metered upstream a grate.Engine chooses, and tells the engine what
// became of them.
//
//	client := &http.Client{Transport: &gratehttp.Transport{
//		Engine:    engine,
//		Upstreams: map[string]*url.URL{"primary": primary, "backup": backup},
//	}}
//	response, err := client.Get("http://chat/v1/answer") // the capability "chat"
package gratehttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	grate "github.com/libgrate/libgrate/bindings/go"
)

// Transport is an http.RoundTripper that routes each request to a provider of its capability. It may be used from any number
// of goroutines; its fields must not be changed once it is in use.
//
// Each attempt holds a lease. It is settled when the caller closes the body of the response, as net/http demands of every
// caller: with the status, the header, the latency until the header arrived, and what the caller said with [Amend]. So a
// concurrency slot is held while the answer streams. Refusals and failures are settled at once, and a body that is abandoned
// unclosed when it is garbage collected.
//
// A request goes to another provider, at most once to each, if it was refused (429, 503, 529) or could not be sent, and
// its body can be sent again (it has none, or GetBody is set). If there is no other, the caller gets that response or error.
// What was sent and got no answer is not sent again.
//
// A redirect is followed where it leads. Below the base URL of a provider it is prepared and counted as a request to
// that provider, without a lease; elsewhere Base sends it as it is.
type Transport struct {
	// Engine decides. Required.
	Engine *grate.Engine
	// Upstreams are the base URLs of the engine's providers, by name; path and query of a request are appended. Required.
	Upstreams map[string]*url.URL
	// Capability names the capability of a request. Nil: the host of its URL.
	Capability func(*http.Request) string
	// Estimate is what a request will use. Nil: not given.
	Estimate func(*http.Request) grate.Request
	// Prepare changes a request for its provider: the key, the name of the model. Nil: nothing. It gets a copy; if it changes
	// the body, then also GetBody and ContentLength. If it fails, nothing is sent, and RoundTrip returns its error.
	Prepare func(request *http.Request, provider string) error
	// MaxWait is how long a request may wait, in all, while no provider is available; negative: as long as its context
	// lasts. 0: not at all, it fails with *grate.NoAvailableProvidersError.
	MaxWait time.Duration
	// Base sends the requests. Nil: http.DefaultTransport.
	Base http.RoundTripper
}

// RoundTrip implements http.RoundTripper. Errors: those of Engine.AcquireWait, of Prepare and of Base.
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Response != nil { // http.Client says so when it follows a redirect
		return t.follow(request)
	}
	estimate, patience := t.estimate(request), t.MaxWait
	lease, err := t.acquire(request, estimate, &patience)
	if err != nil {
		return nil, unsent(request, err)
	}
	for body := request.Body; ; {
		a := newAttempt(lease.Provider, lease.Complete, lease.Cancel)
		response, err := t.attempt(a, request, body)
		if !a.again {
			return response, err
		}
		// The caller gets this answer if there is nobody else to ask.
		estimate.Exclude = append(estimate.Exclude, a.provider)
		var failed error
		if body, failed = replay(request); failed != nil {
			return response, err
		}
		if lease, failed = t.acquire(request, estimate, &patience); failed != nil {
			closeBody(body)
			return response, err
		}
		if response != nil {
			go discard(response) // nobody waits for it
		}
	}
}

// estimate is one whose list of providers to exclude may be appended to.
func (t *Transport) estimate(request *http.Request) grate.Request {
	if t.Estimate == nil {
		return grate.Request{}
	}
	estimate := t.Estimate(request)
	estimate.Exclude = append([]string(nil), estimate.Exclude...)
	return estimate
}

// acquire waits as long as there is patience, and takes from it what it has waited.
func (t *Transport) acquire(request *http.Request, estimate grate.Request, patience *time.Duration) (*grate.Lease, error) {
	capability := request.URL.Host
	if t.Capability != nil {
		capability = t.Capability(request)
	}
	ctx := request.Context()
	lease, err := t.Engine.Acquire(ctx, capability, estimate)
	if *patience == 0 || !errors.Is(err, grate.ErrNoAvailableProviders) {
		return lease, err
	}
	if *patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *patience)
		defer cancel()
		started := time.Now()
		defer func() { *patience = max(0, *patience-time.Since(started)) }()
	}
	return t.Engine.AcquireWait(ctx, capability, estimate)
}

// attempt sends the request to the provider that was chosen.
func (t *Transport) attempt(a *attempt, request *http.Request, body io.ReadCloser) (*http.Response, error) {
	out := request.Clone(a.context(request.Context()))
	out.Body = body
	base := t.Upstreams[a.provider]
	if base == nil {
		a.settle()
		return nil, unsent(out, fmt.Errorf("gratehttp: no upstream for the provider %q", a.provider))
	}
	(&httputil.ProxyRequest{Out: out}).SetURL(base)
	return t.send(a, out)
}

// follow sends a redirected request. It stays with the provider that redirected it, so there is nothing to choose.
func (t *Transport) follow(request *http.Request) (*http.Response, error) {
	provider := t.providerOf(request)
	if provider == "" {
		return t.base().RoundTrip(request)
	}
	a := newAttempt(provider,
		func(response grate.Response) error { return t.Engine.Observe(provider, response) },
		func() error { return nil })
	return t.send(a, request.Clone(a.context(request.Context())))
}

// send settles the attempt, or leaves that to the body of the response.
func (t *Transport) send(a *attempt, out *http.Request) (*http.Response, error) {
	panicking := true
	defer func() {
		if panicking {
			a.settle()
		}
	}()
	response, err := t.exchange(a, out)
	panicking = false
	if err != nil {
		a.settle()
		return nil, err
	}
	// The body that net/http made may refer to its response. That must not get the body that settles: the two would refer to
	// each other, and what does is not finalized. Trailers that come later are to be seen in both.
	if response.Trailer == nil {
		response.Trailer = http.Header{}
	}
	own := *response
	a.answered(&own)
	return &own, nil
}

func (t *Transport) exchange(a *attempt, out *http.Request) (*http.Response, error) {
	if t.Prepare != nil {
		if err := t.Prepare(out, a.provider); err != nil {
			return nil, unsent(out, err)
		}
	}
	if err := out.Context().Err(); err != nil {
		return nil, unsent(out, err)
	}
	if out.Body != nil && out.Body != http.NoBody {
		out.Body = &watched{ReadCloser: out.Body, failed: func(error) { a.torn.Store(true) }}
	}
	if _, ok := t.base().(*http.Transport); ok {
		a.stage.Store(checked)
	}
	a.request = out
	a.report = grate.Response{Outcome: grate.OutcomeCancelled} // from here on it may have been sent
	started := time.Now()
	response, err := t.base().RoundTrip(out)
	a.report.Latency = max(1, time.Since(started)) // 0 would be "not given"
	if err != nil {
		a.fail(err)
		return nil, err
	}
	if response.Body == nil {
		response.Body = http.NoBody
	}
	response.Request = out
	// The caller knows the URL that it asked for; a redirect is relative to the one that was sent.
	if location, err := response.Location(); err == nil {
		response.Header.Set("Location", location.String())
	}
	return response, nil
}

// CloseIdleConnections does so in Base, if it can: for http.Client, which has a method of that name.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}

// providerOf is the provider below whose base URL a redirected request goes, or "". Several may have one base URL, with a key
// each: then it is the one that redirected.
func (t *Transport) providerOf(request *http.Request) string {
	if a := attemptOf(request.Response); a != nil && below(request.URL, t.Upstreams[a.provider]) {
		return a.provider
	}
	for provider, base := range t.Upstreams {
		if below(request.URL, base) {
			return provider
		}
	}
	return ""
}

func below(u, base *url.URL) bool {
	if base == nil || u.Scheme != base.Scheme || !strings.EqualFold(u.Hostname(), base.Hostname()) || port(u) != port(base) {
		return false
	}
	path := strings.TrimSuffix(base.Path, "/")
	return u.Path == path || strings.HasPrefix(u.Path, path+"/")
}

func port(u *url.URL) string {
	if u.Port() == "" {
		return map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Port()
}

// replay is the body once more.
func replay(request *http.Request) (io.ReadCloser, error) {
	if request.Body == nil || request.Body == http.NoBody {
		return request.Body, nil
	}
	if request.GetBody == nil {
		return nil, fmt.Errorf("gratehttp: the body can be read only once")
	}
	return request.GetBody()
}

// unsent is for a request that fails before it gets to Base: whose body it is then to close.
func unsent(request *http.Request, err error) error {
	closeBody(request.Body)
	return err
}

func closeBody(body io.ReadCloser) {
	if body != nil {
		body.Close()
	}
}

// discard drops a response. A short one is read, so that its connection can be used again, unless it takes long.
func discard(response *http.Response) {
	const short, long = 2 << 10, time.Second
	if response.ContentLength >= 0 && response.ContentLength <= short {
		defer time.AfterFunc(long, func() { response.Body.Close() }).Stop()
		io.CopyN(io.Discard, response.Body, short)
	}
	response.Body.Close()
}
