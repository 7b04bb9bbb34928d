//! The spool against a plain queue, under arbitrary operations.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::sim::SimDisk;
use super::super::{Keys, Options, Reader, Spool};
use super::{after, batch, begin, drain, key, keys, options, runtime};

#[derive(Clone, Debug)]
enum Operation {
    Append { size: usize },
    Deliver { batches: usize },
    Reopen,
    DiskFull { appends: u8 },
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        6 => (0usize..200_000).prop_map(|size| Operation::Append { size }),
        3 => (1usize..8).prop_map(|batches| Operation::Deliver { batches }),
        1 => Just(Operation::Reopen),
        1 => (1u8..4).prop_map(|appends| Operation::DiskFull { appends }),
    ];
    proptest::collection::vec(operation, 1..40)
}

struct Harness {
    disk: SimDisk,
    spool: Spool,
    reader: Reader,
    queue: VecDeque<Vec<u8>>,
    next: u64,
    keys: Keys,
}

impl Harness {
    async fn open(disk: SimDisk, keys: &Keys) -> (Spool, Reader) {
        let options = Options { keys: keys.clone(), ..options(Path::new("sim")) };
        let (spool, opened) = Spool::open_simulated(Arc::new(disk), &options).unwrap();
        assert!(opened.damage.is_empty(), "{:?}", opened.damage);
        spool.set_destinations(&["siem".to_owned()]).await.unwrap();
        let from = spool.delivered("siem").unwrap().position.seq;
        let reader = spool.reader(from);
        (spool, reader)
    }

    async fn run(operations: Vec<Operation>, keys: Keys) {
        let disk = SimDisk::default();
        let (spool, reader) = Self::open(disk.clone(), &keys).await;
        let mut this = Self { disk, spool, reader, queue: VecDeque::new(), next: 0, keys };
        for operation in operations {
            this.apply(operation).await;
        }
        this.apply(Operation::Reopen).await;
        let left: Vec<_> = drain(&mut this.reader).into_iter().map(|read| read.body).collect();
        assert_eq!(left, Vec::from(this.queue));
    }

    async fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Append { size } => {
                let body = vec![u8::try_from(self.next % 251).unwrap(); size];
                let tenure = begin(&self.spool, 0).await;
                match self.spool.append(&tenure, batch(self.next, body.clone())).await {
                    Ok(_) => {
                        self.queue.push_back(body);
                        self.next += 1;
                    }
                    Err(error) => assert!(super::is_full(&error), "{error}"),
                }
            }
            Operation::Deliver { batches } => {
                for _ in 0..batches {
                    let Some(super::Item::Batch(read)) = self.reader.read().unwrap() else { break };
                    assert_eq!(Some(&read.body), self.queue.pop_front().as_ref());
                    let (position, log) = after(&read);
                    self.spool.ack("siem", position, log);
                }
                self.spool.flush().await.unwrap();
            }
            Operation::Reopen => {
                let position = self.spool.shard(&key(0)).map(|shard| shard.position);
                self.spool.clone().close();
                (self.spool, self.reader) = Self::open(self.disk.clone(), &self.keys).await;
                assert_eq!(self.spool.shard(&key(0)).map(|shard| shard.position), position);
            }
            Operation::DiskFull { appends } => {
                let tenure = begin(&self.spool, 0).await;
                self.disk.set_capacity(Some(0));
                for _ in 0..appends {
                    let refused = self.spool.append(&tenure, batch(self.next, vec![1; 5000])).await;
                    assert!(refused.is_err(), "nothing fits on a full disk");
                }
                self.disk.set_capacity(None);
                // No restart: the spool goes on in a new segment by itself.
                self.spool.committed(key(0), super::cursor(self.next));
                while self.spool.flush().await.is_err() {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_spool_is_a_durable_queue(operations in operations()) {
        runtime().block_on(Harness::run(operations, Keys::default()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn an_encrypted_spool_is_a_durable_queue(operations in operations()) {
        runtime().block_on(Harness::run(operations, keys(&[1])));
    }
}
