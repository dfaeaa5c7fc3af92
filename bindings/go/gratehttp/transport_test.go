package gratehttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	grate "github.com/libgrate/libgrate/bindings/go"
	"github.com/libgrate/libgrate/bindings/go/gratehttp"
)

const limit = 100 // of requests, tokens and slots of each provider in these tests

func newEngine(t *testing.T, config grate.Config) *grate.Engine {
	t.Helper()
	engine, err := grate.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	return engine
}

// newTransport serves "api" by these URLs, the first with the highest priority; they are called a, b and so on.
func newTransport(t *testing.T, urls ...string) *gratehttp.Transport {
	t.Helper()
	transport := &gratehttp.Transport{
		Upstreams: map[string]*url.URL{},
		Estimate:  func(*http.Request) grate.Request { return grate.Request{Tokens: 10} },
	}
	api := grate.Capability{Name: "api"}
	var config grate.Config
	for i, text := range urls {
		name := string(rune('a' + i))
		transport.Upstreams[name] = base(t, text)
		config.Providers = append(config.Providers, grate.Provider{Name: name, Priority: uint32(10 - i), Quotas: []grate.Quota{
			{Dimension: grate.DimensionRequests, Limit: limit, Window: time.Hour},
			{Dimension: grate.DimensionTokens, Limit: limit, Window: time.Hour},
			{Dimension: grate.DimensionConcurrency, Limit: limit},
		}})
		api.Providers = append(api.Providers, grate.CapabilityProvider{Provider: name})
	}
	config.Capabilities = []grate.Capability{api}
	transport.Engine = newEngine(t, config)
	t.Cleanup(func() { equal(t, "in flight at the end", 0, metrics(t, transport.Engine).LeasesInFlight) })
	return transport
}

// serve is a server whose answers name it and the request.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

func echo(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(status)
		fmt.Fprintf(w, "%d %s %s %s %s", status, r.Method, r.URL, r.Header.Get("Authorization"), body)
	}
}

// closedPort is the URL of a port at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return "http://" + listener.Addr().String()
}

func metrics(t *testing.T, engine *grate.Engine) grate.Metrics {
	t.Helper()
	m, err := engine.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func provider(t *testing.T, engine *grate.Engine, name string) grate.ProviderState {
	t.Helper()
	state, err := engine.ProviderState(name)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// used is what is counted against a provider: requests, tokens and slots.
func used(t *testing.T, engine *grate.Engine, name string) string {
	t.Helper()
	byDimension := map[grate.Dimension]uint64{}
	for _, q := range provider(t, engine, name).Quotas {
		byDimension[q.Dimension] = q.Used
	}
	return fmt.Sprint(byDimension[grate.DimensionRequests], byDimension[grate.DimensionTokens], byDimension[grate.DimensionConcurrency])
}

func equal[T comparable](t *testing.T, what string, want, got T) {
	t.Helper()
	if want != got {
		t.Errorf("%s: want %v, got %v", what, want, got)
	}
}

func get(t *testing.T, transport *gratehttp.Transport, path string) string {
	t.Helper()
	client := &http.Client{Transport: transport}
	return read(t)(client.Get("http://api" + path))
}

func read(t *testing.T) func(*http.Response, error) string {
	return func(response *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Error(err)
		}
		return string(body)
	}
}

func TestRoute(t *testing.T) {
	transport := newTransport(t, serve(t, echo(200))+"/base/")
	equal(t, "answer", "200 GET /base/v1/answer?q=1  ", get(t, transport, "/v1/answer?q=1"))
	equal(t, "used", "1 10 0", used(t, transport.Engine, "a"))

	transport.Capability = func(r *http.Request) string { return r.Header.Get("X-Capability") }
	transport.Prepare = func(r *http.Request, provider string) error {
		r.Header.Set("Authorization", "key of "+provider)
		return nil
	}
	request := httptest.NewRequest("GET", "http://elsewhere/x", nil)
	request.Header.Set("X-Capability", "api")
	equal(t, "answer", "200 GET /base/x key of a ", read(t)(transport.RoundTrip(request)))
	equal(t, "the request is as it was", "", request.Header.Get("Authorization"))
}

func TestASlotIsHeldUntilTheBodyIsClosed(t *testing.T) {
	transport := newTransport(t, serve(t, echo(200)))
	response, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Get("http://api/")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "used", "1 10 1", used(t, transport.Engine, "a"))
	equal(t, "amended", true, gratehttp.Amend(response, func(r *grate.Response) { r.Tokens = 7 }))
	response.Body.Close()
	response.Body.Close()
	equal(t, "used", "1 7 0", used(t, transport.Engine, "a"))
	equal(t, "amended too late", false, gratehttp.Amend(response, func(*grate.Response) { t.Error("called") }))
	if latency := provider(t, transport.Engine, "a").Latency; latency <= 0 || latency > time.Minute {
		t.Errorf("latency %v", latency)
	}
}

