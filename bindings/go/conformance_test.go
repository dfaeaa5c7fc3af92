package grate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
	"time"

	grate "github.com/libgrate/libgrate/bindings/go"
)

// TestConformance replays the scenarios of conformance/; its README has the format and the rules.
func TestConformance(t *testing.T) {
	files, err := filepath.Glob("../../conformance/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios in conformance/: %v", err)
	}
	count := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var scenarios []scenario
		if err := strict(text, &scenarios); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, s := range scenarios {
			count++
			once, again := replay(t, s), replay(t, s)
			if !reflect.DeepEqual(once, again) {
				t.Errorf("%s: %s: a second replay gave other decisions", file, s.Name)
			}
		}
	}
	fmt.Printf("conformance: %d scenarios\n", count)
}

type scenario struct {
	Name   string                       `json:"name"`
	About  string                       `json:"about"`
	UnixMS *int64                       `json:"unix_ms"`
	Config json.RawMessage              `json:"config"`
	Steps  []map[string]json.RawMessage `json:"steps"`
}

type expectation struct {
	Error string `json:"error"`
	rowExpectation
	Candidates []json.RawMessage `json:"candidates"`
}

type rowExpectation struct {
	Within              *float64            `json:"within"`
	Provider            json.RawMessage     `json:"provider"`
	HeldBy              *string             `json:"held_by"`
	HeldDimension       json.RawMessage     `json:"held_dimension"`
	HeldWindowNS        *bound              `json:"held_window_ns"`
	RetryAfterNS        *bound              `json:"retry_after_ns"`
	Score               *bound              `json:"score"`
	Quota               *bound              `json:"quota"`
	Health              *bound              `json:"health"`
	Priority            *bound              `json:"priority"`
	Latency             *bound              `json:"latency"`
	SecondsToExhaustion *bound              `json:"seconds_to_exhaustion"`
	Weights             *map[string]float64 `json:"weights"`
}

type routeStep struct {
	Capability   string       `json:"capability"`
	Tokens       *uint64      `json:"tokens"`
	InputTokens  *uint64      `json:"input_tokens"`
	OutputTokens *uint64      `json:"output_tokens"`
	Bytes        *uint64      `json:"bytes"`
	CostMicroUSD *uint64      `json:"cost_micro_usd"`
	Headroom     float64      `json:"headroom"`
	Exclude      []string     `json:"exclude"`
	As           string       `json:"as"`
	Expect       *expectation `json:"expect"`
}

type settleStep struct {
	Lease        any          `json:"lease"`
	Provider     string       `json:"provider"`
	Outcome      string       `json:"outcome"`
	HTTPStatus   int          `json:"http_status"`
	LatencyMS    *float64     `json:"latency_ms"`
	RetryAfterMS *float64     `json:"retry_after_ms"`
	Requests     *uint64      `json:"requests"`
	Tokens       *uint64      `json:"tokens"`
	InputTokens  *uint64      `json:"input_tokens"`
	OutputTokens *uint64      `json:"output_tokens"`
	Bytes        *uint64      `json:"bytes"`
	CostMicroUSD *uint64      `json:"cost_micro_usd"`
	Expect       *errorExpect `json:"expect"`
}

type errorExpect struct {
	Error string `json:"error"`
}

// bound is what a number must be: itself, in a range, or "never".
type bound struct {
	never    bool
	exact    json.Number
	min, max float64
}

func (b *bound) UnmarshalJSON(text []byte) error {
	b.min, b.max = math.Inf(-1), math.Inf(1)
	switch {
	case string(text) == `"never"`:
		b.never = true
		return nil
	case text[0] == '{':
		var r struct{ Min, Max *float64 }
		if err := strict(text, &r); err != nil {
			return err
		}
		if r.Min != nil {
			b.min = *r.Min
		}
		if r.Max != nil {
			b.max = *r.Max
		}
		return nil
	}
	return json.Unmarshal(text, &b.exact)
}

// strict reads JSON, where a key that is not known is an error: a misspelt one would be a check that is never made.
func strict(text []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	d.UseNumber()
	return d.Decode(to)
}

// replayer walks through one scenario; trace has every decision, bit for bit.
type replayer struct {
	t      *testing.T
	where  string
	engine *grate.Engine
	clock  *grate.MockClock
	leases map[string]uint64
	trace  []string
}

func replay(t *testing.T, s scenario) []string {
	start := newYear
	if s.UnixMS != nil {
		start = time.UnixMilli(*s.UnixMS)
	}
	clock := grate.NewMockClock(start)
	engine, err := grate.New(grate.Config{}, grate.WithClock(clock))
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	r := &replayer{t: t, where: s.Name, engine: engine, clock: clock, leases: map[string]uint64{}}
	if err := engine.ConfigureJSON(s.Config); err != nil {
		t.Fatalf("%s: %v", s.Name, err)
	}
	r.steps(s.Steps)
	return r.trace
}

