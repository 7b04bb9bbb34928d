//! `Verify`: everything is read, every checksum compared, every body decoded whose key is here.

use serde_json::{Value, json};

use super::error::Error;
use super::pass::{describe, undecodable};
use super::{Output, logs, send};
use crate::spool::inspect::{Inspection, Met};
use crate::spool::{self, Damage, Seq};

pub(super) fn verify(spool: &Inspection, out: &mut dyn Output) -> Result<Value, Error> {
    let segments: Vec<_> = spool.segments().collect();
    // Each byte is read once for the checksums and once more to be decoded.
    let total = segments.iter().map(|(_, info)| 2 * info.length).sum();
    let (mut done, mut bytes, mut batches, mut lost, mut damaged, mut failed) = (0, 0, 0, 0, 0, 0);
    let (mut seen, mut sealed, mut logs_read, mut raw) = (0, 0u64, 0u64, Vec::new());
    for (id, info) in segments {
        out.progress(done, total);
        if !out.is_wanted() {
            break;
        }
        // What was delivered and removed meanwhile is nothing that could be wrong.
        let Some(verified) = spool.verify(id) else { continue };
        seen += 1;
        bytes += verified.bytes;
        batches += verified.batches;
        lost += verified.lost;
        damaged += verified.damage.len();
        for damage in &verified.damage {
            let mut line = describe(damage);
            if let Some(why) = &verified.failed {
                line["why"] = json!(why);
            }
            send(out, &json!({ "damage": line }))?;
        }
        done += info.length;
        if verified.failed.is_none() {
            let mut found = spool.headers(info.first_seq, info.end_seq, |other| *other == info);
            while let Some(met) = found.next() {
                let Met::Batch(stored) = met? else { continue };
                let body = match stored.body() {
                    Ok(Ok(body)) => body,
                    Ok(Err(damage)) => {
                        // The checksums told of what does not check; here a key says that
                        // somebody changed what does.
                        if stored.header.key_id != 0 && !told(&verified.damage, stored.header.seq) {
                            damaged += 1;
                            lost += 1;
                            batches -= 1;
                            send(out, &json!({ "damage": describe(&damage) }))?;
                        }
                        continue;
                    }
                    Err(spool::Error::KeyMissing { .. }) => {
                        sealed += 1;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                match logs::decode(&stored.header, &body, &mut raw) {
                    Ok(()) => logs_read += u64::from(stored.header.logs),
                    Err(why) => {
                        failed += 1;
                        send(out, &undecodable(stored.header.seq, &why))?;
                    }
                }
                out.progress(done + found.progress().0, total);
            }
        }
        done += info.length;
    }
    Ok(json!({
        "segments": seen, "bytes": bytes, "batches": batches, "logs": logs_read,
        "lost_batches": lost, "damage": damaged, "undecodable": failed,
        "without_key": sealed,
    }))
}

/// Whether a batch is among what is told to be damaged.
fn told(damage: &[Damage], seq: Seq) -> bool {
    damage.iter().any(|damage| (damage.first_seq..damage.end_seq).contains(&seq))
}
