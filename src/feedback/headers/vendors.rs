//! Fields that tell a whole quota, or several, in a form of their provider's own.

use crate::config::Dimension;

use super::field::{Field, members, trim};
use super::number::count;
use super::slots::Slots;
use super::{MAX_QUOTAS, QuotaReport, Report, reset};

/// The provider-specific fields of a response, by name.
#[derive(Default)]
pub(super) struct VendorFields<'a>(Slots<VendorField<'a>, MAX_QUOTAS>);

struct VendorField<'a> {
    name: &'a [u8],
    field: Field<'a>,
    read: Reader,
}

/// Reads a field that was received at the given time into the report.
type Reader = fn(&Field, u64, &mut Report);

/// Which names have a form.
enum Names {
    Exactly(&'static str),
    From(&'static str),
    EndingIn(&'static str),
}

const FORMS: [(Names, Reader); 6] = [
    (Names::EndingIn("-api-call-limit"), used_of_limit),
    (Names::From("zendesk-ratelimit-"), zendesk),
    (Names::Exactly("sforce-limit-info"), salesforce),
    (Names::Exactly("x-ms-ratelimit-remaining-resource"), azure_resource),
    (Names::Exactly("auth0-client-quota-limit"), auth0),
    (Names::Exactly("auth0-organization-quota-limit"), auth0),
];

impl Names {
    fn include(&self, name: &[u8]) -> bool {
        let (part, known) = match self {
            Self::Exactly(known) => (Some(name), known),
            Self::From(known) => (name.get(..known.len()), known),
            Self::EndingIn(known) => {
                let start = name.len().checked_sub(known.len());
                (start.and_then(|start| name.get(start..)), known)
            }
        };
        part.is_some_and(|part| part.eq_ignore_ascii_case(known.as_bytes()))
    }
}

impl<'a> VendorFields<'a> {
    /// Takes a field in if its name has a form of its own, and tells whether it has.
    pub(super) fn add(&mut self, name: &'a [u8], value: &'a [u8]) -> bool {
        let Some((_, read)) = FORMS.iter().find(|(names, _)| names.include(name)) else {
            return false;
        };
        let found = self.0.find_or_add(
            |known| known.name.eq_ignore_ascii_case(name),
            || VendorField { name, field: Field::default(), read: *read },
        );
        if let Some(found) = found {
            found.field.add(value);
        }
        true
    }

    pub(super) fn report(&self, received_at_unix_ms: u64, report: &mut Report) {
        for vendor in self.0.iter() {
            (vendor.read)(&vendor.field, received_at_unix_ms, report);
        }
    }
}

const REQUESTS: QuotaReport = QuotaReport::unknown(Dimension::Requests);

/// Shopify and Gorgias: `32/40`.
fn used_of_limit(field: &Field, _received_at_unix_ms: u64, report: &mut Report) {
    if let Some(quota) = field.single(fraction) {
        report.add(quota);
    }
}

/// Salesforce: `api-usage=25/5000; per-app-api-usage=17/250(appName=name)`.
/// Its other limits (`api-bursts`) are not documented well enough to be read.
fn salesforce(field: &Field, _received_at_unix_ms: u64, report: &mut Report) {
    let usages = field
        .lines()
        .iter()
        .flat_map(|line| line.split(|&byte| byte == b';' || byte == b','))
        .filter_map(key_and_value);
    for (key, value) in usages {
        let used_of_limit = value.split(|&byte| byte == b'(').next();
        if let (b"api-usage" | b"per-app-api-usage", Some(quota)) = (key, used_of_limit.and_then(fraction)) {
            report.add(quota);
        }
    }
}

/// Zendesk: `zendesk-ratelimit-<name>: total=100; remaining=99; resets=41`.
fn zendesk(field: &Field, received_at_unix_ms: u64, report: &mut Report) {
    let quota = field.single(|text| {
        if text.contains(&b',') {
            return None; // two values joined
        }
        let mut quota = REQUESTS;
        for (key, value) in text.split(|&byte| byte == b';').filter_map(key_and_value) {
            match key {
                b"total" => quota.limit = count(value),
                b"remaining" => quota.remaining = count(value),
                b"resets" => quota.reset_in_ms = reset::read(value, received_at_unix_ms),
                _ => {}
            }
        }
        Some(quota)
    });
    if let Some(quota) = quota {
        report.add(quota);
    }
}

/// Azure Resource Manager: `Microsoft.Compute/HighCostGet3Min;197,Other30Min;1297`.
/// The window in such a policy name is free text and is not read.
fn azure_resource(field: &Field, _received_at_unix_ms: u64, report: &mut Report) {
    for member in field.lines().iter().flat_map(|line| members(line)) {
        let remaining = member.rsplit(|&byte| byte == b';').next();
        report.add(QuotaReport {
            remaining: remaining.filter(|text| text.len() < member.len()).and_then(count),
            ..REQUESTS
        });
    }
}

/// Auth0: `b=per_hour;q=100;r=99;t=1,b=per_day;q=300;r=299;t=1`. What is
/// counted are issued tokens, one to a request.
fn auth0(field: &Field, received_at_unix_ms: u64, report: &mut Report) {
    for member in field.lines().iter().flat_map(|line| members(line)) {
        let mut quota = REQUESTS;
        for (key, value) in member.split(|&byte| byte == b';').filter_map(key_and_value) {
            match key {
                b"b" => quota.window_ms = auth0_window(value),
                b"q" => quota.limit = count(value),
                b"r" => quota.remaining = count(value),
                b"t" => quota.reset_in_ms = reset::read(value, received_at_unix_ms),
                _ => {}
            }
        }
        report.add(quota);
    }
}

fn auth0_window(bucket: &[u8]) -> Option<u64> {
    match bucket {
        b"per_minute" => Some(60_000),
        b"per_hour" => Some(3_600_000),
        b"per_day" => Some(86_400_000),
        _ => None,
    }
}

/// One `used/limit`. Use beyond the limit leaves nothing.
fn fraction(text: &[u8]) -> Option<QuotaReport> {
    let slash = text.iter().position(|&byte| byte == b'/')?;
    let (used, limit) = text.split_at_checked(slash)?;
    let used = count(used)?;
    let limit = count(limit.strip_prefix(b"/")?)?;
    Some(QuotaReport { limit: Some(limit), remaining: Some(limit.saturating_sub(used)), ..REQUESTS })
}

/// One `key=value`, with spaces around either.
fn key_and_value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = text.iter().position(|&byte| byte == b'=')?;
    let (key, value) = text.split_at_checked(equals)?;
    Some((trim(key), trim(value.strip_prefix(b"=")?)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::quotas;
    use crate::config::Dimension::Requests;

    #[test]
    fn shopify_and_gorgias_tell_use_and_limit() {
        for name in ["X-Shopify-Shop-Api-Call-Limit", "x-gorgias-account-api-call-limit"] {
            assert_eq!(quotas(Requests, &[(name, "32/40")]), [(Some(40), Some(8), None, None)]);
            assert_eq!(quotas(Requests, &[(name, "41/40")]), [(Some(40), Some(0), None, None)]);
            for value in ["40", "32/", "/40", "-1/40", "32/40/50", "a/b", "32 / 40", "32/40, 33/40"] {
                assert_eq!(quotas(Requests, &[(name, value)]), [], "{value}");
            }
            assert_eq!(quotas(Requests, &[(name, "32/40"), (name, "33/40")]), []);
        }
    }

    #[test]
    fn salesforce_tells_use_of_the_org_and_the_app() {
        let name = "Sforce-Limit-Info";
        let both = [(Some(250), Some(233), None, None), (Some(5000), Some(4975), None, None)];
        let in_one = "api-usage=25/5000; per-app-api-usage=17/250(appName=a=1/2;b)";
        assert_eq!(quotas(Requests, &[(name, in_one)]), both);
        let lines = [(name, "per-app-api-usage=17/250"), (name, "api-usage=25/5000")];
        assert_eq!(quotas(Requests, &lines), both);
        for value in ["api-usage=18", "api-usage=many/few", "api-bursts=1/750", "18/5000", ""] {
            assert_eq!(quotas(Requests, &[(name, value)]), [], "{value}");
        }
    }

    #[test]
    fn zendesk_tells_three_numbers() {
        let name = "zendesk-ratelimit-tickets-index";
        let whole = "total=100; remaining=99; resets=41";
        let told = [(Some(100), Some(99), Some(41_000), None)];
        assert_eq!(quotas(Requests, &[(name, whole)]), told);
        assert_eq!(quotas(Requests, &[(name, "resets=41;remaining = 99;total=100;x")]), told);
        let partly = "total=none; remaining=99; resets=-1";
        assert_eq!(quotas(Requests, &[(name, partly)]), [(None, Some(99), None, None)]);
        assert_eq!(quotas(Requests, &[(name, whole), (name, partly)]), []);
        let joined = format!("{whole}, {partly}");
        assert_eq!(quotas(Requests, &[(name, &joined)]), []);
        assert_eq!(quotas(Requests, &[(name, whole), ("Zendesk-RateLimit-Other", partly)]).len(), 2);
    }

    #[test]
    fn azure_tells_what_remains_of_each_policy() {
        let name = "x-ms-ratelimit-remaining-resource";
        let value = "Microsoft.Compute/Get3Min;197,Microsoft.Compute/Get30Min;1297, Bad;x, 12";
        let expected = [(None, Some(197), None, None), (None, Some(1297), None, None)];
        assert_eq!(quotas(Requests, &[(name, value)]), expected);
    }

    #[test]
    fn auth0_tells_a_bucket_for_each_window() {
        for name in ["Auth0-Client-Quota-Limit", "auth0-organization-quota-limit"] {
            let value = "b=per_hour;q=100;r=99;t=1,b=per_day;q=300;r=x;t=2, b=per_moon;q=5";
            let expected = [
                (Some(5), None, None, None),
                (Some(100), Some(99), Some(1000), Some(3_600_000)),
                (Some(300), None, Some(2000), Some(86_400_000)),
            ];
            assert_eq!(quotas(Requests, &[(name, value)]), expected);
        }
    }
}