func (r *replayer) steps(steps []map[string]json.RawMessage) {
	outer := r.where
	for i, step := range steps {
		if len(step) != 1 {
			r.t.Fatalf("%s: step %d has %d verbs", outer, i+1, len(step))
		}
		for verb, fields := range step {
			r.where = fmt.Sprintf("%s, step %d (%s)", outer, i+1, verb)
			r.step(verb, fields)
		}
	}
	r.where = outer
}

func (r *replayer) step(verb string, fields json.RawMessage) {
	read := func(to any) {
		if err := strict(fields, to); err != nil {
			r.t.Fatalf("%s: %v", r.where, err)
		}
	}
	switch verb {
	case "advance":
		var a struct{ Secs, MS, NS int64 }
		read(&a)
		const century = 100 * 366 * 24 * 3600
		for ; a.Secs > century; a.Secs -= century { // a Duration holds no more than three
			r.clock.Advance(century * time.Second)
		}
		r.clock.Advance(time.Duration(a.Secs)*time.Second + time.Duration(a.MS)*time.Millisecond + time.Duration(a.NS))
	case "set_ns":
		var a struct{ NS int64 }
		read(&a)
		r.clock.Set(time.Duration(a.NS))
	case "select", "acquire":
		var a routeStep
		read(&a)
		r.route(a, verb == "acquire")
	case "complete":
		var a settleStep
		read(&a)
		r.settled(a.Expect, r.engine.Complete(r.lease(a.Lease), r.response(a)))
	case "cancel":
		var a struct {
			Lease  any
			Expect *errorExpect
		}
		read(&a)
		r.settled(a.Expect, r.engine.Cancel(r.lease(a.Lease)))
	case "observe":
		var a settleStep
		read(&a)
		r.settled(a.Expect, r.engine.Observe(a.Provider, r.response(a)))
	case "configure":
		var a struct {
			Config json.RawMessage
			Text   *string
			Expect *errorExpect
		}
		read(&a)
		document := []byte(a.Config)
		if a.Text != nil {
			document = []byte(*a.Text)
		}
		r.settled(a.Expect, r.engine.ConfigureJSON(document))
	case "remove_provider", "remove_capability":
		var a struct {
			Name   string
			Expect *errorExpect
		}
		read(&a)
		remove := r.engine.RemoveProvider
		if verb == "remove_capability" {
			remove = r.engine.RemoveCapability
		}
		r.settled(a.Expect, remove(a.Name))
	case "check_health":
		var a struct {
			Provider string
			Value    *bound
			Within   *float64
			Error    string
		}
		read(&a)
		health, err := r.engine.ProviderHealth(a.Provider)
		r.same("error", name(a.Error), nameOf(err))
		if err == nil {
			r.double("health", a.Value, health, a.Within)
		}
	case "check_remaining":
		var a struct {
			Provider, Dimension, Error string
			Value                      *bound
		}
		read(&a)
		remaining, err := r.engine.RemainingQuota(a.Provider, r.dimension(a.Dimension))
		r.same("error", name(a.Error), nameOf(err))
		if err == nil {
			r.integer("remaining", a.Value, remaining)
		}
	case "check_in_cooldown":
		var a struct {
			Provider string
			Value    bool
		}
		read(&a)
		got, err := r.engine.ProviderInCooldown(a.Provider)
		r.same("error", nil, err)
		r.same("in cooldown", a.Value, got)
	case "check_circuit":
		var a struct{ Provider, Value string }
		read(&a)
		state, err := r.engine.ProviderState(a.Provider)
		r.same("error", nil, err)
		r.same("circuit", a.Value, state.Circuit.String())
	case "check_metrics":
		var a map[string]json.RawMessage
		read(&a)
		r.metrics(a)
	case "repeat":
		var a struct {
			Times int
			Steps []map[string]json.RawMessage
		}
		read(&a)
		where := r.where
		for i := 0; i < a.Times; i++ {
			r.where = fmt.Sprintf("%s, round %d", where, i+1)
			r.steps(a.Steps)
		}
	default:
		r.t.Fatalf("%s: unknown verb", r.where)
	}
}

