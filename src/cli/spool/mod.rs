//! `sls-relay spool`: looking into a spool. Only segments are read and nothing is changed,
//! so it works beside a running relay as well; but for `forget` and `import`, which need the
//! spool to themselves.

mod bar;
mod export;
mod gaps;
mod import;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{exit, output};
use crate::config;
use crate::sls::{self, body, walk};
use crate::spool::inspect::Inspection;
use crate::spool::{BatchHeader, Compression, Error, Item, Lock, Seq, Spool, StoredBatch};

#[derive(Args, Debug)]
pub(crate) struct SpoolArgs {
    #[command(subcommand)]
    command: SpoolCommand,
}

#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
struct Where {
    /// Spool directory
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Configuration file that names the spool directory; of it only [spool] is read
    /// [default: /etc/sls-relay/sls-relay.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Where the keys of an encrypted spool are.
#[derive(Args, Clone, Debug)]
struct KeyFile {
    /// File with the keys of an encrypted spool, one a line [default: encrypt_key_file of the
    /// configuration]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum SpoolCommand {
    /// What waits, for whom, and how much disk it takes
    Status {
        #[command(flatten)]
        at: Where,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// The batches that still wait, oldest first
    List {
        #[command(flatten)]
        at: Where,
        /// First batch to list [default: the oldest that still waits]
        #[arg(long, value_name = "SEQ")]
        from: Option<Seq>,
        /// Most batches to list
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// One batch with its logs
    Show {
        #[command(flatten)]
        at: Where,
        /// Number of the batch
        seq: Seq,
        /// Most logs to show
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// One JSON object a line, the batch first
        #[arg(long)]
        json: bool,
        /// The body as SLS sent it, to standard output
        #[arg(long, conflicts_with = "json")]
        raw: bool,
        #[command(flatten)]
        keys: KeyFile,
    },
    /// What is missing: gaps, answers that could not be read, damage
    Gaps {
        #[command(flatten)]
        at: Where,
        /// One JSON object a line, as in the spool's ledger
        #[arg(long)]
        json: bool,
    },
    /// Let go of what waits for a destination that is not configured any more
    Forget {
        #[command(flatten)]
        at: Where,
        /// Name of the destination
        #[arg(long, value_name = "NAME")]
        destination: String,
    },
    /// Copy batches into one file, for the spool of another relay
    Export(export::ExportArgs),
    /// Store the batches of an exported file, to be delivered from here
    Import(import::ImportArgs),
    /// Print a new random key for encrypt_key_file
    Key,
    /// Print what is in an encrypted file of quarantine/
    Decrypt {
        #[command(flatten)]
        at: Where,
        /// File, with the name that it had in quarantine/
        file: PathBuf,
        #[command(flatten)]
        keys: KeyFile,
    },
}

pub(crate) fn run(args: &SpoolArgs) -> ExitCode {
    let done = match &args.command {
        SpoolCommand::Status { at, json } => at.dir().and_then(|dir| Ok(status(&dir, *json)?)),
        SpoolCommand::List { at, from, limit, json } => {
            at.dir().and_then(|dir| Ok(list(&dir, *from, *limit, *json)?))
        }
        SpoolCommand::Show { at, seq, limit, json, raw, keys } => {
            at.with_keys(keys).and_then(|spool| show(&spool, *seq, *limit, *json, *raw))
        }
        SpoolCommand::Gaps { at, json } => at.dir().and_then(|dir| gaps::gaps(&dir, *json)),
        SpoolCommand::Forget { at, destination } => {
            at.dir().and_then(|dir| forget(&dir, destination))
        }
        SpoolCommand::Export(args) => export::run(args),
        SpoolCommand::Import(args) => import::run(args),
        SpoolCommand::Key => key(),
        SpoolCommand::Decrypt { at, file, keys } => {
            at.with_keys(keys).and_then(|spool| decrypt(&spool, file))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let denied = error.downcast_ref::<Error>().is_some_and(|error| {
                matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied)
            });
            if let Some(problems) = error.downcast_ref::<config::Problems>() {
                output::error(&problems.to_string());
                return ExitCode::from(exit::CONFIG);
            }
            let code = if denied { exit::NO_PERMISSION } else { exit::UNAVAILABLE };
            output::fail(error.as_ref(), code)
        }
    }
}

impl Where {
    fn dir(&self) -> anyhow::Result<PathBuf> {
        match &self.spool {
            Some(dir) => Ok(dir.clone()),
            None => Ok(self.settings()?.dir),
        }
    }

    /// The spool's settings with the keys of `keys`, if it names some.
    fn with_keys(&self, keys: &KeyFile) -> anyhow::Result<config::SpoolSettings> {
        let settings = self.settings()?;
        let key_file = keys.key_file.clone().or_else(|| settings.key_file.clone());
        Ok(config::SpoolSettings { key_file, ..settings })
    }

