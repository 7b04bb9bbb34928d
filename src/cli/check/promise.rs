//! What a destination proves, and what can be lost or repeated, in words.

use std::time::Duration;

use crate::cli::output;
use crate::syslog::delivery::MOST;
use crate::syslog::{Assurance, Proof};

/// How logs travel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Channel {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
    /// An encrypted stream.
    Tls,
    /// RELP, encrypted or not.
    Relp {
        /// Most messages without an answer.
        window: u32,
    },
}

/// What the words depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Means {
    pub(super) channel: Channel,
    /// The proof that is configured; it says nothing on UDP and RELP.
    pub(super) proof: Proof,
    pub(super) assurance: Assurance,
    pub(super) settle: Duration,
    pub(super) drain_every: Duration,
    /// Bytes.
    pub(super) drain_bytes: u64,
}

/// The words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Promise {
    /// Whether anything is proven at all.
    pub(super) proves: bool,
    /// What shows that the receiver has a log.
    pub(super) proof: String,
    /// What happens where the receiver does not give that proof.
    pub(super) otherwise: Option<String>,
    /// What can be lost.
    pub(super) loss: String,
    /// What can arrive twice.
    pub(super) duplicates: String,
}

/// What holds for a destination.
pub(super) fn promise(means: &Means) -> Promise {
    let settle = span(means.settle);
    match means.channel {
        Channel::Udp => Promise {
            proves: false,
            proof: format!("none exists for UDP: a datagram that nobody refused within {settle} counts as delivered; use tcp://, tls:// or relp:// where a loss matters"),
            otherwise: None,
            loss: "without a bound: what the network, the receiver's buffer or a stopped receiver drops is gone, and nobody learns of it".to_owned(),
            duplicates: format!("what was sent within {settle}, each time a datagram is refused"),
        },
        Channel::Relp { window } => Promise {
            proves: true,
            proof: "the receiver acknowledges every message. rsyslog does so once a message is in its queue, which is in memory unless it is configured to be on disk".to_owned(),
            otherwise: None,
            loss: of_receiver("acknowledged", &settle),
            duplicates: format!("at most {window} messages and what was acknowledged within {settle}, each time a connection breaks"),
        },
        Channel::Tcp | Channel::Tls if means.proof == Proof::Window => Promise {
            proves: true,
            proof: format!("window: how much the receiver has read is told from the room that its kernel offers, less 128 KiB and {settle} late; where nothing flows it is drained. A proxy that ends connections (HAProxy, nginx) makes it worthless: then it tells what the proxy has read, and delivery = \"drain\" is the one to use"),
            otherwise: unanswered(means),
            loss: format!("{}. Through a proxy: what it had taken and not passed on", of_receiver("read", &settle)),
            duplicates: format!("at most 128 KiB and what was written within {settle}, each time a connection breaks"),
        },
        Channel::Tcp | Channel::Tls => Promise {
            proves: true,
            proof: format!("drain: from time to time {}, and the receiver closing the other shows that it has read everything. A proxy must pass that on (HAProxy with retries 0 does; nginx with proxy_half_close on)", closing(means.channel)),
            otherwise: unanswered(means),
            loss: of_receiver("read", &settle),
            duplicates: format!(
                "at most {} (up to {} on a path so long that drains take much of the time) or {} of logs, whichever is less, and {settle} more, each time a connection breaks",
                output::size(means.drain_bytes),
                output::size(means.drain_bytes.saturating_mul(MOST)),
                span(means.drain_every)
            ),
        },
    }
}

fn closing(channel: Channel) -> &'static str {
    match channel {
        Channel::Tls => {
            "TLS is ended with a close_notify and the connection closed in one direction"
        }
        _ => "the connection is closed in one direction",
    }
}

fn unanswered(means: &Means) -> Option<String> {
    Some(match means.assurance {
        Assurance::Strict => "a receiver that never closes its side is named, its logs are held and sent again (assurance = \"strict\")".to_owned(),
        Assurance::Best => "a receiver that never closes its side is named, and delivery goes on with what its window tells, else with the word of its kernel that it took all; what stands on that word alone is counted as unproven (assurance = \"best\")".to_owned(),
    })
}

/// What a receiver can lose of its own.
fn of_receiver(has: &str, settle: &str) -> String {
    format!(
        "nothing that the receiver had not {has}. What it had {has} more than {settle} ago and kept in memory is lost if it is killed; a disk queue at the receiver is the cure"
    )
}

/// A time as configurations have it.
fn span(time: Duration) -> String {
    let ms = time.as_millis();
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(channel: Channel, proof: Proof, assurance: Assurance) -> Means {
        Means {
            channel,
            proof,
            assurance,
            settle: Duration::from_millis(1500),
            drain_every: Duration::from_secs(30),
            drain_bytes: 16 << 20,
        }
    }

    fn words(means: &Means) -> String {
        let Promise { proof, otherwise, loss, duplicates, .. } = promise(means);
        [proof, otherwise.unwrap_or_default(), loss, duplicates].join("\n")
    }

    #[test]
    fn only_udp_proves_nothing_and_has_no_bound_on_loss() {
        for channel in [Channel::Udp, Channel::Tcp, Channel::Tls, Channel::Relp { window: 9 }] {
            let promise = promise(&means(channel, Proof::Drain, Assurance::Best));
            assert_eq!(promise.proves, channel != Channel::Udp);
            assert_eq!(promise.loss.contains("without a bound"), channel == Channel::Udp);
        }
    }

    #[test]
    fn every_bound_names_the_settle_time_and_what_is_configured() {
        for (channel, proof, bound) in [
            (Channel::Udp, Proof::Drain, "what was sent within 1500 ms"),
            (Channel::Tcp, Proof::Drain, "at most 16.0 MiB (up to 256.0 MiB on a path"),
            (Channel::Tls, Proof::Drain, "at most 16.0 MiB (up to 256.0 MiB on a path"),
            (Channel::Tcp, Proof::Window, "at most 128 KiB"),
            (Channel::Tls, Proof::Window, "at most 128 KiB"),
            (Channel::Relp { window: 77 }, Proof::Drain, "at most 77 messages"),
        ] {
            let duplicates = promise(&means(channel, proof, Assurance::Best)).duplicates;
            assert!(duplicates.contains(bound), "{channel:?} {proof:?}: {duplicates}");
            assert!(duplicates.contains("1500 ms"), "{channel:?} {proof:?}: {duplicates}");
        }
    }

    #[test]
    fn strict_holds_and_best_goes_on_and_both_say_so() {
        for proof in [Proof::Drain, Proof::Window] {
            let strict = words(&means(Channel::Tcp, proof, Assurance::Strict));
            assert!(strict.contains("held") && !strict.contains("goes on"), "{strict}");
            let best = words(&means(Channel::Tcp, proof, Assurance::Best));
            assert!(best.contains("goes on") && best.contains("unproven"), "{best}");
        }
        let relp = promise(&means(Channel::Relp { window: 1 }, Proof::Drain, Assurance::Best));
        assert_eq!(relp.otherwise, None);
    }

    #[test]
    fn proxies_are_spoken_of_where_they_break_the_proof() {
        for channel in [Channel::Tcp, Channel::Tls] {
            for proof in [Proof::Drain, Proof::Window] {
                assert!(words(&means(channel, proof, Assurance::Best)).contains("proxy"));
            }
        }
        let tls = words(&means(Channel::Tls, Proof::Drain, Assurance::Best));
        assert!(tls.contains("close_notify"), "{tls}");
    }
}
