package gratehttp_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	grate "github.com/libgrate/libgrate/bindings/go"
	"github.com/libgrate/libgrate/bindings/go/gratehttp"
)

const withUpstreams = "../../../scripts/with-upstreams.sh"

// upstreams starts the three metered servers of examples-c/http, which answer 429 above 20, 12 and 6 requests a second.
func upstreams(t *testing.T) map[string]*url.URL {
	t.Helper()
	if out, err := exec.Command(withUpstreams, "--check").CombinedOutput(); err != nil {
		t.Skipf("skipped: %s", out)
	}
	script := exec.Command(withUpstreams, "sh", "-c", `echo "$GRATE_UPSTREAMS"; exec sleep 300`)
	script.Stderr = os.Stderr
	out, err := script.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := script.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		script.Process.Signal(syscall.SIGTERM) // it stops them
		script.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	bases := strings.Fields(line)
	if len(bases) != 3 {
		t.Fatalf("no upstreams: %q", line)
	}
	return map[string]*url.URL{"gold": base(t, bases[0]), "silver": base(t, bases[1]), "bronze": base(t, bases[2])}
}

func base(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// metered is the configuration of the upstreams, with what they document or without.
func metered(documented bool) grate.Config {
	answers := grate.Capability{Name: "answers"}
	var config grate.Config
	for i, u := range []struct {
		name        string
		rate, burst uint64
	}{{"gold", 20, 10}, {"silver", 12, 6}, {"bronze", 6, 3}} {
		provider := grate.Provider{Name: u.name, Priority: uint32(10 - i)}
		if documented {
			provider.Quotas = []grate.Quota{{Dimension: grate.DimensionRequests, Limit: u.rate, Window: time.Second,
				Strategy: grate.StrategyTokenBucket, Burst: u.burst + 1}}
		}
		config.Providers = append(config.Providers, provider)
		answers.Providers = append(answers.Providers, grate.CapabilityProvider{Provider: u.name})
	}
	config.Capabilities = []grate.Capability{answers}
	return config
}

// load sends requests at a rate for some time, each from a goroutine of its own, and counts the answers by status; 0 stands for
// those that were not sent, as no provider was available.
func load(t *testing.T, client *http.Client, perSecond int, duration time.Duration) map[int]int {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	answers := map[int]int{}
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	defer ticker.Stop()
	for range int(duration.Seconds() * float64(perSecond)) {
		<-ticker.C
		all.Add(1)
		go func() {
			defer all.Done()
			status, err := answer(client)
			if err != nil && !errors.Is(err, grate.ErrNoAvailableProviders) {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			answers[status]++
		}()
	}
	all.Wait()
	return answers
}

func answer(client *http.Client) (status int, err error) {
	response, err := client.Get("http://answers/v1/answer")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

func TestMeteredUpstreams(t *testing.T) {
	t.Parallel()
	engine := newEngine(t, metered(true))
	client := &http.Client{Timeout: 20 * time.Second,
		Transport: &gratehttp.Transport{Engine: engine, Upstreams: upstreams(t), MaxWait: 10 * time.Second}}
	const rate, seconds = 28, 6 // more than gold allows, and than a third each
	answers := load(t, client, rate, seconds*time.Second)
	m := metrics(t, engine)
	t.Logf("answers %v, %d attempts, %d refused", answers, m.Acquires, m.RateLimitedResponses)
	equal(t, "answers with 200", rate*seconds, answers[http.StatusOK])
	if 100*m.RateLimitedResponses >= m.Acquires {
		t.Errorf("%d of %d attempts were refused", m.RateLimitedResponses, m.Acquires)
	}
	equal(t, "in flight", 0, m.LeasesInFlight)
	for _, name := range []string{"gold", "silver"} {
		if state := provider(t, engine, name); state.Completions == 0 {
			t.Errorf("%s was not used", name)
		}
	}
}

// Without their quotas the upstreams do refuse; then others are asked, and all of it is reported.
func TestUpstreamsThatNobodyDocumented(t *testing.T) {
	t.Parallel()
	engine := newEngine(t, metered(false))
	client := &http.Client{Timeout: 20 * time.Second, Transport: &gratehttp.Transport{Engine: engine, Upstreams: upstreams(t)}}
	const rate, seconds = 60, 2
	answers := load(t, client, rate, seconds*time.Second)
	m := metrics(t, engine)
	t.Logf("answers %v, %d attempts, %d refused", answers, m.Acquires, m.RateLimitedResponses)
	if m.RateLimitedResponses == 0 {
		t.Error("nothing was refused")
	}
	if sent := uint64(rate*seconds - answers[0]); m.Acquires <= sent {
		t.Errorf("%d attempts for %d requests: nothing was sent again", m.Acquires, sent)
	}
	if answers[http.StatusOK] == 0 {
		t.Error("nothing was answered")
	}
	equal(t, "completions", m.Acquires, m.Completions)
	equal(t, "in flight", 0, m.LeasesInFlight)
	if state := provider(t, engine, "gold"); state.CooldownsTriggered == 0 { // Retry-After was in the header
		t.Error("gold was refused, and did not cool down")
	}
}
