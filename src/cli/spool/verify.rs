//! `sls-relay spool verify`: reads everything and names what does not check.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::ask::{Asking, ask};
use super::render::Rendered;
use crate::cli::output;
use crate::inspect::Question;

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    asking: Asking,
}

/// Ends with 1 where something is damaged.
pub(super) fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let mut rendered = Rendered::new(&args.asking, |_| {}).with_progress();
    let summary = ask(&args.asking, &Question::Verify, &mut rendered)?;
    drop(rendered);
    let number = |name: &str| summary[name].as_u64().unwrap_or_default();
    let (damage, undecodable) = (number("damage"), number("undecodable"));
    if args.asking.json {
        let mut summary = summary.clone();
        if let Some(fields) = summary.as_object_mut() {
            fields.remove("read_bytes");
            fields.remove("spool_bytes");
        }
        output::line(&json!({ "verified": summary }).to_string());
    } else {
        output::line(&format!(
            "{} segments, {}, {} batches and {} logs check",
            number("segments"),
            output::size(number("bytes")),
            number("batches"),
            number("logs")
        ));
        let without_key = number("without_key");
        if without_key > 0 {
            output::line(&format!(
                "{without_key} batches are encrypted with a key that is not here: their checksums hold or are told of as damage, but nothing of them was decoded; --key-file or encrypt_key_file names the keys"
            ));
        }
        if damage > 0 {
            output::line(&format!(
                "{damage} damaged stretches, {} batches lost",
                number("lost_batches")
            ));
        }
        if undecodable > 0 {
            output::line(&format!("{undecodable} batches cannot be decoded"));
        }
    }
    Ok(ExitCode::from(u8::from(damage + undecodable > 0)))
}
