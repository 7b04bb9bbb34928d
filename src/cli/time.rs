//! Times as they are written on the command line.

use jiff::fmt::friendly::SpanParser;
use jiff::{SpanRelativeTo, Timestamp};

/// Reads a time: RFC 3339, `now`, or a span that goes back from now, such as `2h`, `15min`
/// or `1d 6h`; a day has 24 hours.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    static PARSER: SpanParser = SpanParser::new();
    if text == "now" {
        return Ok(Timestamp::now());
    }
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let back = PARSER.parse_span(text).ok();
    let back = back.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    back.and_then(|back| Timestamp::now().checked_sub(back.abs()).ok()).ok_or_else(|| {
        "write a time such as 2026-01-31T08:00:00Z, now, or a span back from now such as 2h".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_one_with_its_zone_or_a_span_back_from_now() {
        let exact = "2026-01-31T08:00:00Z".parse::<Timestamp>().unwrap();
        assert_eq!(time("2026-01-31T08:00:00Z"), Ok(exact));
        assert_eq!(time("2026-01-31T09:00:00+01:00"), Ok(exact));
        for (text, seconds) in [
            ("now", 0),
            ("90s", 90),
            ("15min", 900),
            ("2h", 7200),
            ("2h ago", 7200),
            ("1h 30m", 5400),
            ("3d", 3 * 86_400),
            ("1d 6h", 30 * 3600),
            ("2 weeks", 14 * 86_400),
        ] {
            let (before, read, after) = (Timestamp::now(), time(text).unwrap(), Timestamp::now());
            let back = jiff::SignedDuration::from_secs(seconds);
            assert!(before - back <= read && read <= after - back, "{text}: {read}");
        }
        for wrong in
            ["", "15", "2026-01-31", "2026-01-31T08:00:00", "1 month", "x", "99999999999h", "h"]
        {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
