//! Which destinations the spool delivers to: where a new one starts, which of them hold its
//! data, and which have to give way when room is short.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use super::Spool;
use super::entry::{Change, Position, Seq};
use super::error::Error;
use super::inspect::Met;
use super::spans::Span;
use super::state::{Delivered, State};

/// What the spool is told about one destination at every start. Only the position is durable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Terms {
    /// Name; the position goes by it.
    pub name: String,
    /// Whether its position holds the spool. One that does not loses its place when the quota
    /// bites: see [`Spool::given_up`].
    pub required: bool,
    /// Where it starts if the spool does not know it.
    pub start: StartAt,
}

/// Where a destination that is new to the spool starts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StartAt {
    /// At the oldest batch there is where the spool never had a destination, else at what comes
    /// from now on.
    #[default]
    Fresh,
    /// At what comes from now on.
    Now,
    /// At the oldest batch there is, delivered to others or not.
    Oldest,
    /// At the first batch that SLS received at or after this time, ms since the epoch.
    Received(i64),
}

impl std::fmt::Display for StartAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fresh | Self::Now => f.write_str("now"),
            Self::Oldest => f.write_str("oldest"),
            Self::Received(at) => match jiff::Timestamp::from_millisecond(*at) {
                Ok(time) => write!(f, "{time}"),
                Err(_) => write!(f, "{at} ms"),
            },
        }
    }
}

/// What destinations that are not required lost because others needed the room, in logs, since
/// the spool was opened.
pub type GivenUp = BTreeMap<String, u64>;

impl Spool {
    /// Makes sure the named destinations have a position, and that all of them hold the spool.
    /// The first ones of a spool start at its oldest batch, later ones at now. Returns the
    /// names that the spool knows beside them: they hold its data until
    /// [`Self::forget_destination`].
    ///
    /// # Errors
    /// [`Error::Io`] while the disk fails.
    pub async fn set_destinations(&self, names: &[String]) -> Result<Vec<String>, Error> {
        let terms =
            |name: &String| Terms { name: name.clone(), required: true, start: StartAt::default() };
        self.set_terms(&names.iter().map(terms).collect::<Vec<_>>()).await
    }

    /// The same, with where each starts and whether it holds the spool. Until this is called
    /// every destination holds it. Where a destination starts in a spool that is in use is
    /// noted in the ledger.
    ///
    /// # Errors
    /// [`Error::Io`] while the disk fails.
    pub async fn set_terms(&self, terms: &[Terms]) -> Result<Vec<String>, Error> {
        let known: BTreeSet<String> = {
            let inner = self.shared.lock();
            inner.state.destinations.keys().cloned().collect()
        };
        for one in terms.iter().filter(|one| !known.contains(&one.name)) {
            let (spool, start, fresh) = (self.clone(), one.start, known.is_empty());
            let place = tokio::task::spawn_blocking(move || spool.start_of(start, fresh)).await;
            let Delivered { position, log } = place.map_err(|_| Error::Closed)??;
            if self.shared.lock().state.next_seq > 0 {
                self.note(&serde_json::json!({
                    "what": "destination", "destination": one.name,
                    "start": one.start.to_string(), "seq": position.seq, "log": log,
                }))?;
            }
            self.order(Change::AddDestination { name: one.name.clone(), position, log }).await?;
        }
        let yielding = terms.iter().filter(|one| !one.required).map(|one| one.name.clone());
        self.shared.lock().yielding = yielding.collect();
        self.shared.publish();
        let named = |name: &String| terms.iter().any(|one| one.name == *name);
        Ok(known.into_iter().filter(|name| !named(name)).collect())
    }

    /// Lets go of a destination that is not configured any more.
    ///
    /// # Errors
    /// [`Error::Io`] while the disk fails.
    pub async fn forget_destination(&self, name: &str) -> Result<(), Error> {
        self.order(Change::ForgetDestination { name: name.to_owned() }).await
    }

    /// Logs that destinations which are not required lost since the spool was opened, by
    /// destination, and its changes. They were neither confirmed nor are they there any more;
    /// some may have arrived. The ledger has a line for each loss.
    pub fn given_up(&self) -> watch::Receiver<GivenUp> {
        self.shared.given_up()
    }

