//! Committing the checkpoints of one shard: receipts in, fenced commits out.
//!
//! Only a [`Receipt`] can be committed, and only the spool makes one. With
//! `checkpoint = "spooled"` a receipt is committed as soon as it is there. While commits
//! fail, receipts wait in a bounded channel; when it is full the fetcher stops pulling, so
//! that what another relay would read again stays bounded. With `checkpoint = "delivered"`
//! a receipt waits until every destination has confirmed what it covers, see
//! [`super::marks`].

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, Outage, Say};
use super::marks::Marks;
use super::shard::Shard;
use super::status::add;
use super::{chain, stopped_for};
use crate::config::{Checkpoint, Handover};
use crate::sls::{Advice, Cursor};
use crate::spool::{Receipt, crash};

/// How long a shard that is wanted elsewhere waits for its last commit.
const HAND_OVER: Duration = Duration::from_secs(10);
/// Least time between two commits of a shard.
const COMMIT_EVERY: Duration = Duration::from_millis(500);
/// Own commits that the server may still name, having answered a later one.
const REMEMBERED: usize = 16;

/// How a shard's commits ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Committed {
    /// Everything that has a receipt is committed.
    All,
    /// The shard had to be given back before the last commit worked.
    InPart,
    /// Another consumer holds the shard, or somebody has set its checkpoint: nothing more
    /// can be committed.
    Refused,
    /// Another process commits under our consumer name.
    Twin,
}

/// The commits of one shard.
struct Checkpointer {
    shard: Arc<Shard>,
    backoff: Backoff,
    outage: Outage,
    /// What was committed in this tenure, newest last.
    commits: VecDeque<String>,
    looked: Instant,
    /// A receipt has come: the shard is taken.
    taken: bool,
    /// A cursor under our name was seen that is not among them.
    suspicious: bool,
    /// When the last commit is not waited for any more.
    give_up: Option<Instant>,
}

/// Commits until the fetcher is done and everything is committed.
pub(crate) async fn run(shard: Arc<Shard>, receipts: Receiver<Receipt>) -> Committed {
    let checkpointer = Checkpointer {
        backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(10)),
        outage: Outage::default(),
        commits: VecDeque::new(),
        looked: Instant::now(),
        taken: false,
        suspicious: false,
        give_up: None,
        shard,
    };
    let ended = match checkpointer.shard.source.checkpoint {
        Checkpoint::Spooled => checkpointer.spooled(receipts).await,
        Checkpoint::Delivered => checkpointer.delivered(receipts).await,
    };
    match ended {
        Ok(committed) | Err(committed) => committed,
    }
}

impl Checkpointer {
    async fn spooled(mut self, mut receipts: Receiver<Receipt>) -> Result<Committed, Committed> {
        loop {
            let received = tokio::time::timeout(self.until_look(), receipts.recv()).await;
            let Ok(received) = received else {
                self.look().await?;
                continue;
            };
            let Some(mut receipt) = received else { return Ok(Committed::All) };
            while let Ok(later) = receipts.try_recv() {
                receipt = later;
            }
            if self.until_look().is_zero() {
                self.look().await?;
            }
            self.commit_or_repeat(&receipt).await?;
            // A stop closes the channel: then the last commit does not wait.
            if !receipts.is_closed() {
                let pause = tokio::time::sleep(COMMIT_EVERY);
                tokio::select! {
                    () = pause => {}
                    () = self.shard.stop.cancelled() => {}
                }
            }
        }
    }

    async fn delivered(mut self, mut receipts: Receiver<Receipt>) -> Result<Committed, Committed> {
        let shard = Arc::clone(&self.shard);
        let mut needed = shard.spool.needed();
        let mut marks = Marks::default();
        let mut pulling = true;
        let wait = match shard.source.handover {
            Handover::Spooled => HAND_OVER,
            Handover::Delivered => shard.source.handover_timeout,
        };
        // It counts from the end of pulling, whyever that ended. When the relay stops, the
        // senders decide how long delivery is waited for.
        let ended = CancellationToken::new();
        let given_back = async {
            stopped_for(&ended, wait).await;
            if shard.stopping.is_cancelled() {
                std::future::pending::<()>().await;
            }
        };
        tokio::pin!(given_back);
        loop {
            let last = shard.finish.is_cancelled();
            let covered = *needed.borrow_and_update();
            if let Some(receipt) = marks.covered(covered) {
                self.announce(&receipt).await?;
                self.commit_or_repeat(&receipt).await?;
            }
            if !pulling && (marks.is_empty() || last) {
                return Ok(if marks.is_empty() { Committed::All } else { Committed::InPart });
            }
            let look = self.until_look();
            tokio::select! {
                receipt = receipts.recv(), if pulling => match receipt {
                    Some(receipt) => {
                        self.taken = true;
                        marks.push(receipt);
                    }
                    None => {
                        pulling = false;
                        ended.cancel();
                    }
                },
                changed = needed.changed() => {
                    if changed.is_err() {
                        return Ok(Committed::InPart);
                    }
                }
                () = shard.finish.cancelled(), if !last => {}
                () = &mut given_back => {
                    tracing::warn!(source = %shard.source.name, shard = shard.key.shard, code = "sls.handover_timeout", seconds = wait.as_secs(), "the shard is given back before everything pulled from it is delivered; the next relay reads the rest again, and the receiver may see it twice");
                    return Ok(Committed::InPart);
                }
                () = tokio::time::sleep(look) => self.look().await?,
            }
        }
    }

    /// Commits a receipt, and repeats a commit of a shard that stands still: SLS notes the end
    /// of a shard only at a commit, and it may have become read-only since the last one. It is
    /// repeated only where nobody has moved the checkpoint.
    async fn commit_or_repeat(&mut self, receipt: &Receipt) -> Result<(), Committed> {
        if self.commits.back().map(String::as_str) == Some(receipt.next_cursor()) {
            self.look().await?;
        }
        self.commit(receipt).await
    }

