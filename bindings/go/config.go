package grate

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Config is a configuration, for [New] and [Engine.Configure]. Zero values are defaults.
type Config struct {
	// Engine changes the settings; nil leaves them. What is zero in it becomes the default again.
	Engine       *Settings
	Providers    []Provider
	Capabilities []Capability
	// Replace removes the providers and capabilities that this configuration does not name.
	Replace bool
}

// Settings are those of an engine.
type Settings struct {
	// Weights of the components in the score; all zero is 0.40, 0.35, 0.20, 0.05.
	Weights Breakdown
	// MinHealthForSelection: providers with less health are not chosen. At most 1; 0 is 0.2.
	MinHealthForSelection float64
	// EWMAAlpha is the share of a new outcome in the health average, at most 1. 0 is 0.25.
	EWMAAlpha float64
	// RecoveryHalfLife is the time in which the health that is missing halves. At most 366 days; 0 is 30 s.
	RecoveryHalfLife time.Duration
	// CooldownTriggerCount is the number of failures in a row that start a cooldown. 0 is 3.
	CooldownTriggerCount uint32
	// CooldownThreshold: a failure that leaves less health than this starts a cooldown. At most 1; 0 is 0.2.
	CooldownThreshold float64
	// CooldownMultiplier: each cooldown in a row is this times longer. At least 1; 0 is 2.
	CooldownMultiplier float64
	// MaxCooldown is the longest computed cooldown; a provider's Retry-After may be longer. At most 366 days; 0 is 10 min.
	MaxCooldown time.Duration
	// LeaseTTL: a lease that is not settled after so long expires. Milliseconds, at most 366 days; 0 is 10 min.
	LeaseTTL time.Duration
	// Skew is the longest time a request spends on the wire before the provider counts it. Milliseconds, at most one
	// hour; 0 is 50 ms, negative is none.
	Skew time.Duration
	// EstimateQuantile is the quantile of past usage that stands for an estimate that is not given, below 1. 0 is the mean.
	EstimateQuantile float64
	// MaxRetryAfter is the longest Retry-After that is believed. Milliseconds, at most 366 days; 0 is one day.
	MaxRetryAfter time.Duration
}

// Provider is an upstream. Registering a name again changes the definition and keeps usage, health and leases.
type Provider struct {
	// Name: 1 to 128 bytes of UTF-8 without control characters.
	Name string
	// Priority in capabilities that give none: higher is better, up to 1000000.
	Priority uint32
	// Weight multiplies the priority component. 0 is 1.
	Weight float64
	// Cooldown is the first one, at most 366 days. 0 is 30 s.
	Cooldown time.Duration
	// Quotas, at most 32; all hold at once.
	Quotas []Quota
}

// Quota is one limit of a provider.
type Quota struct {
	// Dimension is what is counted. Required.
	Dimension Dimension
	// Limit in units per Window, or leases in flight for concurrency. 0 admits nothing.
	Limit uint64
	// Window: whole milliseconds, up to 366 days. Required, but 0 for concurrency.
	Window time.Duration
	// Strategy; 0 is rolling (concurrency for that dimension).
	Strategy Strategy
	// Burst is the size of the token bucket in units; 0 is Limit. Must be 0 for other strategies.
	Burst uint64
	// Phase of a fixed window: when it starts after UTC midnight of 1970-01-01 (8 h for midnight in UTC-8), in
	// milliseconds, between minus and plus one window. Must be 0 for other strategies.
	Phase time.Duration
	// Pool: quotas with the same pool name, dimension and window are one counter, whichever providers they are on.
	Pool string
}

// Capability is what callers ask for, and the providers that serve it. The order breaks ties of equal scores.
type Capability struct {
	// Name, as for providers.
	Name      string
	Providers []CapabilityProvider
}

// CapabilityProvider is one provider of a capability.
type CapabilityProvider struct {
	// Provider is the name of a registered provider, or of one in the same configuration.
	Provider string
	// Priority here, up to 1000000. 0 is the provider's own; PriorityZero is a true zero.
	Priority uint32
}