func TestAmend(t *testing.T) {
	transport := newTransport(t, serve(t, echo(200)))
	client := &http.Client{Transport: transport}
	for _, outcome := range []grate.Outcome{99, grate.OutcomeQuotaExhausted} { // invalid, and yet no lease stays behind
		response, err := client.Get("http://api/")
		if err != nil {
			t.Fatal(err)
		}
		gratehttp.Amend(response, func(r *grate.Response) { r.Outcome = outcome })
		response.Body.Close()
	}
	equal(t, "completions", 2, metrics(t, transport.Engine).Completions)
	equal(t, "refused", 1, metrics(t, transport.Engine).RateLimitedResponses)
	equal(t, "a response of nobody", false, gratehttp.Amend(&http.Response{}, nil))
	equal(t, "no response", false, gratehttp.Amend(nil, nil))
}

// A proxy hides from its own callers what is left of its quota.
func TestAHeaderThatTheCallerChanges(t *testing.T) {
	transport := newTransport(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-RateLimit-Remaining-Requests", "0")
		w.Header().Set("X-RateLimit-Reset-Requests", "1h")
	}))
	response, err := (&http.Client{Transport: transport}).Get("http://api/")
	if err != nil {
		t.Fatal(err)
	}
	clear(response.Header)
	response.Body.Close()
	remaining, err := transport.Engine.RemainingQuota("a", grate.DimensionRequests)
	equal(t, "error", nil, err)
	equal(t, "remaining", 0, remaining)
}

func TestRefusedRequestsGoElsewhere(t *testing.T) {
	for _, status := range []int{429, 503, 529} {
		transport := newTransport(t, serve(t, echo(status)), serve(t, echo(200)))
		client := &http.Client{Transport: transport}
		answer := read(t)(client.Post("http://api/p", "text/plain", strings.NewReader("body")))
		equal(t, "answer", "200 POST /p  body", answer)
		equal(t, "failures", 1, provider(t, transport.Engine, "a").ConsecutiveFailures)
		equal(t, "used", "1 10 0", used(t, transport.Engine, "b"))
	}
}

func TestARefusalWhoseBodyStalls(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	transport := newTransport(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "20")
		w.WriteHeader(429)
		w.(http.Flusher).Flush()
		<-hang
	}), serve(t, echo(200)))
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	equal(t, "answer", "200 GET /  ", read(t)(client.Get("http://api/")))
	equal(t, "failures", 0, provider(t, transport.Engine, "b").ConsecutiveFailures)
}

// The time that an upstream takes is no time that was waited for a provider.
func TestRefusedLate(t *testing.T) {
	transport := newTransport(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(30 * time.Millisecond)
		echo(503)(w, r)
	}), serve(t, echo(200)))
	transport.MaxWait = 10 * time.Millisecond
	equal(t, "answer", "200 GET /  ", get(t, transport, "/"))
}

func TestRefusedRequestsThatCannotBeSentAgain(t *testing.T) {
	transport := newTransport(t, serve(t, echo(503)), serve(t, echo(200)))
	client := &http.Client{Transport: transport}
	once := io.MultiReader(strings.NewReader("body")) // http.NewRequest does not know how to read this again
	equal(t, "answer", "503 POST /p  body", read(t)(client.Post("http://api/p", "text/plain", once)))
	equal(t, "attempts", 1, metrics(t, transport.Engine).Acquires)
}

func TestRefusedByEveryone(t *testing.T) {
	transport := newTransport(t, serve(t, echo(503)), serve(t, echo(429)))
	transport.MaxWait = time.Minute // of no use: nobody is left
	equal(t, "answer", "429 GET /  ", get(t, transport, "/"))
	equal(t, "completions", 2, metrics(t, transport.Engine).Completions)
}

