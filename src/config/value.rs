//! Sizes, time spans and the other small languages of configuration values.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::fmt::friendly::{SpanParser, SpanPrinter};
use jiff::tz::TimeZone;

use super::nearest::nearest;
use super::settings::Start;
use crate::spool::StartAt;

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads bytes: `10 GiB`, `500 MB`, `1.5 GiB`, or digits alone.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let unusable = || format!("{text:?} is no size: write one like \"10 GiB\" or \"500 MB\"");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start_matches(' ');
    let factor = match UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name)) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => 1,
        None => {
            let names: Vec<_> = UNITS.iter().map(|(name, _)| *name).collect();
            return Err(format!("{unit:?} is no unit of size: use one of {}", names.join(", ")));
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(unusable());
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| unusable())?);
    let fraction: u128 = fraction.parse().map_err(|_| unusable())?;
    let whole: u64 = whole.parse().map_err(|_| format!("{text:?} is too large"))?;
    let bytes = u128::from(whole) * u128::from(factor) + fraction * u128::from(factor) / scale;
    u64::try_from(bytes).map_err(|_| format!("{text:?} is too large"))
}

/// Writes bytes the way [`size`] reads them.
pub(super) fn show_size(bytes: u64) -> String {
    let unit = UNITS
        .iter()
        .skip(5)
        .rev()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) => format!("{} {name}", bytes / factor),
        None => format!("{bytes} bytes"),
    }
}

/// Reads a time span: `30 s`, `500ms`, `2 min`, `1h 30m`.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    static PARSER: SpanParser = SpanParser::new();
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return Err(format!("a unit is missing: write \"{text} s\" for seconds"));
    }
    PARSER.parse_unsigned_duration(text).map_err(|_| {
        format!("{text:?} is no time span: write one like \"30 s\", \"500 ms\" or \"2 min\"")
    })
}

/// Writes a time span the way [`span`] reads it.
pub(super) fn show_span(span: Duration) -> String {
    SpanPrinter::new()
        .spacing(jiff::fmt::friendly::Spacing::BetweenUnitsAndDesignators)
        .unsigned_duration_to_string(&span)
}

/// What is wrong with a number outside of its limits.
pub(super) fn outside<T: PartialOrd + Copy>(
    value: T,
    limits: &RangeInclusive<T>,
    show: impl Fn(T) -> String,
) -> Result<T, String> {
    if value < *limits.start() {
        Err(format!("this is too little: at least {}", show(*limits.start())))
    } else if value > *limits.end() {
        Err(format!("this is too much: at most {}", show(*limits.end())))
    } else {
        Ok(value)
    }
}

/// Reads where to start: `begin`, `end`, or a time with its zone.
pub(super) fn start(text: &str) -> Result<Start, String> {
    match text {
        "begin" => Ok(Start::Begin),
        "end" => Ok(Start::End),
        _ => text.parse().map(Start::Time).map_err(|_| {
            format!("{text:?} is none of begin, end and a time such as 2026-01-31T08:00:00Z")
        }),
    }
}

/// Reads where a destination starts: `now`, `oldest`, or a time with its zone.
pub(super) fn start_at(text: &str) -> Result<StartAt, String> {
    match text {
        "now" => Ok(StartAt::Now),
        "oldest" => Ok(StartAt::Oldest),
        _ => {
            let time = text.parse::<jiff::Timestamp>();
            time.map(|time| StartAt::Received(time.as_millisecond())).map_err(|_| {
                format!("{text:?} is none of now, oldest and a time such as 2026-01-31T08:00:00Z")
            })
        }
    }
}

/// Reads a zone; UTC is none.
pub(super) fn zone(text: &str) -> Result<Option<TimeZone>, String> {
    if text.eq_ignore_ascii_case("utc") {
        return Ok(None);
    }
    TimeZone::get(text).map(Some).map_err(|_| {
        format!("{text:?} is no zone this machine knows: use UTC or a name such as Asia/Singapore")
    })
}

/// Reads one of a few words.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, String> {
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*choice);
    }
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    Err(match nearest(text, names.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("{text:?} is none of {}", names.join(", ")),
    })
}

const LEVELS: [(&str, ()); 6] =
    [("error", ()), ("warn", ()), ("info", ()), ("debug", ()), ("trace", ()), ("off", ())];

/// Checks a filter: a level, or `target=level` pairs set apart by commas.
pub(super) fn level(text: &str) -> Result<String, String> {
    for part in text.split(',') {
        let (target, level) = part.split_once('=').unwrap_or(("-", part));
        if target.trim().is_empty() {
            return Err(format!("{part:?} has no target before the equals sign"));
        }
        choice(&level.trim().to_ascii_lowercase(), &LEVELS)?;
    }
    Ok(text.to_owned())
}

