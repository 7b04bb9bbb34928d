//! Reading all of a segment: every checksum, and where damage begins and ends.

use super::entry::{Header, Seq};
use super::error::Error;
use super::inspect::{Inspection, Segment};
use super::recover::Damage;
use super::scan::{Bodies, Piece, Scan, scan};
use super::segment;
use super::state::SegmentInfo;

/// What reading all of a segment showed.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Bytes that were read.
    pub bytes: u64,
    /// Batches whose every checksum holds, those in damaged stretches included.
    pub batches: u64,
    /// Batches that were in it and are not any more.
    pub lost: u64,
    /// What does not check, each with the batches that may have lain in it.
    pub damage: Vec<Damage>,
    /// Why the segment could not be read at all, in words.
    pub failed: Option<String>,
}

impl Inspection {
    /// Reads all of a segment up to its proven length and checks every checksum; `None` where
    /// it was removed meanwhile. What the disk does not give is damage too.
    pub fn verify(&self, id: u64) -> Option<Verified> {
        let (_, info) = self.segments().find(|(known, _)| *known == id)?;
        let file = match self.segment(id, &info) {
            Ok(Segment::There(file)) => file,
            Ok(Segment::Removed) => return None,
            Ok(Segment::Missing(damage)) => {
                let lost = damage.end_seq.saturating_sub(damage.first_seq);
                return Some(Verified { lost, damage: vec![damage], ..Verified::default() });
            }
            Err(error) => return Some(unreadable(id, &info, &error)),
        };
        let path = segment::path(id);
        Some(match scan(file.as_ref(), id, Some(info.length), Bodies::All) {
            Ok(scan) if scan.newer => unreadable(id, &info, &Error::NewerFormat { path }),
            Ok(scan) => sum_up(id, &info, &scan),
            Err(error) => unreadable(id, &info, &Error::io("read", path, error)),
        })
    }
}

fn unreadable(id: u64, info: &SegmentInfo, error: &Error) -> Verified {
    let cause = std::error::Error::source(error).map(|e| format!(": {e}")).unwrap_or_default();
    let (first_seq, end_seq) = (info.first_seq, info.end_seq);
    let damage = Damage { segment: id, from: 0, to: info.length, first_seq, end_seq };
    let failed = Some(format!("{error}{cause}"));
    let lost = end_seq.saturating_sub(first_seq);
    Verified { lost, damage: vec![damage], failed, ..Verified::default() }
}

fn sum_up(id: u64, info: &SegmentInfo, scan: &Scan) -> Verified {
    let mut verified = Verified { bytes: info.length, ..Verified::default() };
    let mut next = info.first_seq;
    // Damage whose last batch is not known yet, and what was read within it.
    let mut open: Vec<(Damage, Vec<Seq>)> = Vec::new();
    for piece in &scan.pieces {
        let (Piece::Group(entries) | Piece::Damage { entries, .. }) = piece;
        let seqs = entries.iter().filter_map(|entry| match &entry.header {
            Header::Batch(header) => Some(header.seq),
            _ => None,
        });
        let seqs: Vec<Seq> = seqs.collect();
        verified.batches += seqs.len() as u64;
        let after = seqs.last().map_or(next, |last| last + 1);
        match piece {
            Piece::Group(_) => {
                if let Some(first) = seqs.first() {
                    verified.damage.extend(open.drain(..).map(|damage| narrowed(damage, *first)));
                }
            }
            Piece::Damage { from, to, .. } => {
                let (from, to) = (*from, *to);
                let damage = Damage { segment: id, from, to, first_seq: next, end_seq: next };
                open.push((damage, seqs));
            }
        }
        next = after;
    }
    if scan.end < info.length {
        // The file ends early, or nothing in it is a group.
        let (from, to) = (scan.end, info.length);
        open.push((Damage { segment: id, from, to, first_seq: next, end_seq: next }, Vec::new()));
    }
    verified.damage.extend(open.into_iter().map(|damage| narrowed(damage, info.end_seq)));
    verified.lost =
        (info.end_seq - info.first_seq.min(info.end_seq)).saturating_sub(verified.batches);
    verified
}

/// The smallest range of batches that holds all that were lost before batch `end`.
fn narrowed((mut damage, read): (Damage, Vec<Seq>), end: Seq) -> Damage {
    damage.end_seq = end.max(damage.first_seq);
    while damage.first_seq < damage.end_seq && read.contains(&damage.first_seq) {
        damage.first_seq += 1;
    }
    while damage.first_seq < damage.end_seq && read.contains(&(damage.end_seq - 1)) {
        damage.end_seq -= 1;
    }
    damage
}
