//! What the emulated logstore holds: shards, their log groups and their retention.
//!
//! Generated groups are made anew at every pull and take no memory; groups that were
//! put are kept encoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::filter::Filter;
use super::shard::{Shard, Stored};
use crate::sls::wire::LogGroup;

/// Makes the log group with the given number (from 0) of a shard. Must give the same
/// group for the same arguments, as a group may be pulled more than once.
pub type Make = Arc<dyn Fn(u32, u64) -> LogGroup + Send + Sync>;

/// Log groups that exist from the start without being stored.
#[derive(Clone)]
pub struct Generator {
    /// How many groups shard 0, 1, … begins with; shards beyond the list begin empty.
    pub groups_per_shard: Vec<u64>,
    /// Makes one of them.
    pub make: Make,
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generator")
            .field("groups_per_shard", &self.groups_per_shard)
            .finish_non_exhaustive()
    }
}

/// Why the store refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// `ShardNotExist`.
    #[error("shard {0} does not exist, list the shards first")]
    NoShard(u32),
    /// `InvalidCursor`: out of retention, or beyond what was ever written.
    #[error("cursor {cursor} of shard {shard} is expired or was never given, ask for a new one")]
    InvalidCursor {
        /// The shard it was used on.
        shard: u32,
        /// The cursor as a number.
        cursor: i64,
    },
    /// A shard that was split or merged takes no more groups.
    #[error("shard {0} is read-only, write to one of its children")]
    ReadOnly(u32),
    /// A shard cannot be merged with itself.
    #[error("shard {0} cannot be merged with itself, name two")]
    SameShard(u32),
}

/// The shards of one logstore.
pub struct Store {
    shards: BTreeMap<u32, Shard>,
    make: Option<Make>,
}

/// The groups that answer one pull, not yet encoded: take it out of the store's lock
/// before calling [`Pull::encode`].
pub struct Pull {
    shard: u32,
    cursor: i64,
    end: i64,
    sources: Vec<Source>,
    make: Option<Make>,
}

enum Source {
    Generated { number: u64, received: u64 },
    Put(Stored),
}

/// An encoded pull.
#[derive(Debug)]
pub struct Pulled {
    /// An uncompressed `LogGroupList`.
    pub body: Vec<u8>,
    /// Log groups in it.
    pub groups: u64,
    /// Cursor behind the last group looked at; the request's cursor when there is none.
    pub next: i64,
    /// Nothing follows `next` in the shard.
    pub at_end: bool,
    /// Receive time of the last group, seconds since the epoch.
    pub received: Option<u64>,
    /// What a filter looked at and let through; none without one.
    pub sifted: Option<Counts>,
}

/// Amounts before and after a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes before it.
    pub bytes: u64,
    /// Log groups before it.
    pub groups: u64,
    /// Logs before it.
    pub lines: u64,
    /// Logs behind it.
    pub left: u64,
}

impl Store {
    /// Makes `shards` shards with equal key ranges, created at `now` (seconds since the
    /// epoch). Generated groups count as received one a second until `now`.
    pub fn new(shards: u32, generator: Option<Generator>, now: u64) -> Store {
        let width = u128::MAX / u128::from(shards.max(1));
        let counts = generator.as_ref().map_or(&[][..], |g| &g.groups_per_shard);
        let shards = (0..shards)
            .map(|id| {
                let begin = width * u128::from(id);
                let end = if id + 1 == shards { u128::MAX } else { begin + width };
                let generated = counts.get(id as usize).copied().unwrap_or(0);
                (id, Shard::new(id, (begin, end), Vec::new(), now, generated))
            })
            .collect();
        Store { shards, make: generator.map(|g| g.make) }
    }