    /// Logs ever spooled. A destination whose [`Delivered::log`] is as much has all of them.
    pub fn logs_ever(&self) -> u64 {
        self.shared.lock().state.next_log
    }

    /// Blocks on the disk where the start is a time.
    fn start_of(&self, start: StartAt, fresh: bool) -> Result<Delivered, Error> {
        let inspection = self.inspection();
        let state = inspection.state();
        let at = |seq, log| Delivered { position: Position { seq, index: 0 }, log };
        let oldest = || {
            let first = state.segments.values().next();
            first.map_or(at(state.next_seq, state.next_log), |i| at(i.first_seq, i.first_log))
        };
        Ok(match start {
            StartAt::Oldest => oldest(),
            StartAt::Fresh if fresh => oldest(),
            StartAt::Fresh | StartAt::Now => at(state.next_seq, state.next_log),
            StartAt::Received(time) => {
                let wanted = |info: &super::SegmentInfo| info.max_received >= time;
                for met in inspection.headers(0, Seq::MAX, wanted) {
                    if let Met::Batch(batch) = met?
                        && batch.header.received_at >= time
                    {
                        return Ok(at(batch.header.seq, batch.header.first_log));
                    }
                }
                at(state.next_seq, state.next_log)
            }
        })
    }
}

/// What is given up so that the oldest segment can go.
#[derive(Debug)]
pub(crate) struct GivingWay {
    /// The segment.
    pub(crate) segment: u64,
    /// Where the destinations in [`Self::lost`] go on.
    pub(crate) goes_on: Delivered,
    /// What each destination still had to get from it: batches, and logs in them.
    pub(crate) lost: Vec<(String, Span, u64)>,
}

impl GivingWay {
    /// What has to give way next: the oldest segment, if it is there for `yielding`
    /// destinations alone. Held batches and what somebody reads again from batch `pinned` on
    /// stay.
    pub(crate) fn of(
        state: &State,
        yielding: &BTreeSet<String>,
        newest: u64,
        pinned: Option<Seq>,
    ) -> Option<Self> {
        let (&segment, info) = state.segments.first_key_value()?;
        let end = info.end_seq;
        let stays = |seq: Seq| seq < end;
        let mut others = state.destinations.iter().filter(|(name, _)| !yielding.contains(*name));
        if segment >= newest
            || others.any(|(_, at)| stays(at.position.seq))
            || pinned.is_some_and(stays)
            || state.holds.iter().any(|span| stays(span.first))
        {
            return None;
        }
        let behind = state.destinations.iter().filter(|(_, at)| stays(at.position.seq));
        let lost = behind.map(|(name, at)| {
            let span = Span { first: at.position.seq.max(info.first_seq), end };
            (name.clone(), span, info.end_log.saturating_sub(at.log.max(info.first_log)))
        });
        let lost: Vec<_> = lost.collect();
        let goes_on = Delivered { position: Position { seq: end, index: 0 }, log: info.end_log };
        (!lost.is_empty()).then_some(Self { segment, goes_on, lost })
    }

    /// As lines of the ledger.
    pub(crate) fn lines(&self) -> impl Iterator<Item = serde_json::Value> {
        self.lost.iter().map(|(destination, span, logs)| {
            serde_json::json!({
                "what": "gave way", "destination": destination,
                "first_seq": span.first, "end_seq": span.end, "logs": logs,
                "why": "the spool was full, and the destination is not required",
            })
        })
    }

    /// As changes of the state, in the order in which they hold.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change> {
        let Delivered { position, log } = self.goes_on;
        let acks = self.lost.iter().map(move |(destination, _, _)| Change::Ack {
            destination: destination.clone(),
            position,
            log,
        });
        acks.chain([Change::Floor { segment: self.segment + 1 }])
    }
}

/// The oldest batch that a destination which holds the spool still has to confirm. Where none
/// does, all of them count.
pub(crate) fn needed(state: &State, yielding: &BTreeSet<String>) -> Seq {
    let holding = state.destinations.iter().filter(|(name, _)| !yielding.contains(*name));
    let needed = holding.map(|(_, delivered)| delivered.position.seq).min();
    needed.unwrap_or_else(|| state.oldest_needed())
}
