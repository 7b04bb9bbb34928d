//! What is known of a source without asking anybody: where it reads, how it goes there, and
//! what survives what.

use super::findings::Findings;
use crate::cli::output;
use crate::config::{Checkpoint, Handover, Settings, Source, Start};
use crate::sls::Route;

pub(super) fn describe(source: &Source, settings: &Settings, findings: &mut Findings) {
    findings
        .note("logstore", &format!("{} {}/{}", source.endpoint, source.project, source.logstore));
    match &source.network.route {
        Route::Direct => {}
        Route::Address(address) => {
            findings.note("address", &format!("{address}, whatever the endpoint's name says"));
        }
        Route::Proxy(proxy) => findings.note("proxy", &proxy.to_string()),
        Route::Environment => {
            findings.note("proxy", "as HTTPS_PROXY, HTTP_PROXY and NO_PROXY say");
        }
    }
    if let Some(path) = &source.network.ca_file {
        let detail = format!("only those signed as {} says", path.display());
        findings.note("certificates", &detail);
    }
    let how = if source.start == Start::Begin {
        "; set start = \"end\" or a time to begin later"
    } else {
        ""
    };
    findings.note("without a checkpoint", &format!("a shard starts at {}{how}", source.start));
    survival(source, settings, findings);
    let identity = match source.filter {
        None => {
            "shard, cursor and index of a log, the same whenever it is read, where SLS numbers its log groups"
        }
        Some(_) => NOT_NUMBERED,
    };
    findings.note("identity", identity);
}

/// The identity of a log behind a filter.
pub(super) const NOT_NUMBERED: &str = "none: SLS does not number what a filter lets through, so a receiver cannot tell a repeated log from a new one";

fn survival(source: &Source, settings: &Settings, findings: &mut Findings) {
    findings.note(
        "a crash of the relay",
        "loses nothing; what the receivers had not confirmed yet is sent again",
    );
    findings.note("a power loss", "loses nothing that a checkpoint covers, the spool is on disk before it; what the receivers had not confirmed yet is sent again");
    match source.checkpoint {
        Checkpoint::Spooled => {
            let quota = output::size(settings.spool.max_bytes);
            findings.note("checkpoint = spooled", "is committed when logs are on this machine's disk, and does not wait for a receiver");
            findings.note("a loss of the disk", &format!("loses what waits in the spool, {quota} at most; set the checkpoints back by hand while SLS keeps the logs, or write checkpoint = \"delivered\""));
            findings.note("a loss of the machine", "loses the same as a loss of the disk; another relay of the group goes on behind it");
        }
        Checkpoint::Delivered => {
            findings.note("checkpoint = delivered", "is committed when every destination has confirmed the logs, so a receiver that is down holds it back");
            findings.note("a loss of the disk", "loses nothing while SLS keeps the logs; all that was not confirmed is pulled again, and what of it had arrived comes twice");
            findings.note("a loss of the machine", "loses nothing either; another relay of the group goes on at the checkpoint, with the same repetitions");
        }
    }
    match (source.handover, source.checkpoint) {
        (Handover::Spooled, Checkpoint::Spooled) => findings.note("handover = spooled", "a shard wanted by another relay goes at once, and what waits here for it is delivered later: newer logs may overtake older ones, none is lost or repeated"),
        (Handover::Spooled, Checkpoint::Delivered) => findings.note("handover = spooled", "a shard wanted by another relay goes at once, and that one begins at the last confirmed log: what waits here for it comes twice and out of order, none is lost"),
        (Handover::Delivered, _) => findings.note("handover = delivered", &format!("a shard wanted by another relay goes when everything from it is confirmed, in order; after {} s it goes anyway, and what was not confirmed comes twice", source.handover_timeout.as_secs())),
    }
}
