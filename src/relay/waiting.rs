//! What is said while pulling waits for the spool: what is missing, what goes on, and how
//! long it may take.

use super::chain;
use super::status::UNKNOWN;
use crate::spool::Error;

/// Says why pulling waits. `left`: seconds until SLS deletes the first log group that was not
/// pulled yet, or [`UNKNOWN`].
pub(super) fn waits(error: &Error, left: i64) -> String {
    let why = match error {
        Error::Full { needed, detail } => format!(
            "pulling waits for room in the spool: {needed} bytes needed, {detail}; heartbeats and delivery go on, and so does pulling once destinations have taken some logs. More room: spool.max_bytes, or free space on its file system"
        ),
        Error::Io { .. } => format!(
            "pulling waits for the spool's disk: {}; heartbeats and delivery go on, and what could not be stored is pulled again once the disk answers",
            chain(error)
        ),
        _ => return chain(error),
    };
    match left {
        UNKNOWN => why,
        left => format!(
            "{why}. SLS deletes the oldest log that is not pulled yet in about {}",
            about(left)
        ),
    }
}

fn about(seconds: i64) -> String {
    let minutes = seconds / 60;
    match minutes {
        0 => "a minute".to_owned(),
        1..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_reads_what_is_needed_and_how_long_there_is() {
        let full = Error::Full { needed: 5000, detail: "90 of 100 bytes used".to_owned() };
        let said = waits(&full, 3 * 3600 + 100);
        for part in ["5000 bytes needed", "90 of 100 bytes used", "heartbeats", "in about 3 h"] {
            assert!(said.contains(part), "{said:?} does not say {part:?}");
        }
        assert!(!waits(&full, UNKNOWN).contains("SLS deletes"));
        let source = std::io::Error::from_raw_os_error(30);
        let disk = Error::Io { action: "write", path: "segments/1".into(), source };
        let said = waits(&disk, 40);
        for part in ["Read-only", "segments/1", "heartbeats and delivery go on", "a minute"] {
            assert!(said.contains(part), "{said:?} does not say {part:?}");
        }
    }

    #[test]
    fn times_are_told_as_people_do() {
        let told = [(59, "a minute"), (61, "1 min"), (7199, "119 min"), (7200, "2 h")];
        for (seconds, text) in told.into_iter().chain([(172_800, "2 days"), (604_799, "6 days")]) {
            assert_eq!(about(seconds), text);
        }
    }
}
