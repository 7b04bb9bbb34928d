//! Receipts that wait for delivery, in bounded memory whatever the backlog.

use std::collections::VecDeque;

use crate::spool::{Receipt, Seq};

/// Most receipts kept. A checkpoint lags behind delivery by at most a small part of the
/// backlog then.
const MOST: usize = 64;

/// Receipts of one shard, oldest first.
#[derive(Debug, Default)]
pub(super) struct Marks {
    receipts: VecDeque<Receipt>,
}

impl Marks {
    /// A later receipt. When there are too many every second one is dropped: a commit of the
    /// one after it says as much, later.
    pub(super) fn push(&mut self, receipt: Receipt) {
        // Standing still adds nothing but a later end.
        if self.receipts.back().is_some_and(|last| last.next_cursor() == receipt.next_cursor()) {
            return;
        }
        self.receipts.push_back(receipt);
        if self.receipts.len() > MOST {
            let mut index = 0;
            self.receipts.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }

    /// Takes the latest receipt that is delivered once everything below `needed` is, and all
    /// before it.
    pub(super) fn covered(&mut self, needed: Seq) -> Option<Receipt> {
        let mut covered = None;
        while self.receipts.front().is_some_and(|receipt| receipt.end() <= needed) {
            covered = self.receipts.pop_front();
        }
        covered
    }

    pub(super) fn is_empty(&self) -> bool {
        self.receipts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::{Options, ShardKey, Spool};

    /// Receipts that end at 0, 0, 0…: the spool makes them, nothing else can.
    async fn receipts(count: u32) -> Vec<Receipt> {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options::new(dir.path(), 16 << 20);
        let (spool, _) = Spool::open(&options).expect("a spool");
        let key = ShardKey { source: "s".to_owned(), shard: 0 };
        let tenure = spool.begin(key, "0".to_owned(), None).await.expect("a tenure");
        let mut made = Vec::new();
        for number in 0..count {
            let (cursor, next) = (number.to_string(), (number + 1).to_string());
            made.push(spool.progress(&tenure, cursor, next).await.expect("a receipt"));
        }
        spool.close();
        made
    }

    #[tokio::test]
    async fn however_many_receipts_wait_few_are_kept_and_the_newest_is_one_of_them() {
        let mut marks = Marks::default();
        let all = receipts(1001).await;
        let newest = all.last().expect("some").next_cursor().to_owned();
        all.into_iter().for_each(|receipt| marks.push(receipt));
        assert!(marks.receipts.len() <= MOST);
        let order: Vec<u64> = marks
            .receipts
            .iter()
            .map(|receipt| receipt.next_cursor().parse().expect("a number"))
            .collect();
        assert!(order.is_sorted(), "{order:?}");
        assert_eq!(marks.covered(0).expect("all of them").next_cursor(), newest);
        assert!(marks.is_empty());
    }
}