// The document that the library reads. Fields that are left out are defaults there; zeroes would be true zeroes.
type (
	configDocument struct {
		Engine       *settingsDocument    `json:"engine,omitempty"`
		Providers    []providerDocument   `json:"providers,omitempty"`
		Capabilities []capabilityDocument `json:"capabilities,omitempty"`
		Replace      bool                 `json:"replace,omitempty"`
	}
	settingsDocument struct {
		Weights               *weightsDocument `json:"weights,omitempty"`
		MinHealthForSelection float64          `json:"min_health_for_selection,omitempty"`
		EWMAAlpha             float64          `json:"ewma_alpha,omitempty"`
		RecoveryHalfLifeSecs  float64          `json:"recovery_half_life_secs,omitempty"`
		CooldownTriggerCount  uint32           `json:"cooldown_trigger_count,omitempty"`
		CooldownThreshold     float64          `json:"cooldown_threshold,omitempty"`
		CooldownMultiplier    float64          `json:"cooldown_multiplier,omitempty"`
		MaxCooldownSecs       float64          `json:"max_cooldown_secs,omitempty"`
		LeaseTTLMS            int64            `json:"lease_ttl_ms,omitempty"`
		SkewMS                *int64           `json:"skew_ms,omitempty"`
		EstimateQuantile      float64          `json:"estimate_quantile,omitempty"`
		MaxRetryAfterMS       int64            `json:"max_retry_after_ms,omitempty"`
	}
	weightsDocument struct {
		Quota    float64 `json:"quota"`
		Health   float64 `json:"health"`
		Priority float64 `json:"priority"`
		Latency  float64 `json:"latency"`
	}
	providerDocument struct {
		Name            string          `json:"name"`
		Priority        uint32          `json:"priority,omitempty"`
		Weight          float64         `json:"weight,omitempty"`
		CooldownSeconds float64         `json:"cooldown_seconds,omitempty"`
		Quotas          []quotaDocument `json:"quotas,omitempty"`
	}
	quotaDocument struct {
		Dimension string `json:"dimension"`
		Limit     uint64 `json:"limit"`
		WindowMS  int64  `json:"window_ms,omitempty"`
		Strategy  string `json:"strategy,omitempty"`
		Burst     uint64 `json:"burst,omitempty"`
		PhaseMS   int64  `json:"phase_ms,omitempty"`
		Pool      string `json:"pool,omitempty"`
	}
	capabilityDocument struct {
		Name      string                       `json:"name"`
		Providers []capabilityProviderDocument `json:"providers"`
	}
	capabilityProviderDocument struct {
		Provider string  `json:"provider"`
		Priority *uint32 `json:"priority,omitempty"`
	}
)

// document is the configuration in JSON.
func (c Config) document() ([]byte, error) {
	var check checker
	d := configDocument{Engine: c.Engine.document(&check), Replace: c.Replace}
	for _, p := range c.Providers {
		check.name(p.Name)
		provider := providerDocument{Name: p.Name, Priority: p.Priority, Weight: p.Weight, CooldownSeconds: p.Cooldown.Seconds()}
		for _, q := range p.Quotas {
			check.name(q.Pool)
			provider.Quotas = append(provider.Quotas, quotaDocument{
				Dimension: q.Dimension.String(),
				Limit:     q.Limit,
				WindowMS:  check.notNegative("Window", q.Window),
				Strategy:  q.Strategy.String(),
				Burst:     q.Burst,
				PhaseMS:   check.milliseconds("Phase", q.Phase),
				Pool:      q.Pool,
			})
		}
		d.Providers = append(d.Providers, provider)
	}
	for _, c := range c.Capabilities {
		check.name(c.Name)
		capability := capabilityDocument{Name: c.Name, Providers: []capabilityProviderDocument{}}
		for _, p := range c.Providers {
			check.name(p.Provider)
			row := capabilityProviderDocument{Provider: p.Provider}
			if p.Priority == PriorityZero {
				row.Priority = new(uint32)
			} else if p.Priority != 0 {
				row.Priority = &p.Priority
			}
			capability.Providers = append(capability.Providers, row)
		}
		d.Capabilities = append(d.Capabilities, capability)
	}
	if check.err != nil {
		return nil, check.err
	}
	text, err := json.Marshal(d)
	if err != nil { // NaN or infinity
		return nil, &Error{Code: ErrInvalidConfig, Message: err.Error()}
	}
	return text, nil
}

func (s *Settings) document(check *checker) *settingsDocument {
	if s == nil {
		return nil
	}
	d := &settingsDocument{
		MinHealthForSelection: s.MinHealthForSelection,
		EWMAAlpha:             s.EWMAAlpha,
		RecoveryHalfLifeSecs:  s.RecoveryHalfLife.Seconds(),
		CooldownTriggerCount:  s.CooldownTriggerCount,
		CooldownThreshold:     s.CooldownThreshold,
		CooldownMultiplier:    s.CooldownMultiplier,
		MaxCooldownSecs:       s.MaxCooldown.Seconds(),
		LeaseTTLMS:            check.notNegative("LeaseTTL", s.LeaseTTL),
		EstimateQuantile:      s.EstimateQuantile,
		MaxRetryAfterMS:       check.notNegative("MaxRetryAfter", s.MaxRetryAfter),
	}
	if s.Weights != (Breakdown{}) {
		weights := weightsDocument(s.Weights)
		d.Weights = &weights
	}
	if s.Skew != 0 {
		skew := check.milliseconds("Skew", max(0, s.Skew))
		d.SkewMS = &skew
	}
	return d
}

// checker keeps the first thing in a configuration that JSON would change silently.
type checker struct {
	err error
}

func (c *checker) fail(code Code, format string, args ...any) {
	if c.err == nil {
		c.err = &Error{Code: code, Message: fmt.Sprintf(format, args...)}
	}
}

// name refuses what JSON would write with replacement characters. All else about names the library knows.
func (c *checker) name(name string) {
	if !utf8.ValidString(name) {
		c.fail(ErrInvalidName, "the name %q is not UTF-8", name)
	}
}

// notNegative are milliseconds where less than 0 would be malformed to the library.
func (c *checker) notNegative(field string, d time.Duration) int64 {
	if d < 0 {
		c.fail(ErrInvalidConfig, "%s is %v, and must not be negative", field, d)
	}
	return c.milliseconds(field, d)
}

func (c *checker) milliseconds(field string, d time.Duration) int64 {
	if d%time.Millisecond != 0 {
		c.fail(ErrInvalidConfig, "%s is %v, and must be whole milliseconds", field, d)
	}
	return d.Milliseconds()
}