    /// The spool's settings; of a directory alone, those without limits.
    fn settings(&self) -> anyhow::Result<config::SpoolSettings> {
        if let Some(dir) = &self.spool {
            return Ok(config::SpoolSettings::new(dir, u64::MAX));
        }
        let path = self.config.as_deref().unwrap_or(Path::new("/etc/sls-relay/sls-relay.toml"));
        Ok(config::load_spool(path)?)
    }
}

fn status(dir: &Path, as_json: bool) -> Result<(), Error> {
    let spool = Inspection::open(dir)?;
    let state = spool.state();
    let holder = Lock::holder(dir);
    let now = jiff::Timestamp::now().as_second().unsigned_abs();
    let oldest = state.oldest_needed();
    let oldest_batch = first_batch(&spool, oldest)?;
    let oldest_age = oldest_batch
        .as_ref()
        .map(|header| now.saturating_sub(header.received_at.unsigned_abs() / 1000));
    if as_json {
        let destinations: serde_json::Map<String, Value> = state
            .destinations
            .iter()
            .map(|(name, delivered)| {
                let waiting = state.next_log - delivered.log;
                let (seq, index) = (delivered.position.seq, delivered.position.index);
                (name.clone(), json!({ "seq": seq, "index": index, "logs_waiting": waiting }))
            })
            .collect();
        let shards: Vec<Value> = state
            .shards
            .iter()
            .map(|(key, shard)| {
                json!({ "source": key.source, "shard": key.shard, "position": shard.position, "committed": shard.committed })
            })
            .collect();
        let status = json!({
            "dir": dir, "held_by": holder, "used_bytes": spool.used_bytes,
            "segments": state.segments.len(), "next_seq": state.next_seq,
            "batches_waiting": state.next_seq - oldest, "logs_ever": state.next_log,
            "oldest_age_seconds": oldest_age, "unfinished_bytes": spool.unfinished_bytes,
            "damaged_ranges": spool.damage.len(), "destinations": destinations, "shards": shards,
        });
        output::line(&status.to_string());
        return Ok(());
    }
    output::line(&format!("spool      {}", dir.display()));
    output::line(&format!("held by    {}", holder.as_deref().unwrap_or("nobody")));
    output::line(&format!(
        "disk       {} in {} segments",
        output::size(spool.used_bytes),
        state.segments.len()
    ));
    output::line(&format!("waiting    {} batches", state.next_seq - oldest));
    if let Some(age) = oldest_age {
        output::line(&format!("oldest     received {} ago", output::age(age)));
    }
    if spool.unfinished_bytes > 0 && holder.is_none() {
        output::line(&format!(
            "unfinished {} behind the last whole group; never acknowledged",
            output::size(spool.unfinished_bytes)
        ));
    }
    for damage in &spool.damage {
        output::line(&format!(
            "DAMAGE     segment {:016x}, bytes {} to {}, batches {} to {}",
            damage.segment, damage.from, damage.to, damage.first_seq, damage.end_seq
        ));
    }
    if !state.destinations.is_empty() {
        output::line("");
        let rows = state.destinations.iter().map(|(name, delivered)| {
            let waiting = state.next_log - delivered.log;
            vec![name.clone(), delivered.position.to_string(), waiting.to_string()]
        });
        output::table(&["destination", "next log", "logs waiting"], &rows.collect::<Vec<_>>());
    }
    if !state.shards.is_empty() {
        output::line("");
        let rows = state.shards.iter().map(|(key, shard)| {
            let committed = shard.committed.clone().unwrap_or_else(|| "-".to_owned());
            vec![key.source.clone(), key.shard.to_string(), shard.position.clone(), committed]
        });
        output::table(&["source", "shard", "position", "checkpoint"], &rows.collect::<Vec<_>>());
    }
    Ok(())
}

fn list(dir: &Path, from: Option<Seq>, limit: usize, as_json: bool) -> Result<(), Error> {
    let spool = Inspection::open(dir)?;
    let mut reader = spool.stored(from.unwrap_or_else(|| spool.state().oldest_needed()));
    let mut rows = Vec::new();
    let mut shown = 0;
    while shown < limit
        && let Some(item) = reader.read()?
    {
        let Item::Batch(batch) = item else {
            output::error(&format!("damage: {item:?}"));
            continue;
        };
        shown += 1;
        let header = &batch.header;
        if as_json {
            output::line(&describe(&batch).to_string());
        } else {
            rows.push(vec![
                header.seq.to_string(),
                header.key.shard.to_string(),
                header.logs.to_string(),
                output::size(batch.body.len() as u64),
                output::size(header.raw_size),
                output::time(header.received_at),
                header.cursor.clone(),
                header.key.source.clone(),
            ]);
        }
    }
    if !as_json {
        let headings = ["seq", "shard", "logs", "stored", "raw", "received", "cursor", "source"];
        output::table(&headings, &rows);
    }
    Ok(())
}

fn show(
    spool: &config::SpoolSettings,
    seq: Seq,
    limit: usize,
    as_json: bool,
    raw: bool,
) -> anyhow::Result<()> {
    let spool = Inspection::with_keys(&spool.dir, spool.keys()?)?;
    let mut reader = spool.reader(seq);
    let batch = match reader.read()? {
        Some(Item::Batch(batch)) if batch.header.seq == seq => batch,
        Some(Item::Damage(damage)) => {
            anyhow::bail!("batch {seq} lies in damaged bytes: {damage:?}")
        }
        _ => anyhow::bail!(
            "the spool holds no batch {seq}; `sls-relay spool list` shows those it holds"
        ),
    };
    if raw {
        output::bytes(&batch.body);
        return Ok(());
    }
    let mut bytes = Vec::new();
    let compression = match batch.header.compression {
        Compression::None => sls::Compression::None,
        Compression::Lz4 => sls::Compression::Lz4,
        Compression::Zstd => sls::Compression::Zstd,
    };
    body::decompress(compression, &batch.body, batch.header.raw_size, &mut bytes)?;
    let summary = describe(&batch);
    if as_json {
        output::line(&summary.to_string());
    } else {
        for (key, value) in summary.as_object().into_iter().flatten() {
            output::line(&format!(
                "{key:20} {}",
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            ));
        }
    }
    let mut shown = 0;
    for group in walk::groups(&bytes) {
        let group = group?;
        for log in group.logs() {
            if shown == limit {
                let left = batch.header.logs as usize - limit;
                if !as_json {
                    output::line(&format!("\n{left} more logs; --limit shows more"));
                }
                return Ok(());
            }
            let pairs: Vec<(String, String)> =
                [(&b"__topic__"[..], group.topic), (b"__source__", group.source)]
                    .into_iter()
                    .chain(log.fields())
                    .map(|(key, value)| (printable(key), printable(value)))
                    .collect();
            if as_json {
                let fields: Vec<_> = pairs.iter().map(|(k, v)| json!([k, v])).collect();
                output::line(&json!({ "index": shown, "time": log.time, "time_ns": log.time_ns, "fields": fields }).to_string());
            } else {
                output::line(&format!(
                    "\nlog {shown}  {}",
                    output::time(i64::from(log.time) * 1000)
                ));
                for (key, value) in pairs {
                    output::line(&format!("  {key} = {value}"));
                }
            }
            shown += 1;
        }
    }
    Ok(())
}

fn forget(dir: &Path, destination: &str) -> anyhow::Result<()> {
    if !Inspection::open(dir)?.state().destinations.contains_key(destination) {
        anyhow::bail!(
            "the spool knows no destination {destination:?}; `sls-relay spool status` shows those it knows"
        );
    }
    let options = crate::spool::Options::new(dir, u64::MAX);
    let (spool, _) = Spool::open(&options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    spool.note(&json!({ "what": "forget destination", "destination": destination }))?;
    runtime.block_on(spool.forget_destination(destination))?;
    spool.close();
    output::line(&format!("{destination} is forgotten; the spool keeps nothing for it any more"));
    Ok(())
}

fn key() -> anyhow::Result<()> {
    output::line(&crate::spool::Keys::random()?);
    Ok(())
}

fn decrypt(spool: &config::SpoolSettings, file: &Path) -> anyhow::Result<()> {
    let copy = std::fs::read(file).map_err(|source| Error::Io {
        action: "read",
        path: file.to_owned(),
        source,
    })?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    output::bytes(&spool.keys()?.open_copy(&name, copy)?);
    Ok(())
}

fn first_batch(spool: &Inspection, from: Seq) -> Result<Option<BatchHeader>, Error> {
    let mut reader = spool.stored(from);
    while let Some(item) = reader.read()? {
        if let Item::Batch(batch) = item {
            return Ok(Some(batch.header));
        }
    }
    Ok(None)
}

fn describe(batch: &StoredBatch) -> Value {
    let header = &batch.header;
    let mut described = json!({
        "seq": header.seq, "source": header.key.source, "shard": header.key.shard,
        "cursor": header.cursor, "next_cursor": header.next_cursor,
        "groups": header.groups, "logs": header.logs, "stored_bytes": batch.body.len(),
        "raw_bytes": header.raw_size, "compression": format!("{:?}", header.compression).to_lowercase(),
        "received": output::time(header.received_at),
        "oldest_log": output::time(i64::from(header.min_time) * 1000),
        "newest_log": output::time(i64::from(header.max_time) * 1000),
    });
    if header.key_id != 0 {
        described["key"] = format!("{:016x}", header.key_id).into();
    }
    described
}

/// Text as it is, everything else escaped: what is shown can do nothing to a terminal.
fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02X}"));
        }
    }
    out
}
