//! The TIMESTAMP of a message (RFC 5424, 6.2.3).

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use super::decimal;

/// Writes timestamps with six fraction digits, in UTC or in a zone.
///
/// Logs of one batch mostly share their second, so the last one is kept.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    zone: Option<TimeZone>,
    second: Option<u32>,
    /// `2024-05-01T12:00:00` of `second`.
    date: Vec<u8>,
    /// `Z` or `+08:00` at `second`.
    offset: Vec<u8>,
}

impl Stamp {
    /// `None` is UTC, written as `Z`.
    pub(super) fn new(zone: Option<TimeZone>) -> Self {
        Self { zone, second: None, date: Vec::new(), offset: Vec::new() }
    }

    /// Appends the timestamp of a Unix time and its microseconds, 0 to 999,999.
    pub(super) fn write(&mut self, second: u32, micros: u32, out: &mut Vec<u8>) {
        if self.second != Some(second) {
            self.read(second);
        }
        out.extend_from_slice(&self.date);
        out.push(b'.');
        decimal::padded(micros, 6, out);
        out.extend_from_slice(&self.offset);
    }

    fn read(&mut self, second: u32) {
        self.second = Some(second);
        self.date.clear();
        self.offset.clear();
        // A `u32` of seconds always lies in the years 1970 to 2106, which jiff knows.
        let instant = Timestamp::from_second(i64::from(second)).unwrap_or_default();
        // Zones had odd seconds until 1972, which an offset cannot say. Local time and
        // offset are rounded alike, so that together they still name the right instant.
        let minutes =
            self.zone.as_ref().map(|zone| (zone.to_offset(instant).seconds() + 30).div_euclid(60));
        let shifted = i64::from(second) + i64::from(minutes.unwrap_or(0)) * 60;
        let local = Offset::UTC.to_datetime(Timestamp::from_second(shifted).unwrap_or_default());
        let fields = [
            (i32::from(local.year()), 4, b'-'),
            (i32::from(local.month()), 2, b'-'),
            (i32::from(local.day()), 2, b'T'),
            (i32::from(local.hour()), 2, b':'),
            (i32::from(local.minute()), 2, b':'),
        ];
        for (number, width, after) in fields {
            decimal::padded(number.unsigned_abs(), width, &mut self.date);
            self.date.push(after);
        }
        decimal::padded(i32::from(local.second()).unsigned_abs(), 2, &mut self.date);
        match minutes {
            None => self.offset.push(b'Z'),
            Some(minutes) => {
                self.offset.push(if minutes < 0 { b'-' } else { b'+' });
                decimal::padded(minutes.unsigned_abs() / 60, 2, &mut self.offset);
                self.offset.push(b':');
                decimal::padded(minutes.unsigned_abs() % 60, 2, &mut self.offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(zone: &str, second: u32, micros: u32) -> String {
        let zone = (!zone.is_empty()).then(|| TimeZone::get(zone).unwrap());
        let mut out = Vec::new();
        Stamp::new(zone).write(second, micros, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn utc_is_written_with_z_and_six_digits() {
        assert_eq!(stamp("", 0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(stamp("", 1_709_210_096, 7), "2024-02-29T12:34:56.000007Z");
        assert_eq!(stamp("", u32::MAX, 999_999), "2106-02-07T06:28:15.999999Z");
    }

    #[test]
    fn zones_have_their_offset_of_that_day_with_a_colon() {
        for (zone, second, want) in [
            ("Asia/Shanghai", 1_709_210_096, "2024-02-29T20:34:56.000000+08:00"),
            ("America/New_York", 1_709_210_096, "2024-02-29T07:34:56.000000-05:00"),
            ("America/New_York", 1_720_000_000, "2024-07-03T05:46:40.000000-04:00"),
            ("Asia/Kolkata", 1_709_210_096, "2024-02-29T18:04:56.000000+05:30"),
            ("America/St_Johns", 1_709_210_096, "2024-02-29T09:04:56.000000-03:30"),
            ("America/St_Johns", 0, "1969-12-31T20:30:00.000000-03:30"),
            ("Asia/Kathmandu", 1_709_210_096, "2024-02-29T18:19:56.000000+05:45"),
            ("UTC", 1_709_210_096, "2024-02-29T12:34:56.000000+00:00"),
            // Liberia was 44 minutes and 30 seconds behind until 1972.
            ("Africa/Monrovia", 60, "1969-12-31T23:17:00.000000-00:44"),
        ] {
            assert_eq!(stamp(zone, second, 0), want, "{zone}");
        }
    }

    #[test]
    fn a_change_of_the_second_is_seen() {
        let mut stamp = Stamp::new(None);
        let mut out = Vec::new();
        for second in [5, 5, 6, 5] {
            stamp.write(second, 0, &mut out);
            out.push(b' ');
        }
        let text = String::from_utf8(out).unwrap();
        let seconds: Vec<_> = text.split_whitespace().map(|stamp| &stamp[17..19]).collect();
        assert_eq!(seconds, ["05", "05", "06", "05"]);
    }
}
