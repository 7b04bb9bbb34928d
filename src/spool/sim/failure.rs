//! Failures that a test asks of the simulated disk: which call, how, and how many in a row.

use std::io;

/// How a call fails, and what it leaves behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// `ENOSPC`; nothing is done.
    Full,
    /// `EIO`; nothing is done.
    Io,
    /// `EROFS`; nothing is done.
    ReadOnly,
    /// `EMFILE`; nothing is done.
    TooManyFiles,
    /// `ENOSPC`, after a part of what an append was given was written.
    Short,
    /// `EIO`, although all of it was done.
    Done,
    /// `EIO`. A sync drops its pages as the kernel does: they stay readable and count as clean,
    /// so that no later sync writes them. Other calls do nothing.
    Dropped,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Full,
        Self::Io,
        Self::ReadOnly,
        Self::TooManyFiles,
        Self::Short,
        Self::Done,
        Self::Dropped,
    ];

    /// What the call says. The numbers are those of Linux.
    pub(super) fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Full | Self::Short => 28,
            Self::Io | Self::Done | Self::Dropped => 5,
            Self::ReadOnly => 30,
            Self::TooManyFiles => 24,
        })
    }
}

/// Calls of one kind, and which of them are to fail.
#[derive(Default)]
pub(super) struct Plan {
    made: u64,
    next: Option<Stretch>,
}

struct Stretch {
    from: u64,
    to: u64,
    how: Failure,
}

impl Plan {
    /// Lets `calls` more succeed, and `many` after them fail.
    pub(super) fn fail(&mut self, calls: u64, how: Failure, many: u64) {
        let from = self.made.saturating_add(calls);
        self.next = Some(Stretch { from, to: from.saturating_add(many), how });
    }

    /// Nothing fails any more.
    pub(super) fn heal(&mut self) {
        self.next = None;
    }

    /// Calls made so far.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// Counts a call; how it fails, if it does.
    pub(super) fn call(&mut self) -> Option<Failure> {
        let number = self.made;
        self.made += 1;
        self.next.as_ref().filter(|s| (s.from..s.to).contains(&number)).map(|s| s.how)
    }
}
