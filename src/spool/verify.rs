//! Reading all of a segment: every checksum, and where damage begins and ends.

use super::error::Error;
use super::inspect::{Inspection, Segment};
use super::recover::Damage;
use super::scan::{Bodies, Found, Piece, Scan, scan};
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
    /// What does not check, each with what lay in it.
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
        let verified = match scan(file.as_ref(), id, Some(info.length), Bodies::All) {
            Ok(scan) if scan.newer => Err(Error::NewerFormat { path }),
            Ok(scan) => self.sum_up(id, &info, &scan),
            Err(error) => Err(Error::io("read", path, error)),
        };
        Some(verified.unwrap_or_else(|error| unreadable(id, &info, &error)))
    }

    fn sum_up(&self, id: u64, info: &SegmentInfo, scan: &Scan) -> Result<Verified, Error> {
        let entries = scan.pieces.iter().flat_map(Piece::entries);
        let batches = entries.filter_map(Found::batch).count() as u64;
        let lost = info.end_seq.saturating_sub(info.first_seq).saturating_sub(batches);
        let whole = scan.pieces.iter().all(|piece| matches!(piece, Piece::Group(_)));
        let damage = match whole && lost == 0 && scan.end >= info.length {
            true => Vec::new(),
            false => self.survey(id)?,
        };
        Ok(Verified { bytes: info.length, batches, lost, damage, failed: None })
    }
}

fn unreadable(id: u64, info: &SegmentInfo, error: &Error) -> Verified {
    let cause = std::error::Error::source(error).map(|e| format!(": {e}")).unwrap_or_default();
    let (first_seq, end_seq) = (info.first_seq, info.end_seq);
    let damage = Damage::unnamed(id, (0, info.length), (first_seq, end_seq));
    let failed = Some(format!("{error}{cause}"));
    let lost = end_seq.saturating_sub(first_seq);
    Verified { lost, damage: vec![damage], failed, ..Verified::default() }
}
