//! Tells a dead path from a receiver that merely reads slowly or not at all.
//!
//! One timeout cannot: a receiver with a full disk answers at the TCP level for hours, and
//! cutting it off only makes it swallow one more socket buffer of duplicates at the next
//! connection. So a connection is *dead* when something is unanswered and nothing has come
//! back for `dead_after`, and *stalled* when its host answers but takes no more data for
//! `stall_timeout`. No clock and no socket here.

use std::time::{Duration, Instant};

/// What the kernel says about the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PathInfo {
    /// Segments sent and not acknowledged.
    pub(super) unacked: u32,
    /// Unanswered probes of an idle connection or a closed window.
    pub(super) probes: u8,
    /// Time since the last acknowledgement of anything.
    pub(super) last_ack: Duration,
    /// What the peer is ready to take, in bytes, if the kernel tells.
    pub(super) send_window: Option<u32>,
}

/// A connection at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// `None` where the kernel does not tell: no path is ever found dead then.
    pub(super) path: Option<PathInfo>,
    /// Whether something waits to be taken by the peer.
    pub(super) waiting: bool,
    /// Bytes taken so far.
    pub(super) taken: u64,
}

/// What is wrong with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing has come back for so long.
    Dead(Duration),
    /// Nothing has been taken for so long.
    Stalled(Duration),
}

/// Judges samples of one connection, taken about once a second.
#[derive(Debug)]
pub(super) struct PathWatch {
    dead_after: Duration,
    stall_timeout: Duration,
    taken: u64,
    /// Since when something waits and nothing was taken.
    waiting_since: Option<Instant>,
    /// Since when every sample had unacknowledged segments.
    unacked_since: Option<Instant>,
}

impl PathWatch {
    pub(super) fn new(dead_after: Duration, stall_timeout: Duration) -> Self {
        Self { dead_after, stall_timeout, taken: 0, waiting_since: None, unacked_since: None }
    }

    /// Takes a sample and says whether the connection is to be given up.
    pub(super) fn judge(&mut self, sample: Sample, now: Instant) -> Option<Fault> {
        if sample.taken != self.taken || !sample.waiting {
            self.taken = sample.taken;
            self.waiting_since = None;
        }
        if sample.waiting {
            self.waiting_since.get_or_insert(now);
        }
        self.dead(sample.path, now).or_else(|| {
            let stalled = self.stalled(now);
            (stalled >= self.stall_timeout && sample.waiting).then_some(Fault::Stalled(stalled))
        })
    }

    /// How long something has been waiting without progress.
    pub(super) fn stalled(&self, now: Instant) -> Duration {
        self.waiting_since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    fn dead(&mut self, path: Option<PathInfo>, now: Instant) -> Option<Fault> {
        let path = path?;
        if path.unacked == 0 {
            self.unacked_since = None;
        } else {
            self.unacked_since.get_or_insert(now);
        }
        // The last acknowledgement may be old because nothing was sent for long; what was
        // sent a moment ago gets its time all the same.
        let unanswered = self.unacked_since.is_some_and(|since| now >= since + self.dead_after);
        let silent = path.last_ack > self.dead_after;
        (silent && (unanswered || path.probes >= 2)).then_some(Fault::Dead(path.last_ack))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn watch() -> PathWatch {
        PathWatch::new(s(30), s(600))
    }

    fn sample(unacked: u32, probes: u8, last_ack: u64, waiting: bool, taken: u64) -> Sample {
        let path = PathInfo { unacked, probes, last_ack: s(last_ack), send_window: Some(0) };
        Sample { path: Some(path), waiting, taken }
    }

    /// Feeds one sample a second and returns when and what fault was found.
    fn run(seconds: u64, mut at: impl FnMut(u64) -> Sample) -> Option<(u64, Fault)> {
        let (start, mut watch) = (Instant::now(), watch());
        (0..seconds).find_map(|n| watch.judge(at(n), start + s(n)).map(|fault| (n, fault)))
    }

    #[test]
    fn unanswered_data_on_a_silent_path_is_dead() {
        assert_eq!(run(100, |n| sample(5, 0, n, true, 0)), Some((31, Fault::Dead(s(31)))));
    }

    #[test]
    fn data_sent_after_a_long_silence_gets_its_time() {
        let found = run(200, |n| sample(u32::from(n >= 100), 0, n, n >= 100, 0));
        assert_eq!(found, Some((130, Fault::Dead(s(130)))));
    }

    #[test]
    fn an_idle_connection_whose_probes_go_unanswered_is_dead() {
        assert_eq!(run(100, |n| sample(0, (n / 5) as u8, n, false, 7)).map(|f| f.0), Some(31));
        assert_eq!(run(100, |n| sample(0, 1, n, false, 7)), None, "one probe is too few");
    }

    #[test]
    fn a_stuck_receiver_that_answers_is_waited_for_until_the_stall_timeout() {
        let found = run(700, |n| sample(0, 1, n % 22, true, 4096));
        assert_eq!(found, Some((600, Fault::Stalled(s(600)))));
    }

    #[test]
    fn a_slow_receiver_is_never_given_up() {
        assert_eq!(run(5000, |n| sample(1, 0, n % 20, true, n / 500)), None);
    }

    #[test]
    fn waiting_is_counted_anew_after_a_pause() {
        assert_eq!(run(1500, |n| sample(0, 0, 1, n % 500 != 0, 9)), None);
    }

    #[test]
    fn without_the_kernels_word_only_stalls_are_found() {
        let found = run(700, |_| Sample { path: None, waiting: true, taken: 1 });
        assert_eq!(found.map(|f| f.1), Some(Fault::Stalled(s(600))));
    }
}
