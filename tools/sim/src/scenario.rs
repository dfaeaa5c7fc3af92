//! What happens in a simulation: providers, those who use them, and what goes wrong.

/// Nanoseconds of a millisecond.
pub const MS: u64 = 1_000_000;
/// Nanoseconds of a second.
pub const SECOND: u64 = 1000 * MS;
/// Nanoseconds of a minute.
pub const MINUTE: u64 = 60 * SECOND;
/// Nanoseconds of an hour.
pub const HOUR: u64 = 60 * MINUTE;

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Requests.
    Requests,
    /// Tokens, input and output together.
    Tokens,
    /// Requests being served.
    Concurrency,
}

/// How a provider enforces a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// A counter that is reset each time the window has passed; the phase is not documented.
    Fixed {
        /// How far the first window has got at the start.
        phase: u64,
    },
    /// Whatever the last window holds, at every moment.
    Sliding,
    /// A bucket; rate and burst are documented.
    Bucket {
        /// Its size.
        burst: u64,
    },
    /// Requests being served.
    Slots,
}

/// A quota: what is enforced, and what the provider's documentation says.
#[derive(Clone, Debug)]
pub struct Quota {
    /// What it counts.
    pub dimension: Dimension,
    /// Units per window that are really let in.
    pub limit: u64,
    /// Its window; 0 for concurrency.
    pub window: u64,
    /// How it is enforced.
    pub enforcement: Enforcement,
    /// The limit in the documentation; 0 if that does not speak of the quota.
    pub documented: u64,
}

/// When something is wrong with a provider.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// From when.
    pub from: u64,
    /// Until when.
    pub until: u64,
    /// What is wrong.
    pub kind: TroubleKind,
}

/// What is wrong with a provider.
#[derive(Clone, Copy, Debug)]
pub enum TroubleKind {
    /// This share of requests fails at once.
    Errors(f64),
    /// This share of requests is never answered.
    Silence(f64),
    /// Everything takes this many times longer.
    Slow(f64),
}

/// A provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name.
    pub name: String,
    /// Its priority; higher is preferred.
    pub priority: u32,
    /// Its quotas.
    pub quotas: Vec<Quota>,
    /// Median service time.
    pub service: u64,
    /// Whether each answer says what is left of every quota.
    pub sends_headers: bool,
    /// Whether a refusal says when to come back.
    pub sends_retry_after: bool,
    /// Whether a refused request uses up requests all the same.
    pub counts_refused: bool,
    /// Requests per second of others who use the same key.
    pub others_per_second: f64,
    /// What goes wrong.
    pub troubles: Vec<Trouble>,
}

/// How many requests arrive per second, on average, in a stretch of time.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// From when.
    pub from: u64,
    /// Until when.
    pub until: u64,
    /// Requests per second.
    pub per_second: f64,
}

/// The sizes of requests, which are log-normal.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Median of the tokens.
    pub median: f64,
    /// Deviation of their logarithm.
    pub sigma: f64,
    /// Deviation of the logarithm of the caller's estimate from that of the truth.
    pub estimate_sigma: f64,
}

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Its providers.
    pub providers: Vec<Provider>,
    /// The load.
    pub load: Vec<Load>,
    /// The sizes.
    pub sizes: Sizes,
    /// How long a request waits for a provider before its caller gives up.
    pub patience: u64,
    /// How long a caller waits for an answer.
    pub timeout: u64,
}

impl Quota {
    /// A quota that is documented as it is enforced.
    pub fn new(dimension: Dimension, limit: u64, window: u64, enforcement: Enforcement) -> Self {
        Self { dimension, limit, window, enforcement, documented: limit }
    }

    /// Requests per fixed window, of which `phase` seconds have passed at the start.
    pub fn fixed(limit: u64, window: u64, phase: u64) -> Self {
        Self::new(Dimension::Requests, limit, window, Enforcement::Fixed { phase: phase * SECOND })
    }

    /// Requests per sliding window.
    pub fn sliding(limit: u64, window: u64) -> Self {
        Self::new(Dimension::Requests, limit, window, Enforcement::Sliding)
    }

    /// Requests per second, with a burst.
    pub fn bucket(limit: u64, burst: u64) -> Self {
        Self::new(Dimension::Requests, limit, SECOND, Enforcement::Bucket { burst })
    }

    /// Requests being served.
    pub fn slots(limit: u64) -> Self {
        Self::new(Dimension::Concurrency, limit, 0, Enforcement::Slots)
    }

    /// The same, on tokens.
    pub fn of_tokens(self) -> Self {
        Self { dimension: Dimension::Tokens, ..self }
    }

    /// The same, documented wrongly.
    pub fn documented_as(self, limit: u64) -> Self {
        Self { documented: limit, ..self }
    }

    /// The same, of which the documentation says nothing.
    pub fn undocumented(self) -> Self {
        self.documented_as(0)
    }
}

impl Provider {
    /// A provider that works.
    pub fn new(name: &str, priority: u32, quotas: impl Into<Vec<Quota>>) -> Self {
        Self {
            name: name.to_owned(),
            priority,
            quotas: quotas.into(),
            service: 300 * MS,
            sends_headers: false,
            sends_retry_after: false,
            counts_refused: false,
            others_per_second: 0.0,
            troubles: Vec::new(),
        }
    }

    /// With another median service time.
    pub fn taking(self, service: u64) -> Self {
        Self { service, ..self }
    }

    /// With headers on every answer, and Retry-After on refusals.
    pub fn with_headers(self) -> Self {
        Self { sends_headers: true, sends_retry_after: true, ..self }
    }

    /// With Retry-After on refusals.
    pub fn with_retry_after(self) -> Self {
        Self { sends_retry_after: true, ..self }
    }

    /// Where refused requests count.
    pub fn counting_refused(self) -> Self {
        Self { counts_refused: true, ..self }
    }

    /// Shared with others.
    pub fn shared(self, others_per_second: f64) -> Self {
        Self { others_per_second, ..self }
    }

    /// With a trouble, between two seconds.
    pub fn in_trouble(mut self, from: u64, until: u64, kind: TroubleKind) -> Self {
        self.troubles.push(Trouble { from: from * SECOND, until: until * SECOND, kind });
        self
    }
}

impl Scenario {
    /// A scenario with a steady load for some seconds.
    pub fn steady(name: &'static str, seconds: u64, per_second: f64, providers: impl Into<Vec<Provider>>) -> Self {
        let load = vec![Load { from: 0, until: seconds * SECOND, per_second }];
        Self {
            name,
            providers: providers.into(),
            load,
            sizes: Sizes { median: 1.0, sigma: 0.0, estimate_sigma: 0.0 },
            patience: 20 * SECOND,
            timeout: 10 * SECOND,
        }
    }

    /// When the last request may arrive.
    pub fn end(&self) -> u64 {
        self.load.iter().map(|load| load.until).max().unwrap_or(0)
    }

    /// The highest priority of a provider.
    pub fn highest_priority(&self) -> u32 {
        self.providers.iter().map(|provider| provider.priority).max().unwrap_or(0)
    }
}
