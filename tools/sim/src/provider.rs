//! A provider at work: it lets requests in or refuses them, as its quotas and troubles have it.

use crate::meter::Meter;
use crate::scenario::{self, Dimension, MS, SECOND, TroubleKind};

/// How long it takes to refuse a request, or to fail.
const REFUSAL: u64 = 5 * MS;

/// A provider with what it counted.
pub struct Provider<'a> {
    spec: &'a scenario::Provider,
    meters: Vec<Meter>,
}

/// What a provider does with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Reaction {
    /// It serves it, which takes so long.
    Serves(u64, Headers),
    /// It refuses it, after so long.
    Refuses(u64, Headers),
    /// It fails, after so long.
    Fails(u64),
    /// It never answers.
    IsSilent,
}

/// Response headers.
pub type Headers = Vec<(String, String)>;

impl<'a> Provider<'a> {
    /// Nothing is counted yet.
    pub fn new(spec: &'a scenario::Provider) -> Self {
        Self { spec, meters: spec.quotas.iter().map(Meter::new).collect() }
    }

    /// A request comes in. `luck` in (0, 1) decides whether a trouble hits it, `pace` multiplies its service time.
    pub fn take(&mut self, now: u64, tokens: u64, luck: f64, pace: f64) -> Reaction {
        let mut pace = pace;
        for trouble in self.spec.troubles.iter().filter(|trouble| (trouble.from..trouble.until).contains(&now)) {
            match trouble.kind {
                TroubleKind::Errors(share) if luck < share => return Reaction::Fails(REFUSAL),
                TroubleKind::Silence(share) if luck < share => return Reaction::IsSilent,
                TroubleKind::Errors(_) | TroubleKind::Silence(_) => {}
                TroubleKind::Slow(factor) => pace *= factor,
            }
        }
        if self.lets_in(now, tokens) {
            Reaction::Serves((self.spec.service as f64 * pace) as u64, self.headers(now, None))
        } else {
            Reaction::Refuses(REFUSAL, self.headers(now, Some(tokens)))
        }
    }

    /// Somebody else's request with the same key; it holds no slot worth speaking of.
    pub fn take_from_others(&mut self, now: u64) {
        if self.lets_in(now, 1) {
            self.release();
        }
    }

    /// A request has been served, or its caller hung up.
    pub fn release(&mut self) {
        self.meters.iter_mut().for_each(Meter::release);
    }

    fn lets_in(&mut self, now: u64, tokens: u64) -> bool {
        let fits = self.meters.iter_mut().all(|meter| units(meter, tokens) <= meter.remaining(now));
        for meter in &mut self.meters {
            if fits || (self.spec.counts_refused && meter.dimension() == Dimension::Requests) {
                meter.take(now, units(meter, tokens));
            }
        }
        fits
    }

    /// The headers of an answer, as they are when the request is judged; `refused` has the tokens of a refused one.
    fn headers(&mut self, now: u64, refused: Option<u64>) -> Headers {
        let mut headers = Headers::new();
        if self.spec.sends_headers {
            for meter in &mut self.meters {
                let name = match meter.dimension() {
                    Dimension::Requests => "requests",
                    Dimension::Tokens => "tokens",
                    Dimension::Concurrency => continue,
                };
                let mut add = |what: &str, value: String| headers.push((format!("x-ratelimit-{what}-{name}"), value));
                add("limit", meter.limit().to_string());
                add("remaining", meter.remaining(now).to_string());
                if let Some(reset) = meter.reset(now) {
                    add("reset", format!("{}ms", reset.div_ceil(MS)));
                }
            }
        }
        if let Some(tokens) = refused.filter(|_| self.spec.sends_retry_after) {
            let waits = self.meters.iter_mut().filter_map(|meter| meter.wait(now, units(meter, tokens)));
            let seconds = waits.max().unwrap_or(0).div_ceil(SECOND).max(1);
            headers.push(("retry-after".to_owned(), seconds.to_string()));
        }
        headers
    }
}

/// What a request of so many tokens uses of a quota.
fn units(meter: &Meter, tokens: u64) -> u64 {
    if meter.dimension() == Dimension::Tokens { tokens } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{MINUTE, Quota};

    #[test]
    fn all_quotas_hold_at_once_and_a_refusal_uses_none() {
        let quotas = [Quota::fixed(3, MINUTE, 0), Quota::sliding(100, MINUTE).of_tokens()];
        let spec = scenario::Provider::new("a", 1, quotas).with_headers();
        let mut provider = Provider::new(&spec);
        assert!(matches!(provider.take(0, 60, 0.5, 1.0), Reaction::Serves(..)));
        let Reaction::Refuses(_, headers) = provider.take(SECOND, 50, 0.5, 1.0) else { panic!("too many tokens") };
        let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        assert_eq!(value("x-ratelimit-remaining-requests"), Some("2"));
        assert_eq!(value("x-ratelimit-reset-requests"), Some("59000ms"));
        assert_eq!(value("x-ratelimit-remaining-tokens"), Some("40"));
        assert_eq!(value("retry-after"), Some("59"));
        assert!(matches!(provider.take(SECOND, 40, 0.5, 1.0), Reaction::Serves(..)));
    }

    #[test]
    fn refused_requests_count_where_they_do() {
        let spec = scenario::Provider::new("a", 1, [Quota::sliding(2, MINUTE)]).counting_refused();
        let mut provider = Provider::new(&spec);
        let mut served = |at| matches!(provider.take(at, 1, 0.5, 1.0), Reaction::Serves(..));
        assert_eq!([0, 1, 30 * SECOND].map(&mut served), [true, true, false]);
        assert_eq!([MINUTE, 2 * MINUTE].map(&mut served), [false, true]);
    }

    #[test]
    fn troubles_last_as_long_as_they_last() {
        let spec = scenario::Provider::new("a", 1, []).in_trouble(10, 20, TroubleKind::Errors(0.5)).in_trouble(
            30,
            40,
            TroubleKind::Slow(3.0),
        );
        let mut provider = Provider::new(&spec);
        let served = |took| Reaction::Serves(took, Headers::new());
        assert_eq!(provider.take(10 * SECOND, 1, 0.4, 1.0), Reaction::Fails(REFUSAL));
        assert_eq!(provider.take(10 * SECOND, 1, 0.6, 1.0), served(300 * MS));
        assert_eq!(provider.take(20 * SECOND, 1, 0.4, 1.0), served(300 * MS));
        assert_eq!(provider.take(30 * SECOND, 1, 0.4, 1.0), served(900 * MS));
    }
}