func (r *replayer) route(a routeStep, acquire bool) {
	request := grate.Request{
		Tokens:       count(a.Tokens),
		InputTokens:  count(a.InputTokens),
		OutputTokens: count(a.OutputTokens),
		Bytes:        count(a.Bytes),
		CostMicroUSD: count(a.CostMicroUSD),
		Headroom:     a.Headroom,
		Exclude:      a.Exclude,
		Explain:      true,
	}
	expect := a.Expect
	if expect == nil {
		expect = &expectation{}
	}
	var d grate.Decision
	var err error
	var lease uint64
	if acquire {
		var l *grate.Lease
		if l, err = r.engine.Acquire(context.Background(), a.Capability, request); err == nil {
			d, lease = l.Decision, l.ID()
		}
	} else {
		d, err = r.engine.Select(a.Capability, request)
	}
	r.same("error", name(expect.Error), nameOf(err))
	var none *grate.NoAvailableProvidersError
	switch {
	case errors.As(err, &none):
		d = none.Decision
	case err != nil:
		return
	default:
		r.same("held by", grate.HeldByNothing, d.HeldBy)
		r.same("retry after", time.Duration(0), d.RetryAfter)
	}
	r.same("a lease", acquire && err == nil, lease != 0)

	for _, row := range append([]grate.Candidate{d.Candidate}, d.Candidates...) {
		values := []float64{row.Score, row.Breakdown.Quota, row.Breakdown.Health, row.Breakdown.Priority, row.Breakdown.Latency}
		for _, x := range values {
			if !(x >= 0 && x <= 1) {
				r.t.Errorf("%s: out of range: %+v", r.where, row)
			}
		}
		bits := make([]uint64, 0, len(values)+1)
		for _, x := range append(values, row.SecondsToExhaustion) {
			bits = append(bits, math.Float64bits(x))
		}
		r.trace = append(r.trace, fmt.Sprint(row.Provider, bits, row.HeldBy, row.RetryAfter, row.HeldDimension, row.HeldWindow, row.Index))
	}
	r.row(&expect.rowExpectation, d.Candidate)
	if expect.Candidates != nil {
		r.candidates(expect.Candidates, d.Candidates)
	}
	if a.As != "" {
		r.leases[a.As] = lease
	}
}

func (r *replayer) candidates(expect []json.RawMessage, got []grate.Candidate) {
	r.same("number of candidates", len(expect), len(got))
	for i := range min(len(expect), len(got)) {
		var row rowExpectation
		if expect[i][0] == '"' {
			row.Provider = expect[i]
		} else if err := strict(expect[i], &row); err != nil {
			r.t.Fatalf("%s: %v", r.where, err)
		}
		r.row(&row, got[i])
	}
}

func (r *replayer) row(expect *rowExpectation, got grate.Candidate) {
	if expect.Provider != nil {
		r.same("provider", text(expect.Provider), got.Provider)
	}
	if expect.HeldBy != nil {
		r.same("held by", *expect.HeldBy, got.HeldBy.String())
	}
	if expect.HeldDimension != nil {
		r.same("held dimension", text(expect.HeldDimension), got.HeldDimension.String())
	}
	r.integer("held window", expect.HeldWindowNS, uint64(got.HeldWindow))
	retryAfter := uint64(got.RetryAfter)
	if got.RetryAfter == grate.Never {
		retryAfter = math.MaxUint64
	}
	r.integer("retry after", expect.RetryAfterNS, retryAfter)
	r.double("score", expect.Score, got.Score, expect.Within)
	r.double("quota", expect.Quota, got.Breakdown.Quota, expect.Within)
	r.double("health", expect.Health, got.Breakdown.Health, expect.Within)
	r.double("priority", expect.Priority, got.Breakdown.Priority, expect.Within)
	r.double("latency", expect.Latency, got.Breakdown.Latency, expect.Within)
	r.double("seconds to exhaustion", expect.SecondsToExhaustion, got.SecondsToExhaustion, expect.Within)
	if expect.Weights != nil {
		total, b := 0.0, got.Breakdown
		components := map[string]float64{"quota": b.Quota, "health": b.Health, "priority": b.Priority, "latency": b.Latency}
		r.same("number of weights", len(components), len(*expect.Weights))
		for what, x := range components {
			weight, ok := (*expect.Weights)[what]
			r.same("a weight of "+what, true, ok)
			total += weight * x
		}
		if !(math.Abs(total-got.Score) <= tolerance(expect.Within)) {
			r.t.Errorf("%s: the weighted components make %v, the score is %v", r.where, total, got.Score)
		}
	}
}