func TestOtherFailuresAreTheCallers(t *testing.T) {
	transport := newTransport(t, serve(t, echo(500)), serve(t, echo(200)))
	equal(t, "answer", "500 GET /  ", get(t, transport, "/"))
	equal(t, "failures", 1, provider(t, transport.Engine, "a").ConsecutiveFailures)
}

func TestConnectionRefused(t *testing.T) {
	transport := newTransport(t, closedPort(t), serve(t, echo(200)))
	client := &http.Client{Transport: transport}
	equal(t, "answer", "200 POST /  body", read(t)(client.Post("http://api/", "text/plain", strings.NewReader("body"))))
	equal(t, "failures", 1, provider(t, transport.Engine, "a").ConsecutiveFailures)
	equal(t, "nothing was sent", "0 0 0", used(t, transport.Engine, "a"))

	transport = newTransport(t, closedPort(t))
	if _, err := (&http.Client{Transport: transport}).Get("http://api/"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v", err)
	}
	equal(t, "nothing was sent", "0 0 0", used(t, transport.Engine, "a"))
}

func TestTimeout(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	transport := newTransport(t, serve(t, func(http.ResponseWriter, *http.Request) { <-hang }), serve(t, echo(200)))
	client := &http.Client{Transport: transport, Timeout: 50 * time.Millisecond}
	_, err := client.Get("http://api/")
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("error %v", err)
	}
	equal(t, "failures", 1, provider(t, transport.Engine, "a").ConsecutiveFailures)
	equal(t, "it was sent", "1 10 0", used(t, transport.Engine, "a"))
	equal(t, "attempts", 1, metrics(t, transport.Engine).Acquires)
}

func TestCancelledByTheCaller(t *testing.T) {
	hang, arrived := make(chan struct{}), make(chan struct{})
	defer close(hang)
	transport := newTransport(t, serve(t, func(http.ResponseWriter, *http.Request) { close(arrived); <-hang }))
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-arrived; cancel() }()
	request, _ := http.NewRequestWithContext(ctx, "GET", "http://api/", nil)
	if _, err := (&http.Client{Transport: transport}).Do(request); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	equal(t, "failures", 0, provider(t, transport.Engine, "a").ConsecutiveFailures)
	equal(t, "it was sent", "1 10 0", used(t, transport.Engine, "a"))
	equal(t, "completions", 1, metrics(t, transport.Engine).Completions)
}

// From Go 1.23 on, net/http returns the cause instead of context.Canceled: so errgroup, for one, ends the requests of a group.
func TestEndedWithACause(t *testing.T) {
	hang, cause := make(chan struct{}), errors.New("another request of the group failed")
	defer close(hang)
	transport := newTransport(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			w.(http.Flusher).Flush()
		}
		<-hang
	}))
	for _, path := range []string{"/", "/stream"} {
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
		request, _ := http.NewRequestWithContext(ctx, "GET", "http://api"+path, nil)
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err == nil {
			_, err = io.ReadAll(response.Body)
			response.Body.Close()
		}
		if err == nil {
			t.Error("no error")
		}
		equal(t, "failures", 0, provider(t, transport.Engine, "a").ConsecutiveFailures)
	}
	equal(t, "it was sent", "2 20 0", used(t, transport.Engine, "a"))

	ctx, cancel := context.WithTimeoutCause(context.Background(), 20*time.Millisecond, cause)
	defer cancel()
	request, _ := http.NewRequestWithContext(ctx, "GET", "http://api/", nil)
	if _, err := (&http.Client{Transport: transport}).Do(request); err == nil {
		t.Error("no error")
	}
	equal(t, "failures", 1, provider(t, transport.Engine, "a").ConsecutiveFailures)
}

// A file that cannot be read, a caller of a proxy that goes away: the provider can do nothing about it.
func TestABodyOfARequestThatBreaks(t *testing.T) {
	overHTTP2 := httptest.NewUnstartedServer(echo(200))
	overHTTP2.EnableHTTP2 = true
	overHTTP2.StartTLS()
	t.Cleanup(overHTTP2.Close)
	for _, url := range []string{serve(t, echo(200)), overHTTP2.URL} {
		transport := newTransport(t, url)
		transport.Base = overHTTP2.Client().Transport
		failure := errors.New("disk")
		body := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(failure))
		client := &http.Client{Transport: transport}
		if _, err := client.Post("http://api/", "text/plain", body); !errors.Is(err, failure) {
			t.Errorf("error %v", err)
		}
		equal(t, "failures", 0, provider(t, transport.Engine, "a").ConsecutiveFailures)
		equal(t, "it was sent", "1 10 0", used(t, transport.Engine, "a"))
	}
}

