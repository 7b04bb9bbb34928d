//! One shard of the emulated logstore: its cursors, its retention, its end.
//!
//! Cursors count log groups: a shard starts at a number that looks like nanoseconds
//! since the epoch, as the service's do, and grows by one with every group. The start
//! depends on the shard's id alone, so a checkpoint stays valid across a restart of
//! the emulator.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;

use super::store::StoreError;

/// One shard, as ListShards and the consumer groups see it.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Shard id.
    pub id: u32,
    /// Shards it was split or merged from.
    pub parents: Vec<u32>,
    /// First hash key of its range.
    pub begin_key: u128,
    /// First hash key behind its range; `u128::MAX` ends the whole range.
    pub end_key: u128,
    /// Creation time, seconds since the epoch.
    pub created: u64,
    first: i64,
    retained_from: i64,
    generated: u64,
    put: Vec<Stored>,
    read_only: bool,
}

/// A group that was put.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Encoded `LogGroup`.
    pub group: Bytes,
    /// Receive time, seconds since the epoch.
    pub received: u64,
}

impl Shard {
    pub(super) fn new(
        id: u32,
        keys: (u128, u128),
        parents: Vec<u32>,
        created: u64,
        generated: u64,
    ) -> Shard {
        let first = 1_750_000_000_000_000_000 + i64::from(id) * 7_000_000_000_003;
        Shard {
            id,
            parents,
            begin_key: keys.0,
            end_key: keys.1,
            created,
            first,
            retained_from: first,
            generated,
            put: Vec::new(),
            read_only: false,
        }
    }

    /// Cursor of the oldest group still retained.
    pub fn begin(&self) -> i64 {
        self.retained_from
    }

    /// Cursor of the next group to be written.
    pub fn end(&self) -> i64 {
        self.first.saturating_add_unsigned(self.generated + self.put.len() as u64)
    }

    /// Was it split or merged?
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Cursor of the first retained group received at or after `unix` seconds.
    pub fn cursor_at(&self, unix: u64) -> i64 {
        let (mut low, mut high) = (self.begin(), self.end());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.received(self.number(middle)) < unix { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Receive time of the group at `cursor`, seconds since the epoch; `now` at the end.
    ///
    /// # Errors
    /// A cursor outside what the shard retains.
    pub fn time_at(&self, cursor: i64, now: u64) -> Result<u64, StoreError> {
        self.check(cursor)?;
        Ok(if cursor == self.end() { now } else { self.received(self.number(cursor)) })
    }

    /// Adds an encoded group received at `now`; gives its cursor.
    pub(super) fn append(&mut self, group: Bytes, now: u64) -> i64 {
        let cursor = self.end();
        self.put.push(Stored { group, received: now });
        cursor
    }

    /// Ends the shard where it is now.
    pub(super) fn close(&mut self) {
        self.read_only = true;
    }

    /// Lets the first `groups` groups ever written fall out of retention.
    pub(super) fn expire_before(&mut self, groups: u64) {
        let oldest = self.first.saturating_add_unsigned(groups).min(self.end());
        self.retained_from = self.retained_from.max(oldest);
    }

    /// Is `cursor` within what the shard retains, its end included?
    pub(super) fn check(&self, cursor: i64) -> Result<(), StoreError> {
        if (self.begin()..=self.end()).contains(&cursor) {
            return Ok(());
        }
        Err(StoreError::InvalidCursor { shard: self.id, cursor })
    }

    /// How many groups were written before the one at `cursor`.
    pub(super) fn number(&self, cursor: i64) -> u64 {
        cursor.abs_diff(self.first)
    }

    /// The group with this number, unless it is a generated one.
    pub(super) fn stored(&self, number: u64) -> Option<&Stored> {
        usize::try_from(number.checked_sub(self.generated)?).ok().and_then(|at| self.put.get(at))
    }

    /// Receive time of the group with this number, seconds since the epoch.
    pub(super) fn received(&self, number: u64) -> u64 {
        match self.stored(number) {
            Some(stored) => stored.received,
            None => self.created.saturating_sub(self.generated.saturating_sub(number + 1)),
        }
    }
}

/// The text form of a cursor: base64 of the decimal number.
pub fn cursor_text(cursor: i64) -> String {
    BASE64_STANDARD.encode(cursor.to_string())
}

/// The number in a cursor's text, if it is one.
pub fn cursor_number(text: &str) -> Option<i64> {
    let digits = BASE64_STANDARD.decode(text).ok()?;
    std::str::from_utf8(&digits).ok()?.parse().ok()
}