/// A name of ours: it is shown, and labels metrics.
pub(super) fn name(text: &str) -> Result<String, &'static str> {
    if text.chars().any(char::is_control) || text.trim() != text {
        Err("a name has no control characters and no blank at its ends")
    } else if text.chars().count() > 64 {
        Err("a name has at most 64 characters")
    } else {
        Ok(text.to_owned())
    }
}

/// A project stands in a host name.
pub(super) fn project(text: &str) -> Result<String, &'static str> {
    let fits = text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    fits.then(|| text.to_owned()).ok_or("a project has only letters, digits and hyphens, up to 63")
}

/// A logstore or a consumer group stands in the path of a request.
pub(super) fn path_part(text: &str) -> Result<String, &'static str> {
    let unfit = |c: char| "/?#%\\".contains(c) || c.is_whitespace() || c.is_control();
    if matches!(text, "." | "..") || text.contains(unfit) {
        return Err("a name in SLS has no blank and none of / ? # % \\");
    }
    Ok(text.to_owned())
}

/// A region's id is part of the signature.
pub(super) fn region(text: &str) -> Result<String, &'static str> {
    let fits = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    fits.then(|| text.to_owned()).ok_or("a region is letters, digits and hyphens: cn-hangzhou")
}

/// A field of a syslog header (RFC 5424, 6): visible ASCII, up to a length.
pub(super) fn header_field(text: &str, longest: usize) -> Result<String, String> {
    if text.len() <= longest && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(format!("a syslog header takes at most {longest} ASCII characters here, without blanks"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_strictly() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("10 GiB", 10 << 30),
            ("10GiB", 10 << 30),
            ("10 gib", 10 << 30),
            ("500 MB", 500_000_000),
            ("1.5 KiB", 1536),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            " ",
            "GiB",
            "-1",
            "+1",
            "1e3",
            "1..5 GB",
            "1. GB",
            ".5 GB",
            "10 G",
            "10 Gib B",
            "18446744073709551616",
            "16777216 TiB",
            "1.0000000001 B",
            "١ GB",
            "99999999999999999999999 TB",
        ] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for bytes in [1, 1000, 1 << 20, 10 << 30, 16 << 20, 3 << 40, 1025] {
            assert_eq!(size(show_size(bytes).trim_end_matches("ytes")), Ok(bytes));
        }
        for millis in [1, 500, 1000, 90_000, 3_600_000, 86_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(span(&show_span(duration)), Ok(duration));
        }
        assert_eq!(show_span(Duration::from_secs(90)), "1 m 30 s");
    }

    #[test]
    fn spans_need_a_unit_and_no_sign() {
        for (text, millis) in
            [("30 s", 30_000), ("500ms", 500), ("2 min", 120_000), ("1h 30m", 5_400_000)]
        {
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "-5 s", "5 parsecs", "5 s ago", "1 month"] {
            assert!(span(text).is_err(), "{text:?}");
        }
        assert!(span("30").unwrap_err().contains("\"30 s\""));
    }

    #[test]
    fn a_misspelt_level_is_no_target() {
        for text in ["info", "WARN", "info,sls_relay::spool=debug", "hyper=off"] {
            assert_eq!(level(text), Ok(text.to_owned()));
        }
        for text in ["inof", "", "info,", "=debug", "spool=loud"] {
            assert!(level(text).is_err(), "{text:?}");
        }
        assert_eq!(level("inof").unwrap_err(), "did you mean \"info\"?");
    }

    #[test]
    fn a_destination_starts_at_a_word_or_a_time_with_its_zone() {
        assert_eq!(start_at("now"), Ok(StartAt::Now));
        assert_eq!(start_at("oldest"), Ok(StartAt::Oldest));
        let time = StartAt::Received(1_769_846_400_000);
        assert_eq!(start_at("2026-01-31T16:00:00+08:00"), Ok(time));
        for text in ["", "Now", "begin", "2026-01-31", "2026-01-31T08:00:00"] {
            assert!(start_at(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_start_is_a_word_or_a_time_with_its_zone() {
        assert_eq!(start("begin"), Ok(Start::Begin));
        assert_eq!(start("end"), Ok(Start::End));
        let time = "2026-01-31T08:00:00Z".parse().map(Start::Time).unwrap();
        assert_eq!(start("2026-01-31T16:00:00+08:00"), Ok(time));
        for text in ["", "Begin", "2026-01-31", "2026-01-31T08:00:00", "now"] {
            assert!(start(text).is_err(), "{text:?}");
        }
    }
}
