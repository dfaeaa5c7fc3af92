package grate_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	grate "github.com/libgrate/libgrate/bindings/go"
)

var newYear = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func perMinute(dimension grate.Dimension, limit uint64) grate.Quota {
	return grate.Quota{Dimension: dimension, Limit: limit, Window: time.Minute}
}

// serving is a configuration in which these providers serve "api", the first with the highest priority.
func serving(providers ...grate.Provider) grate.Config {
	api := grate.Capability{Name: "api"}
	for i := range providers {
		providers[i].Priority = uint32(10 - i)
		api.Providers = append(api.Providers, grate.CapabilityProvider{Provider: providers[i].Name})
	}
	return grate.Config{Providers: providers, Capabilities: []grate.Capability{api}}
}

// twoProviders are a with 2 requests and 1000 tokens a minute, and b without a limit.
func twoProviders() grate.Config {
	return serving(
		grate.Provider{Name: "a", Quotas: []grate.Quota{
			perMinute(grate.DimensionRequests, 2), perMinute(grate.DimensionTokens, 1000)}},
		grate.Provider{Name: "b"})
}

func newEngine(t testing.TB, config grate.Config) (*grate.Engine, *grate.MockClock) {
	t.Helper()
	clock := grate.NewMockClock(newYear)
	engine, err := grate.New(config, grate.WithClock(clock))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	return engine, clock
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t testing.TB, what string, want, got T) {
	t.Helper()
	if want != got {
		t.Errorf("%s: want %v, got %v", what, want, got)
	}
}

// answering is the URL of a server that answers every request with this text.
func answering(t *testing.T, text string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }))
	t.Cleanup(server.Close)
	return server.URL
}
