//! Opening a spool: lock, recovery, a new segment, the catalog, the writer's thread.

use std::cell::RefCell;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use super::catalog::{Catalog, CatalogEntry};
use super::crash;
use super::disk::{Disk, OsDisk};
use super::entry::{Header, Indexed};
use super::error::Error;
use super::keys::Keys;
use super::ledger;
use super::lock::Lock;
use super::quota::Quota;
use super::recover::{Damage, QUARANTINE, recover};
use super::retention::Retention;
use super::scan::{Bodies, batches};
use super::segment::{self, Segment};
use super::shared::Shared;
use super::state::SegmentInfo;
use super::writer::Writer;
use super::{Open, Spool, entry::Change};

/// How to open a spool.
#[derive(Clone, Debug)]
pub struct Options {
    /// Spool directory; made, mode 0700, if it is missing.
    pub dir: PathBuf,
    /// Quota in bytes over everything in it, at least [`super::MIN_QUOTA`].
    pub max_bytes: u64,
    /// Bytes of the file system to leave free.
    pub min_free_bytes: u64,
    /// What is kept of delivered segments.
    pub retention: Retention,
    /// What bodies are encrypted with; nothing where there is no key.
    pub keys: Keys,
}

impl Options {
    /// A spool of `max_bytes` in `dir` that fills the disk if it must, keeps nothing that is
    /// delivered, and encrypts nothing.
    pub fn new(dir: impl Into<PathBuf>, max_bytes: u64) -> Self {
        let (dir, retention, keys) = (dir.into(), Retention::default(), Keys::default());
        Self { dir, max_bytes, min_free_bytes: 0, retention, keys }
    }

    /// For somebody who opens the spool of a relay that is stopped: nothing is let go of.
    pub fn keeping(dir: impl Into<PathBuf>) -> Self {
        let retention = Retention { time: std::time::Duration::MAX, bytes: u64::MAX };
        Self { retention, ..Self::new(dir, u64::MAX) }
    }
}

/// What opening found.
#[derive(Debug, Default)]
pub struct Opened {
    /// Durable bytes that do not check any more, as far as the heads in the newest segment
    /// tell: bodies are checked when they are read. Kept in the quarantine and noted in the
    /// ledger.
    pub damage: Vec<Damage>,
    /// Bytes of unfinished writes that were cut off; none of them was ever acknowledged.
    pub cut_bytes: u64,
}

