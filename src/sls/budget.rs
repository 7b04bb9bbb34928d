//! Memory for PullLogs answers: one budget for all shards of all sources, so that it does
//! not grow with their number.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit stands for so many bytes.
const UNIT: u64 = 4096;
/// A pull counts once for so many bytes of the body it is expected to bring, because the
/// connection it goes over has buffers that grow with it.
const PULL_BYTES: u64 = 256 * 1024;
/// How often a pull counts at most.
const HEAVIEST: u32 = 4;

/// Bytes of bodies that may be in memory, and pulls that may be under way. Clones share it.
#[derive(Clone, Debug)]
pub struct PullBudget {
    bytes: Arc<Semaphore>,
    units: u32,
    pulls: Arc<Semaphore>,
    heaviest: u32,
}

/// Room for one body. It is given back when the last clone is dropped: keep it as long as
/// the body.
#[derive(Clone, Debug, Default)]
pub struct Room {
    _permit: Option<Arc<OwnedSemaphorePermit>>,
}

impl PartialEq for Room {
    /// Room is not part of what an answer says.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Room {}

impl PullBudget {
    /// A budget of `bytes`, and of `pulls` at the same time, of which a quarter may bring
    /// large answers.
    pub fn new(bytes: u64, pulls: usize) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        let permits = usize::try_from(units).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            bytes: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            units,
            pulls: Arc::new(Semaphore::new(pulls.max(1))),
            heaviest: u32::try_from(pulls).unwrap_or(HEAVIEST).clamp(1, HEAVIEST),
        }
    }

    /// The same bytes for another source, whose pulls are counted apart: one whose endpoint
    /// does not answer must not hold up the others.
    pub fn for_another(&self, pulls: usize) -> Self {
        Self { pulls: Arc::new(Semaphore::new(pulls.max(1))), ..self.clone() }
    }

    /// Waits until a pull may be made whose body is expected to have so many bytes. Drop what
    /// is returned once its answer is read.
    pub(super) async fn pull(&self, expected: u64) -> Room {
        let count = u32::try_from(expected / PULL_BYTES).unwrap_or(u32::MAX);
        let permits = Arc::clone(&self.pulls).acquire_many_owned(count.clamp(1, self.heaviest));
        Room { _permit: permits.await.ok().map(Arc::new) }
    }

    /// Waits for room for a body. One larger than the whole budget waits for all of it.
    pub(super) async fn room(&self, bytes: u64) -> Room {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.units);
        let permit = Arc::clone(&self.bytes).acquire_many_owned(units).await;
        Room { _permit: permit.ok().map(Arc::new) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pulls_of_large_answers_count_several_times_but_never_more_than_there_are() {
        let budget = PullBudget::new(64 * 1024, 10);
        let _small = budget.pull(0).await;
        assert_eq!(budget.pulls.available_permits(), 9);
        let _middling = budget.pull(3 * PULL_BYTES).await;
        assert_eq!(budget.pulls.available_permits(), 6);
        let _huge = budget.pull(u64::MAX).await;
        assert_eq!(budget.pulls.available_permits(), 2);
        for pulls in 0..4 {
            let _ = PullBudget::new(64 * 1024, pulls).pull(u64::MAX).await;
        }
    }

    #[tokio::test]
    async fn room_is_given_back_with_the_last_clone_and_a_huge_body_takes_all_of_it() {
        let budget = PullBudget::new(64 * 1024, 1);
        let huge = budget.room(u64::MAX).await;
        let kept = huge.clone();
        drop(huge);
        assert_eq!(budget.bytes.available_permits(), 0);
        drop(kept);
        assert_eq!(budget.bytes.available_permits(), 16);
        let _some = budget.room(5000).await;
        assert_eq!(budget.bytes.available_permits(), 14);
    }
}
