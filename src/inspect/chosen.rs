//! The batches that a selection means, for who does more than look at them.

use std::collections::BTreeMap;

use super::error::Error;
use super::filter::{Filter, Verdict};
use super::logs;
use super::question::Selection;
use crate::spool::inspect::{Inspection, Met};
use crate::spool::{BatchHeader, Seq, ShardKey, Span, State};

/// Batches that hold, or may hold, a selected log.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Runs of them, in order.
    pub runs: Vec<Run>,
    /// The first batch of which the selection means some logs and not others, if there is one;
    /// with a selection by topic, field or text, the first batch of all.
    pub in_part: Option<Seq>,
}

/// Chosen batches that follow one another.
#[derive(Clone, Debug)]
pub struct Run {
    /// The batches.
    pub span: Span,
    /// Logs ever spooled before the batch behind them.
    pub end_log: u64,
    /// What of each shard lies in them.
    pub shards: BTreeMap<ShardKey, Part>,
}

/// What of a shard lies in a run.
#[derive(Clone, Debug)]
pub struct Part {
    /// Cursor of the first batch.
    pub cursor: String,
    /// Cursor behind the last.
    pub next_cursor: String,
    /// Logs.
    pub logs: u64,
}

impl Chosen {
    /// Logs in the batches.
    pub fn logs(&self) -> u64 {
        self.runs.iter().flat_map(|run| run.shards.values()).map(|part| part.logs).sum()
    }

    /// Batches.
    pub fn batches(&self) -> u64 {
        self.runs.iter().map(|run| run.span.end - run.span.first).sum()
    }
}

/// Which batches a selection means to somebody who takes them whole, told without a body: those
/// that hold, or may hold, a selected log.
pub struct Whole<'a> {
    filter: Filter<'a>,
    selection: &'a Selection,
}

impl<'a> Whole<'a> {
    /// Of a spool in this state.
    pub fn new(selection: &'a Selection, state: &State) -> Self {
        Self { filter: Filter::new(selection, None, state), selection }
    }

    /// Where all of them lie, as the segments tell.
    pub fn span(&self, state: &State) -> Span {
        let meant = state.segments.values().filter(|info| self.filter.segment(info));
        let (from, to) = meant.fold((Seq::MAX, 0), |(from, to), info| {
            (info.first_seq.min(from), info.end_seq.max(to))
        });
        let first = from.max(self.selection.from_seq.unwrap_or(0));
        Span { first, end: to.min(self.selection.to_seq.unwrap_or(Seq::MAX)) }
    }

    /// Whether a batch is meant.
    pub fn wants(&self, header: &BatchHeader) -> bool {
        self.filter.batch(header) != Verdict::None
    }
}

/// The batches that `selection` means; damage among them is passed over.
///
/// # Errors
/// Where a segment cannot be read.
pub fn choose(spool: &Inspection, selection: &Selection) -> Result<Chosen, Error> {
    let state = spool.state();
    let filter = Filter::new(selection, None, &state);
    let (from, to) = (selection.from_seq.unwrap_or(0), selection.to_seq.unwrap_or(Seq::MAX));
    let mut chosen = Chosen::default();
    for met in spool.headers(from, to, |info| filter.segment(info)) {
        let Met::Batch(stored) = met? else { continue };
        let header = &stored.header;
        let verdict = filter.batch(header);
        if verdict == Verdict::None {
            continue;
        }
        if verdict != Verdict::All {
            chosen.in_part.get_or_insert(header.seq);
        }
        match chosen.runs.last_mut().filter(|run| run.span.end == header.seq) {
            Some(run) => run.add(header),
            None => {
                let span = Span { first: header.seq, end: header.seq };
                let mut run = Run { span, end_log: 0, shards: BTreeMap::new() };
                run.add(header);
                chosen.runs.push(run);
            }
        }
    }
    Ok(chosen)
}

/// Which logs of a decompressed batch `selection` means, as their indexes; none for all.
pub fn choose_logs(
    selection: &Selection,
    state: &State,
    header: &BatchHeader,
    raw: &[u8],
) -> Option<Vec<u32>> {
    let filter = Filter::new(selection, None, state);
    match filter.batch(header) {
        Verdict::All => None,
        Verdict::None => Some(Vec::new()),
        Verdict::Some | Verdict::Unknown => {
            let mut indexes = Vec::new();
            let all = logs::each(header, raw, |log| {
                if filter.log(log) {
                    indexes.push(log.index);
                }
                Ok::<bool, std::convert::Infallible>(true)
            });
            all.map_or_else(|never| match never {}, |()| Some(indexes))
        }
    }
}

impl Run {
    fn add(&mut self, header: &BatchHeader) {
        self.span.end = header.seq + 1;
        self.end_log = header.end_log();
        let part = self.shards.entry(header.key.clone()).or_insert_with(|| Part {
            cursor: header.cursor.clone(),
            next_cursor: String::new(),
            logs: 0,
        });
        part.next_cursor.clone_from(&header.next_cursor);
        part.logs += u64::from(header.logs);
    }
}
