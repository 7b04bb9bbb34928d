//! The time for signatures: this machine's clock, corrected when SLS refuses it.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// SLS accepts a quarter of an hour; a correction that moves less than this cannot be
/// what made it refuse the last signature.
const SMALLEST_CORRECTION: i64 = 60;

/// Seconds that the server's clock is ahead of this machine's.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// As the last answer showed it.
    observed: AtomicI64,
    /// As signatures use it: zero until SLS refuses one for its time.
    adopted: AtomicI64,
}

impl Clock {
    /// The time to sign with, seconds since the epoch.
    pub(super) fn now(&self) -> i64 {
        local_now().saturating_add(self.adopted.load(Ordering::Relaxed))
    }

    /// The offset that the last answer showed, seconds.
    pub(super) fn offset(&self) -> i64 {
        self.observed.load(Ordering::Relaxed)
    }

    /// An answer carried this `Date`.
    pub(super) fn observe(&self, date: i64) {
        self.observed.store(date.saturating_sub(local_now()), Ordering::Relaxed);
    }

    /// SLS refused a signature for its time in an answer of this `Date`: whether signing
    /// with another offset is worth a try.
    pub(super) fn adopt(&self, date: i64) -> bool {
        let offset = date.saturating_sub(local_now());
        let before = self.adopted.swap(offset, Ordering::Relaxed);
        offset.abs_diff(before) >= SMALLEST_CORRECTION.unsigned_abs()
    }
}

/// `Thu, 15 Jan 2026 08:30:00 GMT`, the form of `Date` (RFC 9110 section 5.6.7).
pub(super) fn http_date(unix: i64) -> String {
    rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&timestamp(unix))
        .unwrap_or_default()
}

/// `20260115T083000Z`, the form of `x-log-date` under version 4.
pub(super) fn compact_date(unix: i64) -> String {
    timestamp(unix).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Reads a `Retry-After`: seconds, or a date as seen from `now` on the server's clock.
pub(super) fn parse_retry_after(text: &str, now: i64) -> Option<u64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // So many digits that they do not fit are a long time, too.
        return Some(text.parse().unwrap_or(u64::MAX));
    }
    let date = parse_http_date(text)?;
    Some(u64::try_from(date.saturating_sub(now)).unwrap_or(0))
}

/// Reads a `Date`.
pub(super) fn parse_http_date(text: &str) -> Option<i64> {
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok().map(Timestamp::as_second)
}

pub(super) fn local_now() -> i64 {
    Timestamp::now().as_second()
}

fn timestamp(unix: i64) -> Timestamp {
    Timestamp::from_second(unix).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_the_form_of_the_wire() {
        assert_eq!(http_date(1_768_465_800), "Thu, 15 Jan 2026 08:30:00 GMT");
        assert_eq!(compact_date(1_768_465_800), "20260115T083000Z");
        assert_eq!(parse_http_date("Thu, 15 Jan 2026 08:30:00 GMT"), Some(1_768_465_800));
        assert_eq!(parse_http_date("yesterday"), None);
        assert_eq!(http_date(i64::MAX), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_by_a_date_on_the_servers_clock() {
        let now = 1_768_465_800;
        for (text, wait) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999999", Some(u64::MAX)),
            ("Thu, 15 Jan 2026 08:31:30 GMT", Some(90)),
            ("Thu, 15 Jan 2026 08:00:00 GMT", Some(0)),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(parse_retry_after(text, now), wait, "{text:?}");
        }
        let date = "Thu, 15 Jan 2026 08:30:00 GMT";
        assert_eq!(parse_retry_after(date, i64::MIN), Some(i64::MAX as u64));
    }

    #[test]
    fn only_a_refusal_changes_the_time_of_signatures() {
        let clock = Clock::default();
        let ahead = local_now() + 3600;
        clock.observe(ahead);
        assert!((3590..=3600).contains(&clock.offset()));
        assert!(clock.now() < ahead - 3000);
        assert!(clock.adopt(ahead));
        assert!(clock.now() >= ahead);
        assert!(!clock.adopt(ahead), "the same correction again is of no use");
        assert!(clock.adopt(local_now()), "the clock was set right meanwhile");
    }
}
