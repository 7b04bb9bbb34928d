//! Memory for PullLogs answers: one budget for all shards of all sources, so that it does
//! not grow with their number.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit stands for so many bytes.
const UNIT: u64 = 4096;

/// Bytes of bodies that may be in memory, and pulls that may be under way. Clones share it.
#[derive(Clone, Debug)]
pub struct PullBudget {
    bytes: Arc<Semaphore>,
    units: u32,
    pulls: Arc<Semaphore>,
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
    /// A budget of `bytes`, and of `pulls` at the same time.
    pub fn new(bytes: u64, pulls: usize) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        let permits = usize::try_from(units).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            bytes: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            units,
            pulls: Arc::new(Semaphore::new(pulls.max(1))),
        }
    }

    /// The same bytes for another source, whose pulls are counted apart: one whose endpoint
    /// does not answer must not hold up the others.
    pub fn for_another(&self, pulls: usize) -> Self {
        Self { pulls: Arc::new(Semaphore::new(pulls.max(1))), ..self.clone() }
    }

    /// Waits until a pull may be made. Drop what is returned once its answer is read.
    pub(super) async fn pull(&self) -> Room {
        Room { _permit: Arc::clone(&self.pulls).acquire_owned().await.ok().map(Arc::new) }
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
