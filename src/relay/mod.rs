//! The relay: sources fetch into the spool, senders drain it, and the two never wait for
//! one another except through the spool's quota.

mod acquire;
mod answer;
mod backoff;
mod checkpointer;
mod connection;
mod encoder;
mod expired;
mod feed;
mod fetcher;
mod filter;
mod group;
pub mod kept;
mod lag;
mod marks;
mod messages;
mod name;
mod notice;
mod pace;
mod poison;
mod receivers;
pub mod refetch;
pub mod replay;
mod route;
mod sender;
mod shard;
mod source;
pub mod status;
mod supervisor;
mod tempo;
mod unreadable;
mod until;
mod waiting;

pub(crate) use encoder::compression;
pub(crate) use name::consumer_name;
pub(crate) use supervisor::client_within;
pub use supervisor::{Relay, RelayError};

/// Resolves so long after `stop` was cancelled.
pub(crate) async fn stopped_for(
    stop: &tokio_util::sync::CancellationToken,
    time: std::time::Duration,
) {
    stop.cancelled().await;
    tokio::time::sleep(time).await;
}

/// Logs damage of the spool, where a reader of a destination found it with its name.
pub(crate) fn say_damage(damage: &crate::spool::Damage, destination: Option<&str>) {
    let crate::spool::Damage { from, to, first_seq, end_seq, .. } = *damage;
    let segment = format!("{:016x}", damage.segment);
    if damage.harmless {
        tracing::warn!(
            destination,
            code = "spool.damage",
            segment,
            from,
            to,
            first_seq,
            end_seq,
            "bytes of the spool do not check any more; they are kept in its quarantine. It is harmless: {damage}"
        );
    } else {
        tracing::error!(
            destination,
            code = "spool.damage",
            segment,
            from,
            to,
            first_seq,
            end_seq,
            "bytes of the spool do not check any more; they are kept in its quarantine, and delivery goes on behind them; {damage}. Pull it again with: sls-relay spool repair --refetch --reason TEXT"
        );
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