// Whoever makes a header of what others wrote must not lose the providers by it.
func TestARequestThatIsMalformed(t *testing.T) {
	transport := newTransport(t, serve(t, echo(200)), serve(t, echo(200)))
	request, _ := http.NewRequest("GET", "http://api/", nil)
	request.Header.Set("X-User", "line\nbreak")
	if _, err := (&http.Client{Transport: transport}).Do(request); err == nil {
		t.Error("no error")
	}
	equal(t, "failures", 0, provider(t, transport.Engine, "a").ConsecutiveFailures)
	equal(t, "attempts", 1, metrics(t, transport.Engine).Acquires)
	equal(t, "given back", 1, metrics(t, transport.Engine).Cancellations)
}

func TestCancelledBeforeItWasSent(t *testing.T) {
	transport := newTransport(t, "http://127.0.0.1:1", "http://127.0.0.1:2")
	ctx, cancel := context.WithCancel(context.Background())
	transport.Base = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	request, _ := http.NewRequestWithContext(ctx, "GET", "http://api/", nil)
	if _, err := (&http.Client{Transport: transport}).Do(request); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	equal(t, "given back", 1, metrics(t, transport.Engine).Cancellations)
	equal(t, "attempts", 1, metrics(t, transport.Engine).Acquires)
}

func TestCancelledWhileItWasPrepared(t *testing.T) {
	transport := newTransport(t, serve(t, echo(200)))
	ctx, cancel := context.WithCancel(context.Background())
	transport.Prepare = func(*http.Request, string) error { cancel(); return nil }
	closed := &closer{Reader: strings.NewReader("body")}
	request := httptest.NewRequest("POST", "http://api/", closed).WithContext(ctx)
	if _, err := transport.RoundTrip(request); err != context.Canceled {
		t.Errorf("error %v", err)
	}
	equal(t, "body closed", true, closed.closed)
	equal(t, "given back", 1, metrics(t, transport.Engine).Cancellations)
}

// A request that waits for one of the caller's own connections has not come to the provider.
func TestNoConnectionIsFree(t *testing.T) {
	transport := newTransport(t, serve(t, echo(200)))
	transport.Base = &http.Transport{MaxConnsPerHost: 1}
	response, err := (&http.Client{Transport: transport}).Get("http://api/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Millisecond}
	var timeout net.Error
	if _, err := client.Get("http://api/"); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("error %v", err)
	}
	equal(t, "failures", 0, provider(t, transport.Engine, "a").ConsecutiveFailures)
	equal(t, "given back", 1, metrics(t, transport.Engine).Cancellations)
}

// A provider that does not take connections is to blame for that.
func TestDialingTakesTooLong(t *testing.T) {
	transport := newTransport(t, "http://provider.invalid")
	transport.Base = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		httptrace.ContextClientTrace(ctx).ConnectStart("tcp", "") // as net.Dialer does
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	client := &http.Client{Transport: transport, Timeout: 20 * time.Millisecond}
	if _, err := client.Get("http://api/"); err == nil {
		t.Error("no error")
	}
	equal(t, "failures", 1, provider(t, transport.Engine, "a").ConsecutiveFailures)
	equal(t, "nothing was sent", "0 0 0", used(t, transport.Engine, "a"))
}

func TestCloseIdleConnections(t *testing.T) {
	transport := newTransport(t, serve(t, echo(200)))
	reused := false
	transport.Base = &http.Transport{}
	client := &http.Client{Transport: transport}
	for range 2 {
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
		})
		request, _ := http.NewRequestWithContext(ctx, "GET", "http://api/", nil)
		read(t)(client.Do(request))
		client.CloseIdleConnections()
	}
	equal(t, "reused", false, reused)
}

func TestABodyThatBreaks(t *testing.T) {
	transport := newTransport(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.Write([]byte("half"))
	}))
	response, err := (&http.Client{Transport: transport}).Get("http://api/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
	response.Body.Close()
	equal(t, "failures", 1, provider(t, transport.Engine, "a").ConsecutiveFailures)
}