func (r *replayer) metrics(expect map[string]json.RawMessage) {
	var counters grate.Counters
	others := map[string]uint64{}
	if provider, ok := expect["provider"]; ok {
		state, err := r.engine.ProviderState(text(provider))
		r.same("error", nil, err)
		counters = state.Counters
		others["consecutive_failures"] = uint64(state.ConsecutiveFailures)
	} else {
		m, err := r.engine.Metrics()
		r.same("error", nil, err)
		counters = m.Counters
		others["none_available"], others["capped_waits"] = m.NoneAvailable, m.CappedWaits
	}
	known := map[string]uint64{
		"selects":                counters.Selects,
		"acquires":               counters.Acquires,
		"completions":            counters.Completions,
		"cancellations":          counters.Cancellations,
		"expired_leases":         counters.ExpiredLeases,
		"observations":           counters.Observations,
		"cooldowns_triggered":    counters.CooldownsTriggered,
		"rate_limited_responses": counters.RateLimitedResponses,
		"leases_in_flight":       counters.LeasesInFlight,
	}
	for what, value := range expect {
		if what == "provider" {
			continue
		}
		got, ok := known[what]
		if !ok {
			got, ok = others[what]
		}
		r.same("a counter "+what, true, ok)
		var b bound
		r.same("error", nil, json.Unmarshal(value, &b))
		r.integer(what, &b, got)
	}
}

func (r *replayer) lease(of any) uint64 {
	switch of := of.(type) {
	case string:
		lease, ok := r.leases[of]
		r.same("a lease named "+of, true, ok)
		return lease
	case json.Number:
		lease, err := strconv.ParseUint(string(of), 10, 64)
		r.same("error", nil, err)
		return lease
	}
	r.t.Fatalf("%s: %v is no lease", r.where, of)
	return 0
}

func (r *replayer) response(a settleStep) grate.Response {
	return grate.Response{
		Outcome:      r.outcome(a.Outcome),
		HTTPStatus:   a.HTTPStatus,
		Latency:      milliseconds(a.LatencyMS),
		RetryAfter:   milliseconds(a.RetryAfterMS),
		Requests:     count(a.Requests),
		Tokens:       count(a.Tokens),
		InputTokens:  count(a.InputTokens),
		OutputTokens: count(a.OutputTokens),
		Bytes:        count(a.Bytes),
		CostMicroUSD: count(a.CostMicroUSD),
	}
}

func (r *replayer) outcome(name string) grate.Outcome {
	for o := grate.Outcome(0); o <= grate.OutcomeCancelled; o++ {
		if o.String() == name {
			return o
		}
	}
	r.t.Fatalf("%s: unknown outcome %q", r.where, name)
	return 0
}

func (r *replayer) dimension(name string) grate.Dimension {
	for d := grate.DimensionRequests; d <= grate.DimensionCostMicroUSD; d++ {
		if d.String() == name {
			return d
		}
	}
	r.t.Fatalf("%s: unknown dimension %q", r.where, name)
	return 0
}

func (r *replayer) settled(expect *errorExpect, err error) {
	if expect == nil {
		expect = &errorExpect{}
	}
	r.same("error", name(expect.Error), nameOf(err))
}

func (r *replayer) same(what string, expected, got any) {
	if expected != got {
		r.t.Errorf("%s: %s: expected %v, got %v", r.where, what, expected, got)
	}
}

func (r *replayer) integer(what string, expect *bound, got uint64) {
	if expect == nil {
		return
	}
	fits := float64(got) >= expect.min && float64(got) <= expect.max
	switch {
	case expect.never:
		fits = got == math.MaxUint64
	case expect.exact != "":
		fits = string(expect.exact) == strconv.FormatUint(got, 10)
	}
	if !fits {
		r.t.Errorf("%s: %s: expected %+v, got %d", r.where, what, *expect, got)
	}
}

func (r *replayer) double(what string, expect *bound, got float64, within *float64) {
	if expect == nil {
		return
	}
	fits := got >= expect.min && got <= expect.max
	switch {
	case expect.never:
		fits = math.IsInf(got, 1)
	case expect.exact != "":
		exact, err := expect.exact.Float64()
		fits = err == nil && math.Abs(got-exact) <= tolerance(within)
	}
	if !fits {
		r.t.Errorf("%s: %s: expected %+v, got %v", r.where, what, *expect, got)
	}
}

func tolerance(within *float64) float64 {
	if within == nil {
		return 1e-9
	}
	return *within
}

// text is a string in JSON, "" for null.
func text(raw json.RawMessage) (s string) {
	if err := json.Unmarshal(raw, &s); err != nil {
		panic(err)
	}
	return s
}

// count is an amount: absent is "not given", 0 a true zero.
func count(n *uint64) uint64 {
	switch {
	case n == nil:
		return 0
	case *n == 0:
		return grate.Zero
	}
	return *n
}

func milliseconds(ms *float64) time.Duration {
	switch {
	case ms == nil:
		return 0
	case *ms == 0:
		return -1
	}
	return time.Duration(math.Round(*ms * 1e6))
}

const noError = "GRATE_OK"

func name(expected string) string {
	if expected == "" {
		return noError
	}
	return expected
}

// nameOf is the name of the status in an error.
func nameOf(err error) string {
	var code grate.Code
	switch {
	case err == nil:
		return noError
	case errors.As(err, &code):
		return code.Name()
	}
	return err.Error()
}
