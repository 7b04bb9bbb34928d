//! Named places at which a test kills the process: one at every step towards something
//! durable, the last moment before it and the first after it.
//!
//! In builds with debug assertions `SLS_RELAY_CRASH_AT=NAME` kills the process with SIGKILL
//! where it passes the point of that name, `NAME:N` where it does so the Nth time. In all
//! other builds a point is nothing. `tests/crash_points.rs` dies at each of them.

/// Every point and what it is the moment of.
pub const POINTS: &[(&str, &str)] = &[
    ("directories-made", "the spool's directories are there, nothing was read yet"),
    ("catalog-unusable", "the catalog does not open and is not set aside yet"),
    ("catalog-aside", "the bad catalog is set aside, no new one is made"),
    ("recovery-cut", "the unfinished tail of a segment is cut off, the segment not synced"),
    ("recovery-synced", "a segment that was read is synced"),
    ("recovery-aside", "a segment that never held anything is set aside or removed"),
    ("recovery-removed", "a segment below the floor is removed"),
    ("recovery-settled", "the files agree with what was found, no new segment is made"),
    ("segment-created", "the file of a new segment is there and empty"),
    ("segment-synced", "a new segment's snapshot is synced, its name is not"),
    ("segment-named", "a new segment is durable, name included, and nobody uses it"),
    ("catalog-filling", "one segment that the catalog did not know is added to it"),
    ("catalog-filled", "the catalog knows all segments"),
    ("spool-opened", "the spool is open, nothing was written since"),
    ("identity-written", "the identity is written under another name"),
    ("identity-named", "the identity is durable, nobody has used it"),
    ("write-split", "the first part of a long write is written"),
    ("group-written", "a group is written and not synced"),
    ("group-synced", "a group is synced, and nobody knows"),
    ("acks-synced", "the acks in a group are durable, and nobody knows"),
    ("group-published", "readers may read a group, its batches have no receipts"),
    ("floor-synced", "the floor has risen, nothing below it is removed"),
    ("segment-rolled", "a new segment is in use, none of the old ones is removed"),
    ("between-removals", "a segment is removed and another one is due"),
    ("removals-unsynced", "segments are removed, their directory is not synced"),
    ("removals-synced", "segments are removed, the catalog still knows their batches"),
    ("reserve-given-up", "the reserve is removed from a full disk, nothing written in its place"),
    ("catalog-inserting", "durable batches are due for the catalog"),
    ("catalog-inserted", "the catalog knows them"),
    ("copy-begun", "the file for a copy in the quarantine is there and empty"),
    ("ledger-due", "a line is due for the ledger; the copy it names is written, not synced"),
    ("ledger-written", "a line of the ledger is written and not synced"),
    ("ledger-synced", "a line of the ledger is durable"),
    ("copy-noted", "a copy in the quarantine is noted, not synced and without its name"),
    ("copy-synced", "a copy in the quarantine is synced and without its name"),
    ("copy-named", "a copy in the quarantine has its name, which is not synced"),
    ("intent-durable", "the spool knows what will be committed, nothing was asked"),
    ("commit-due", "a checkpoint may be committed, nothing was asked"),
    ("commit-taken", "the server took a checkpoint, and nobody knows"),
    ("commit-noted", "the spool was told of a commit, nothing of it is durable"),
    ("chunk-written", "the socket took a chunk"),
    ("logs-proven", "the receiver has read what was sent, nothing is confirmed"),
    ("logs-confirmed", "logs are confirmed, the spool was not told"),
    ("acks-noted", "the spool was told of an ack, nothing of it is durable"),
    ("last-group-due", "an orderly end: all is written but the group that proves the last"),
    ("last-group-proven", "an orderly end: the catalog is not up to date"),
    ("ended", "an orderly end: everything is written, the lock is held"),
];

/// Marks the point `name`: ends the process where `SLS_RELAY_CRASH_AT` says so, and does
/// nothing in builds without debug assertions.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write as _;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    /// The point to end at, and how often it will have been passed then.
    pub(super) struct Armed {
        pub(super) name: &'static str,
        pub(super) passes: u64,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    pub(super) fn pass(name: &str) {
        let armed = ARMED.get_or_init(|| {
            let wanted = std::env::var("SLS_RELAY_CRASH_AT").ok()?;
            let armed = Armed::parse(&wanted);
            assert!(armed.is_some(), "SLS_RELAY_CRASH_AT={wanted} is no crash point");
            armed
        });
        let Some(armed) = armed.as_ref().filter(|armed| armed.name == name) else { return };
        if PASSED.fetch_add(1, Ordering::SeqCst) + 1 == armed.passes {
            let _ = writeln!(std::io::stderr(), "crash point {name}, pass {}", armed.passes);
            let _ = kill_process(getpid(), Signal::KILL);
            // Not one more step, however long the signal takes.
            loop {
                std::thread::park();
            }
        }
    }

    impl Armed {
        /// `NAME` or `NAME:N`, where the name is one of the points.
        pub(super) fn parse(text: &str) -> Option<Self> {
            let (name, passes) = text.split_once(':').unwrap_or((text, "1"));
            let (name, _) = super::POINTS.iter().find(|(known, _)| *known == name)?;
            let passes = passes.parse().ok().filter(|passes| *passes > 0)?;
            Some(Self { name, passes })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn every_point_has_its_own_name_and_one_place_in_the_sources() {
        let names: BTreeSet<&str> = POINTS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), POINTS.len(), "a name twice");
        let call = concat!("crash::", "point(\"");
        let mut passed: Vec<String> = Vec::new();
        for path in sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
            let text = std::fs::read_to_string(path).unwrap();
            let calls = text.split(call).skip(1);
            passed.extend(calls.map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
        passed.sort();
        let expected: Vec<&str> = names.into_iter().collect();
        assert_eq!(passed, expected, "the list and the calls differ");
    }

    #[test]
    #[cfg(debug_assertions)]
    fn a_point_is_named_alone_or_with_the_number_of_its_pass() {
        let parse = |text| armed::Armed::parse(text).map(|armed| (armed.name, armed.passes));
        assert_eq!(parse("ended"), Some(("ended", 1)));
        assert_eq!(parse("ended:12"), Some(("ended", 12)));
        for wrong in ["", "nowhere", "ended:", "ended:0", "ended:-1", "ended:x", ":1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    fn sources(dir: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => found.extend(sources(&path)),
                false => found.push(path),
            }
        }
        found
    }
}