// That is how to stop a stream that somebody reads.
func TestABodyThatIsClosedWhileItIsRead(t *testing.T) {
	stream := func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	overHTTP2 := httptest.NewUnstartedServer(http.HandlerFunc(stream))
	overHTTP2.EnableHTTP2 = true
	overHTTP2.StartTLS()
	t.Cleanup(overHTTP2.Close)
	for _, url := range []string{serve(t, stream), overHTTP2.URL} {
		transport := newTransport(t, url)
		transport.Base = overHTTP2.Client().Transport
		for range 10 {
			response, err := (&http.Client{Transport: transport}).Get("http://api/")
			if err != nil {
				t.Fatal(err)
			}
			reader := make(chan error)
			go func() {
				_, err := io.ReadAll(response.Body)
				reader <- err
			}()
			time.Sleep(time.Millisecond)
			response.Body.Close()
			if <-reader == nil {
				t.Error("the stream ended by itself")
			}
			equal(t, "failures", 0, provider(t, transport.Engine, "a").ConsecutiveFailures)
		}
	}
}

func TestABodyThatIsAbandoned(t *testing.T) {
	chunked := func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		io.WriteString(w, "chunk")
	}
	overHTTP2 := httptest.NewUnstartedServer(http.HandlerFunc(chunked))
	overHTTP2.EnableHTTP2 = true
	overHTTP2.StartTLS()
	t.Cleanup(overHTTP2.Close)
	for _, url := range []string{serve(t, echo(200)), serve(t, chunked), overHTTP2.URL} {
		transport := newTransport(t, url)
		transport.Base = overHTTP2.Client().Transport
		func() {
			if _, err := (&http.Client{Transport: transport}).Get("http://api/"); err != nil {
				t.Fatal(err)
			}
		}()
		for deadline := time.Now().Add(10 * time.Second); metrics(t, transport.Engine).LeasesInFlight != 0; {
			if time.Now().After(deadline) {
				t.Fatal("its lease is still in flight", url)
			}
			runtime.GC()
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func TestTrailers(t *testing.T) {
	transport := newTransport(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		echo(200)(w, r)
		w.(http.Flusher).Flush()
		w.Header().Set(http.TrailerPrefix+"Usage", "7") // not announced
	}))
	response, err := (&http.Client{Transport: transport}).Get("http://api/")
	read(t)(response, err)
	equal(t, "trailer", "7", response.Trailer.Get("Usage"))
}

func TestRedirects(t *testing.T) {
	elsewhere := serve(t, echo(201))
	transport := newTransport(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/base/relative":
			http.Redirect(w, r, "there", http.StatusFound)
		case "/base/away":
			http.Redirect(w, r, elsewhere+"/away", http.StatusTemporaryRedirect)
		default:
			echo(200)(w, r)
		}
	})+"/base", serve(t, echo(500)))
	prepared := 0
	transport.Prepare = func(r *http.Request, provider string) error {
		prepared++
		r.Header.Set("Authorization", "key")
		return nil
	}
	equal(t, "answer", "200 GET /base/there key ", get(t, transport, "/relative"))
	equal(t, "prepared", 2, prepared)
	state := provider(t, transport.Engine, "a")
	equal(t, "leases and observations", "1 1", fmt.Sprint(state.Completions, state.Observations))

	client := &http.Client{Transport: transport}
	answer := read(t)(client.Post("http://api/away", "text/plain", strings.NewReader("body")))
	equal(t, "answer without the key", "201 POST /away  body", answer)
	equal(t, "observations", 1, metrics(t, transport.Engine).Observations)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// Providers that differ by their keys alone, and a server that writes its address in another way.
func TestRedirectsOfOneUpstreamWithSeveralKeys(t *testing.T) {
	for range 10 {
		transport := newTransport(t, "https://api.example/v1", "https://api.example/v1", "https://api.example/v1")
		transport.Prepare = func(r *http.Request, provider string) error {
			r.Header.Set("Authorization", "key of "+provider)
			return nil
		}
		transport.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			if r.URL.Path == "/v1/from" {
				w.Header().Set("Location", "https://API.example:443/v1/to")
				w.WriteHeader(http.StatusFound)
			} else {
				io.WriteString(w, r.Header.Get("Authorization"))
			}
			return w.Result(), nil
		})
		equal(t, "answer", "key of a", get(t, transport, "/from"))
		equal(t, "used", "2 10 0", used(t, transport.Engine, "a"))
	}
}

