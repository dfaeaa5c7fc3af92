//! Outcomes of a request, told apart: each means something else for health, latency and usage.

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Served.
    Success,
    /// Refused because of a rate limit.
    RateLimited,
    /// Refused because a budget or a long quota is spent.
    QuotaExhausted,
    /// Refused as not allowed: the key is wrong, blocked or unpaid.
    Forbidden,
    /// The provider failed.
    ServerError,
    /// The provider is overloaded, whoever asks.
    Overloaded,
    /// No answer in time.
    Timeout,
    /// Refused as wrong: the caller's fault, so the provider counts as working.
    ClientError,
    /// Given up by the caller: says nothing of the provider.
    Cancelled,
}

impl Outcome {
    /// The outcome that an HTTP status stands for (RFC 9110; 529 is what several LLM APIs send when overloaded).
    pub fn from_http_status(status: i32) -> Self {
        match status {
            429 => Self::RateLimited,
            401..=403 => Self::Forbidden,
            408 => Self::Timeout,
            503 | 529 => Self::Overloaded,
            400..=499 => Self::ClientError,
            // Nobody defines 600 and above, but servers send them.
            500.. => Self::ServerError,
            _ => Self::Success,
        }
    }

    /// How much it weighs in the health average, relative to `ewma_alpha`; `None`: it says nothing of the provider.
    pub(crate) fn health_weight(self) -> Option<f64> {
        match self {
            Self::Success | Self::ClientError | Self::ServerError | Self::Overloaded => Some(0.4),
            Self::Timeout => Some(0.8),
            Self::RateLimited | Self::QuotaExhausted => Some(1.0),
            Self::Forbidden => Some(2.0),
            Self::Cancelled => None,
        }
    }

    /// Whether the provider did its part.
    pub(crate) fn is_success(self) -> bool {
        matches!(self, Self::Success | Self::ClientError)
    }

    /// Whether it counts towards a cooldown.
    pub(crate) fn is_failure(self) -> bool {
        !self.is_success() && self != Self::Cancelled
    }

    /// Whether its duration tells how fast the provider works: a rejection is fast because nothing was done.
    pub(crate) fn has_latency(self) -> bool {
        matches!(self, Self::Success | Self::Timeout)
    }

    /// Whether a quota refused it.
    pub(crate) fn is_rate_limited(self) -> bool {
        matches!(self, Self::RateLimited | Self::QuotaExhausted)
    }

    /// Whether the provider refused it before doing anything, so that what is not told of its usage is nothing.
    pub(crate) fn is_rejection(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::QuotaExhausted | Self::Forbidden | Self::Overloaded | Self::ClientError
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_statuses() {
        for (status, outcome) in [
            (200, Outcome::Success),
            (304, Outcome::Success),
            (400, Outcome::ClientError),
            (401, Outcome::Forbidden),
            (403, Outcome::Forbidden),
            (404, Outcome::ClientError),
            (408, Outcome::Timeout),
            (429, Outcome::RateLimited),
            (500, Outcome::ServerError),
            (503, Outcome::Overloaded),
            (529, Outcome::Overloaded),
            (999, Outcome::ServerError),
        ] {
            assert_eq!(Outcome::from_http_status(status), outcome, "{status}");
        }
    }
}
