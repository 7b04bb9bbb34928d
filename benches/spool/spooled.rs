//! The spool itself.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sls_relay::spool::{
    Batch, Compression, Keys, Options, Position, Receipt, ShardKey, Spool, Tenure,
};
use tokio::runtime::Runtime;

use crate::Variant;

/// When the next group is handed over.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Next {
    /// While the one before it is being written: what the writer takes shows alone. One group
    /// waits at most, so that each still has a barrier of its own.
    Early,
    /// After the receipts for the one before it, which wake up a sleeping thread, and so does
    /// the next group.
    AfterReceipt,
}

/// Until the writer has taken the group that waited. Two that it finds together would have one
/// barrier. The barrier takes longer, so the next group is there when it ends.
const TAKEN: Duration = Duration::from_micros(100);

/// The spool, with one shard per producer.
pub(crate) struct Spooled {
    spool: Spool,
    runtime: Arc<Runtime>,
    next: Next,
    producers: Vec<(Arc<Tenure>, u64)>,
}

impl Spooled {
    pub(crate) fn new(dir: &Path, producers: usize, next: Next) -> Self {
        Self::open(&Options::new(dir, 8 << 30), producers, next)
    }

    /// The same with its bodies encrypted.
    pub(crate) fn encrypted(dir: &Path, producers: usize, next: Next) -> Self {
        let keys = Keys::parse(&Keys::random().unwrap()).unwrap();
        Self::open(&Options { keys, ..Options::new(dir, 8 << 30) }, producers, next)
    }

    fn open(options: &Options, producers: usize, next: Next) -> Self {
        let options = Options { min_free_bytes: 256 << 20, ..options.clone() };
        let (spool, _) = Spool::open(&options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let runtime = Arc::new(runtime);
        let producers = runtime.block_on(async {
            spool.set_destinations(&["siem".to_owned()]).await.unwrap();
            let mut tenures = Vec::new();
            for shard in (0..).take(producers) {
                let key = ShardKey { source: "https://sls.example/p/l/g".to_owned(), shard };
                let tenure = spool.begin(key, cursor(0), None).await.unwrap();
                tenures.push((Arc::new(tenure), 0));
            }
            tenures
        });
        Self { spool, runtime, next, producers }
    }
}

impl Spooled {
    /// The receipts of one group, one batch per producer.
    fn append(&mut self, group: &[Bytes]) -> Receipts {
        let appends = group.iter().zip(&mut self.producers).map(|(body, producer)| {
            let (spool, tenure, number) = (self.spool.clone(), Arc::clone(&producer.0), producer.1);
            let batch = batch(number, body);
            producer.1 += 1;
            async move { spool.append(&tenure, batch).await.unwrap() }
        });
        Box::pin(join(appends.collect()))
    }
}

type Receipts = Pin<Box<dyn Future<Output = Vec<Receipt>>>>;

impl Variant for Spooled {
    fn turn(&mut self, bodies: &[Bytes]) -> Duration {
        let runtime = Arc::clone(&self.runtime);
        let start = Instant::now();
        runtime.block_on(async {
            let mut groups = bodies.chunks(self.producers.len());
            if self.next == Next::AfterReceipt {
                for group in groups {
                    self.append(group).await;
                }
                return;
            }
            let mut written = self.append(groups.next().unwrap());
            let mut ready = hand_over(&mut written).await;
            for group in groups {
                std::thread::sleep(TAKEN);
                let mut waiting = self.append(group);
                let next = hand_over(&mut waiting).await;
                if !ready {
                    written.await;
                }
                (written, ready) = (waiting, next);
            }
            if !ready {
                written.await;
            }
        });
        start.elapsed()
    }

    /// All but the last batch is delivered: segments fill up, and then they go.
    fn tidy(&mut self) {
        let state = self.spool.status().state;
        let position = Position { seq: state.next_seq - 1, index: 0 };
        self.spool.ack("siem", position, state.next_log - 1000);
        for (tenure, number) in &self.producers {
            self.spool.committed(tenure.key().clone(), cursor(*number));
        }
        self.runtime.block_on(self.spool.flush()).unwrap();
    }
}

/// The first poll gives the batches to the writer. True where the receipts are there already.
async fn hand_over(receipts: &mut Receipts) -> bool {
    std::future::poll_fn(|context| Poll::Ready(receipts.as_mut().poll(context).is_ready())).await
}

/// Polls all of them, in order, until all are ready.
async fn join<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut ready = true;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *output = Some(value),
                    Poll::Pending => ready = false,
                }
            }
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

fn batch(number: u64, body: &Bytes) -> Batch {
    Batch {
        cursor: cursor(number),
        next_cursor: cursor(number + 1),
        first_group_cursor: Some(number),
        groups: 10,
        logs: 1000,
        query: false,
        received_at: 1_700_000_000_000,
        min_time: 1_700_000_000,
        max_time: 1_700_000_009,
        raw_size: 4 * body.len() as u64,
        compression: Compression::Lz4,
        body: body.clone(),
    }
}

fn cursor(number: u64) -> String {
    format!("MTcwMDAwMDAwMDAwMDAw{number:08}")
}