func TestPrepareThatFails(t *testing.T) {
	transport := newTransport(t, closedPort(t))
	failure := errors.New("no key")
	transport.Prepare = func(*http.Request, string) error { return failure }
	closed := &closer{Reader: strings.NewReader("body")}
	request := httptest.NewRequest("POST", "http://api/", closed)
	if _, err := transport.RoundTrip(request); err != failure {
		t.Errorf("error %v", err)
	}
	equal(t, "body closed", true, closed.closed)

	transport.Prepare = func(*http.Request, string) error { panic(failure) }
	func() {
		defer func() { equal(t, "panic", any(failure), recover()) }()
		transport.RoundTrip(httptest.NewRequest("GET", "http://api/", nil))
	}()
	equal(t, "given back", 2, metrics(t, transport.Engine).Cancellations)
}

type closer struct {
	io.Reader
	closed bool
}

func (c *closer) Close() error {
	c.closed = true
	return nil
}

func TestAProviderWithoutAnUpstream(t *testing.T) {
	transport := newTransport(t, closedPort(t))
	for range 2 {
		transport.Upstreams["a"] = nil
		if _, err := (&http.Client{Transport: transport}).Get("http://api/"); err == nil || !strings.Contains(err.Error(), `"a"`) {
			t.Errorf("error %v", err)
		}
		delete(transport.Upstreams, "a")
	}
	equal(t, "given back", 2, metrics(t, transport.Engine).Cancellations)
}

func TestNoneAvailable(t *testing.T) {
	transport := newTransport(t, serve(t, echo(200)))
	transport.Estimate = func(*http.Request) grate.Request { return grate.Request{Tokens: limit + 1} }
	for _, wait := range []time.Duration{0, time.Hour, -1} {
		transport.MaxWait = wait
		closed := &closer{Reader: strings.NewReader("body")}
		_, err := transport.RoundTrip(httptest.NewRequest("POST", "http://api/", closed))
		if !errors.Is(err, grate.ErrNoAvailableProviders) {
			t.Errorf("error %v", err)
		}
		equal(t, "body closed", true, closed.closed)
	}
	if _, err := (&http.Client{Transport: transport}).Get("http://nobody/"); !errors.Is(err, grate.ErrUnknownCapability) {
		t.Errorf("error %v", err)
	}
}

func TestMaxWait(t *testing.T) {
	transport := newTransport(t, serve(t, echo(200)))
	config := grate.Config{Providers: []grate.Provider{{Name: "a", Quotas: []grate.Quota{
		{Dimension: grate.DimensionRequests, Limit: 1, Window: 100 * time.Millisecond}}}}}
	if err := transport.Engine.Configure(config); err != nil {
		t.Fatal(err)
	}
	transport.MaxWait = 10 * time.Second
	for range 3 {
		equal(t, "answer", "200 GET /  ", get(t, transport, "/"))
	}
	equal(t, "completions", 3, metrics(t, transport.Engine).Completions)
}

// http.Client takes that from a RoundTripper, such as that of a test.
func TestAnAnswerWithoutABody(t *testing.T) {
	transport := newTransport(t, "http://a.example", "http://b.example")
	transport.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host == "a.example" {
			return &http.Response{StatusCode: 429}, nil
		}
		return &http.Response{StatusCode: 204}, nil
	})
	equal(t, "answer", "", get(t, transport, "/"))
	equal(t, "completions", 2, metrics(t, transport.Engine).Completions)
}

func TestProtocolSwitch(t *testing.T) {
	transport := newTransport(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.CopyN(conn, conn, 4)
	}))
	request := httptest.NewRequest("GET", "http://api/", nil)
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "echo")
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	conn, ok := response.Body.(io.ReadWriter)
	if !ok {
		t.Fatalf("the connection cannot be written to: %T", response.Body)
	}
	io.WriteString(conn, "ping")
	answer, err := io.ReadAll(conn)
	equal(t, "answer", "ping", string(answer))
	equal(t, "error", nil, err)
	equal(t, "settled", "1 10 0", used(t, transport.Engine, "a"))
}