    /// All shards by id, read-only ones included.
    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.values()
    }

    /// One shard.
    ///
    /// # Errors
    /// [`StoreError::NoShard`].
    pub fn shard(&self, id: u32) -> Result<&Shard, StoreError> {
        self.shards.get(&id).ok_or(StoreError::NoShard(id))
    }

    /// Appends a group received at `now` (seconds since the epoch); gives its cursor.
    ///
    /// # Errors
    /// No such shard, or it is read-only.
    pub fn put(&mut self, id: u32, group: &LogGroup, now: u64) -> Result<i64, StoreError> {
        Ok(self.writable(id)?.append(Bytes::from(group.encode_to_vec()), now))
    }

    /// Picks up to `count` groups from `cursor` on, and before `stop` if that is given.
    ///
    /// # Errors
    /// No such shard, or a cursor outside what it retains.
    pub fn pull(
        &self,
        id: u32,
        cursor: i64,
        count: usize,
        stop: Option<i64>,
    ) -> Result<Pull, StoreError> {
        let shard = self.shard(id)?;
        shard.check(cursor)?;
        let last = stop.unwrap_or(i64::MAX).min(shard.end());
        let sources = (cursor..last)
            .take(count)
            .map(|at| {
                let number = shard.number(at);
                match shard.stored(number) {
                    Some(stored) => Source::Put(stored.clone()),
                    None => Source::Generated { number, received: shard.received(number) },
                }
            })
            .collect();
        Ok(Pull { shard: id, cursor, end: shard.end(), sources, make: self.make.clone() })
    }

    /// Lets the first `groups` groups ever written to a shard fall out of retention.
    ///
    /// # Errors
    /// No such shard.
    pub fn expire_before(&mut self, id: u32, groups: u64) -> Result<(), StoreError> {
        let shard = self.shards.get_mut(&id).ok_or(StoreError::NoShard(id))?;
        shard.expire_before(groups);
        Ok(())
    }

    /// Splits a shard into two children, each with half of its keys; it becomes read-only.
    ///
    /// # Errors
    /// No such shard, or it is read-only already.
    pub fn split(&mut self, id: u32, now: u64) -> Result<(u32, u32), StoreError> {
        let shard = self.writable(id)?;
        shard.close();
        let (begin, end) = (shard.begin_key, shard.end_key);
        let middle = begin + (end - begin) / 2;
        let left = self.add((begin, middle), vec![id], now);
        let right = self.add((middle, end), vec![id], now);
        Ok((left, right))
    }

    /// Merges two shards into one child that spans both; they become read-only.
    ///
    /// # Errors
    /// One of them does not exist or is read-only already.
    pub fn merge(&mut self, a: u32, b: u32, now: u64) -> Result<u32, StoreError> {
        if a == b {
            return Err(StoreError::SameShard(a));
        }
        let (mut begin, mut end) = (u128::MAX, 0);
        for id in [a, b] {
            let shard = self.writable(id)?;
            begin = begin.min(shard.begin_key);
            end = end.max(shard.end_key);
        }
        for id in [a, b] {
            self.writable(id)?.close();
        }
        Ok(self.add((begin, end), vec![a, b], now))
    }

    fn writable(&mut self, id: u32) -> Result<&mut Shard, StoreError> {
        match self.shards.get_mut(&id) {
            None => Err(StoreError::NoShard(id)),
            Some(shard) if shard.is_read_only() => Err(StoreError::ReadOnly(id)),
            Some(shard) => Ok(shard),
        }
    }

    fn add(&mut self, keys: (u128, u128), parents: Vec<u32>, now: u64) -> u32 {
        let id = self.shards.last_key_value().map_or(0, |(last, _)| last + 1);
        self.shards.insert(id, Shard::new(id, keys, parents, now, 0));
        id
    }
}

impl Pull {
    /// Encodes as many of the groups as fit into `max_raw` bytes, but at least one.
    pub fn encode(self, max_raw: usize) -> Pulled {
        self.sift(max_raw, None)
    }

    /// Number of the first and how many there are, where all were generated.
    pub(super) fn generated(&self) -> Option<(u64, usize)> {
        let Some(Source::Generated { number, .. }) = self.sources.first() else { return None };
        let all = self.sources.iter().all(|source| matches!(source, Source::Generated { .. }));
        all.then_some((*number, self.sources.len()))
    }

    /// Like [`Pull::encode`] where the body with its first `groups` groups is there already.
    pub(super) fn encoded_before(self, groups: u64) -> Pulled {
        let next = self.cursor.saturating_add_unsigned(groups);
        let last = usize::try_from(groups).unwrap_or(usize::MAX).checked_sub(1);
        let received = last.and_then(|last| self.sources.get(last)).map(|source| match source {
            Source::Put(stored) => stored.received,
            Source::Generated { received, .. } => *received,
        });
        let at_end = next == self.end;
        Pulled { body: Vec::new(), groups, next, at_end, received, sifted: None }
    }

    /// Like [`Pull::encode`], and lets through only what the filter does. The limit is on
    /// the bytes before it.
    pub(super) fn sift(self, max_raw: usize, filter: Option<&Filter>) -> Pulled {
        let mut pulled = Pulled {
            body: Vec::new(),
            groups: 0,
            next: self.cursor,
            at_end: false,
            received: None,
            sifted: None,
        };
        let mut counts = Counts::default();
        for source in self.sources {
            let (group, received) = match source {
                Source::Put(stored) => (stored.group, stored.received),
                Source::Generated { number, received } => {
                    let Some(make) = &self.make else { break };
                    (Bytes::from(make(self.shard, number).encode_to_vec()), received)
                }
            };
            let size = group.len() as u64;
            if counts.groups > 0 && counts.bytes + size + 6 > max_raw as u64 {
                break;
            }
            counts.groups += 1;
            counts.bytes += 1 + prost::encoding::encoded_len_varint(size) as u64 + size;
            pulled.next += 1;
            pulled.received = Some(received);
            let group = match filter {
                None => Some(group),
                Some(filter) => {
                    let sifted = filter.sift(group);
                    counts.lines += sifted.lines;
                    counts.left += sifted.left;
                    sifted.group
                }
            };
            if let Some(group) = group {
                append(&mut pulled.body, &group);
                pulled.groups += 1;
            }
        }
        pulled.at_end = pulled.next == self.end;
        pulled.sifted = filter.map(|_| counts);
        pulled
    }
}

/// Adds one group to the wire form of a `LogGroupList` (field 1, length-delimited).
fn append(body: &mut Vec<u8>, group: &[u8]) {
    body.push(0x0a);
    prost::encoding::encode_varint(group.len() as u64, body);
    body.extend_from_slice(group);
}

#[cfg(test)]
mod tests;