    /// Makes the spool remember what is about to be committed, however long it takes.
    async fn announce(&mut self, receipt: &Receipt) -> Result<(), Committed> {
        let shard = Arc::clone(&self.shard);
        let cursor = receipt.next_cursor();
        while let Err(error) = shard.spool.intend(shard.key.clone(), cursor.to_owned()).await {
            if self.outage.failed(Instant::now()) != Say::Nothing {
                tracing::warn!(source = %shard.source.name, shard = shard.key.shard, code = error.code(), "{}; the checkpoint waits", chain(&error));
            }
            self.pause(Duration::ZERO).await?;
        }
        crash::point("intent-durable");
        Ok(())
    }

    /// Commits one receipt, however long it takes.
    async fn commit(&mut self, receipt: &Receipt) -> Result<(), Committed> {
        let shard = Arc::clone(&self.shard);
        let cursor = Cursor::new(receipt.next_cursor());
        crash::point("commit-due");
        while let Err(error) = shard.commit(&cursor).await {
            let wait = match error.advice() {
                Advice::NotOwner => {
                    tracing::warn!(source = %shard.source.name, shard = shard.key.shard, code = error.code(), %error, "another consumer holds the shard; it is given up, and what was not committed may be delivered twice");
                    return Err(Committed::Refused);
                }
                Advice::Retry { after } | Advice::Throttled { after } => after,
                _ => error.retry_after().unwrap_or(Duration::from_secs(1)),
            };
            if self.outage.failed(Instant::now()) != Say::Nothing {
                tracing::warn!(source = %shard.source.name, shard = shard.key.shard, code = error.code(), request_id = error.request_id(), "{}; the checkpoint is tried again, nothing is lost", chain(&error));
            }
            self.pause(wait).await?;
        }
        crash::point("commit-taken");
        self.backoff.reset();
        self.give_up = None;
        self.outage.recovered(Instant::now());
        add(&shard.counters.commits, 1);
        shard.spool.committed(shard.key.clone(), receipt.next_cursor().to_owned());
        crash::point("commit-noted");
        if self.commits.back().map(String::as_str) != Some(receipt.next_cursor()) {
            self.commits.push_back(receipt.next_cursor().to_owned());
        }
        if self.commits.len() > REMEMBERED {
            self.commits.pop_front();
        }
        Ok(())
    }

    /// Waits before the next try. The receipts that come meanwhile stay in the channel: when
    /// it is full, pulling stops.
    async fn pause(&mut self, hint: Duration) -> Result<(), Committed> {
        let shard = &self.shard;
        let left = self.give_up.map(|at| at.saturating_duration_since(Instant::now()));
        let pause = self.backoff.next(hint).min(left.unwrap_or(Duration::MAX));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shard.stop.cancelled(), if left.is_none() => {
                self.give_up = Some(Instant::now() + HAND_OVER);
                self.backoff.reset();
            }
        }
        match self.give_up {
            Some(at) if Instant::now() >= at => {
                tracing::warn!(source = %shard.source.name, shard = shard.key.shard, code = "sls.commit_late", "the last checkpoint could not be committed in time; the shard is given back, and what was not committed may be delivered twice");
                Err(Committed::InPart)
            }
            _ => Ok(()),
        }
    }

    fn until_look(&self) -> Duration {
        self.shard.source.checkpoint_look.saturating_sub(self.looked.elapsed())
    }

    /// Looks whether the checkpoint is still what was committed here. Only this task commits
    /// for the shard, and it does nothing else meanwhile: what it did not commit, somebody
    /// else did.
    async fn look(&mut self) -> Result<(), Committed> {
        self.looked = Instant::now();
        let shard = &self.shard;
        // Before the first commit it is what was found when the shard was taken.
        let found = shard.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.commits.is_empty() && !self.taken {
            return Ok(());
        }
        let state = match shard.server_checkpoint().await {
            Ok(Some(state)) => state,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::debug!(source = %shard.source.name, shard = shard.key.shard, code = error.code(), "{}; the checkpoint is looked at later", chain(&error));
                return Ok(());
            }
        };
        let Some(checkpoint) = state.checkpoint else { return Ok(()) };
        let last = self.commits.back().map(|last| Cursor::new(last.as_str()));
        if last.as_ref().or(found.as_ref()) == Some(&checkpoint) {
            return Ok(());
        }
        if state.consumer != shard.consumer {
            tracing::warn!(source = %shard.source.name, shard = shard.key.shard, code = "sls.checkpoint_set", consumer = %state.consumer, %checkpoint, "the checkpoint was set by somebody else; the shard is taken anew from there");
            return Err(Committed::Refused);
        }
        // An earlier one of ours may come late. Anybody else who names it wants it.
        let ours = self.commits.iter().any(|own| own == checkpoint.as_str());
        let Some(last) = last.filter(|_| !ours) else { return Ok(()) };
        // One from before it may be ours: a commit of an earlier life that was long under way.
        // Once; then it is put right.
        if !self.suspicious && checkpoint.is_before(&last) {
            self.suspicious = true;
            let _ = shard.commit(&last).await;
            return Ok(());
        }
        tracing::error!(source = %shard.source.name, shard = shard.key.shard, code = "sls.twin", consumer = %shard.consumer, %checkpoint, "another process commits under this relay's consumer name, as a copy of this machine or of its spool would; the shard is not pulled here any more. Stop the other process, or stop it and remove the file \"identity\" from its spool directory, then restart this relay");
        shard.counters.twin.store(true, std::sync::atomic::Ordering::Relaxed);
        Err(Committed::Twin)
    }
}