impl Spool {
    /// Opens a spool directory, alone. Blocks on the disk.
    pub fn open(options: &Options) -> Result<(Self, Opened), Error> {
        let dir = &options.dir;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|e| Error::io("create", dir, e))?;
        let lock = Lock::acquire(dir)?;
        let disk: Arc<dyn Disk> = Arc::new(OsDisk::new(dir));
        let catalog = Catalog::open(&dir.join("catalog"));
        Self::open_on(disk, options, catalog, Some(lock))
    }

    /// Opens a spool on any disk, without catalog and lock: for tests with a simulated one.
    pub fn open_simulated(disk: Arc<dyn Disk>, options: &Options) -> Result<(Self, Opened), Error> {
        Self::open_on(disk, options, Catalog::none(), None)
    }

    fn open_on(
        disk: Arc<dyn Disk>,
        options: &Options,
        mut catalog: Catalog,
        lock: Option<Lock>,
    ) -> Result<(Self, Opened), Error> {
        let used = Arc::default();
        let mut quota = Quota::new(options.max_bytes, options.min_free_bytes, Arc::clone(&used))?;
        for name in [segment::DIR, QUARANTINE] {
            disk.create_dir(Path::new(name)).map_err(|e| Error::io("create", name, e))?;
        }
        disk.sync_dir(Path::new("")).map_err(|e| Error::io("sync", &options.dir, e))?;
        crash::point("directories-made");
        // Every group but the last was synced before the next one was begun, so only the last
        // can be torn: its bodies are read, and if one does not check, all of them. Bodies
        // that rotted since are found by the readers, which check each one before it is used,
        // and name the damage as exactly; reading all of them here would keep the relay shut
        // for a whole segment and find nothing that is not found later.
        let mut found = recover(disk.as_ref(), Bodies::Last)?;
        let last = catalog.last();
        let known = RefCell::new(&mut catalog);
        found.name(disk.as_ref(), last.as_ref(), &|span| known.borrow_mut().range(span))?;
        // Before anything lets go of their segments. A full disk must not keep the spool shut.
        for damage in &found.damage {
            if let Err(error) = ledger::set_aside(disk.as_ref(), damage) {
                tracing::error!(code = error.code(), segment = damage.segment, from = damage.from, to = damage.to, cause = ?std::error::Error::source(&error), "damaged bytes of the spool are not kept: {error}");
            }
        }
        found.settle(disk.as_ref())?;
        crash::point("recovery-settled");
        let opened = Opened { damage: found.damage.clone(), cut_bytes: found.cut };

        // A new segment per start: nothing is ever written behind a tail that was cut.
        let id = found.highest + 1;
        let incarnation = fastrand::u64(1..);
        let mut state = found.state;
        state.segments.insert(id, SegmentInfo::beginning(&state));
        let floor = Change::Floor { segment: options.retention.floor(&state, id, None) };
        state.apply(id, &Header::Journal(vec![floor]));
        let open = quota.with_reserve(disk.as_ref(), |disk| {
            Segment::create(disk, id, incarnation, Header::Snapshot(state.clone()))
        })?;
        if let Some(info) = state.segments.get_mut(&id) {
            info.length = open.length;
        }

        catalog.remove_before(state.segments.values().next().map_or(0, |info| info.first_seq));
        fill(&mut catalog, disk.as_ref(), &state)?;
        crash::point("catalog-filled");
        catalog.set_positions(&state);
        let segments: Vec<u64> = state.segments.keys().copied().collect();
        quota.refresh(disk.as_ref(), Some(&open), &segments);
        let shared = Arc::new(Shared::new(disk, catalog, state, id, used, options.keys.clone()));
        let floor = shared.lock().state.floor;
        shared.remove_unneeded(floor)?;
        crash::point("spool-opened");

        let (commands, receiver) = mpsc::channel();
        let limits = (quota, options.retention);
        let writer = Writer::new(Arc::clone(&shared), receiver, limits, open, incarnation);
        let thread = std::thread::Builder::new()
            .name("spool-writer".to_owned())
            .spawn(move || {
                // Recovery is the tested path: without a writer nothing works, so the process
                // ends and the next start reads the segments.
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.run())).is_err()
                {
                    std::process::abort();
                }
            })
            .map_err(|e| Error::io("start the writer of", &options.dir, e))?;
        let spool = Self {
            shared,
            commands,
            dir: options.dir.clone(),
            max_bytes: options.max_bytes,
            open: Arc::new(std::sync::Mutex::new(Some(Open { thread, lock }))),
        };
        Ok((spool, opened))
    }
}

/// Adds to the catalog what it does not know, from the footers of the segments,
/// else from the headers in them.
fn fill(catalog: &mut Catalog, disk: &dyn Disk, state: &super::State) -> Result<(), Error> {
    let known = catalog.next_seq();
    if known > state.next_seq {
        // It is ahead of the segments: a crash lost what it describes.
        catalog.remove_from(state.next_seq);
        return Ok(());
    }
    for (&segment, info) in state.segments.iter().filter(|(_, info)| info.end_seq > known) {
        let path = segment::path(segment);
        // A missing segment was reported as damage.
        let Ok(file) = disk.open(&path, false) else { continue };
        let found = batches(file.as_ref(), segment, info.length);
        let (incarnation, batches) = found.map_err(|e| Error::io("read", path, e))?;
        let entry =
            |Indexed { offset, header, .. }| CatalogEntry { segment, offset, incarnation, header };
        catalog.insert(&batches.into_iter().map(entry).collect::<Vec<_>>());
        crash::point("catalog-filling");
    }
    Ok(())
}
