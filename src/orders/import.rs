//! Import: storing what was exported from another spool.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::error::Error;
use super::{Audit, Configured, alone, wait};
use crate::inspect::Output;
use crate::spool::portable::{self, PortableError, WhenFull};

/// Ends early where `out` does not want it any more; what is stored by then stays, and the same
/// order goes on behind it. Nobody makes room in a spool that has no destinations.
pub(super) fn import(
    audit: &Audit<'_>,
    configured: &Configured,
    path: &Path,
    out: &mut dyn Output,
) -> Result<Value, Error> {
    if !path.is_absolute() {
        return Err(Error::Relative { path: path.to_owned() });
    }
    // Two at once of the same file would store it twice: neither knows how far the other is.
    let Some(_alone) = alone(&configured.importing) else { return Err(Error::Importing) };
    let of_file = |error| of_file(error, path);
    let contents = portable::verify(path, &mut |at| out.progress(at.batches, at.of_batches));
    let contents = contents.map_err(of_file)?;
    let (export, batches) = (format!("{:016x}", contents.export), contents.batches);
    audit.note(
        "import",
        &json!({ "file": path.to_string_lossy(), "export": export, "batches": batches, "logs": contents.logs }),
    )?;
    let delivers = !configured.destinations.is_empty();
    let when_full = if delivers { WhenFull::Wait } else { WhenFull::Fail };
    let mut goes_on = |at: portable::Progress| {
        out.progress(at.batches, at.of_batches);
        out.is_wanted()
    };
    let done = portable::import(audit.spool, path, contents, audit.reason, when_full, &mut goes_on);
    let done = wait(done).map_err(of_file)?;
    Ok(json!({
        "export": export, "batches": batches, "logs": done.contents.logs, "stored": done.stored,
        "stored_before": done.before, "complete": done.whole,
    }))
}

/// Says who may not read the file: that is often not the one who gives the order.
fn of_file(error: PortableError, file: &Path) -> Error {
    match error {
        PortableError::Spool(crate::spool::Error::Io { path, source, .. })
            if path == file && source.kind() == io::ErrorKind::PermissionDenied =>
        {
            let uid = rustix::process::geteuid().as_raw();
            Error::Unreadable { path, uid, source }
        }
        PortableError::Spool(error) => Error::Spool(error),
        error => Error::Portable(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Configured, Giver, Order, obey};
    use super::*;
    use crate::spool::{self, Options, Spool};

    struct Nobody;

    impl Output for Nobody {
        fn line(&mut self, _: &Value) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn two_imports_at_once_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(&Options::new(dir.path(), 16 << 20)).unwrap();
        let configured = Configured::default();
        let (path, reason) = (dir.path().join("no such file"), "a test".to_owned());
        let order = Order::Import { path, reason };
        let giver = Giver { uid: 0, pid: None };
        let code = || obey(&spool, &configured, &order, giver, &mut Nobody).unwrap_err().code();
        let running = configured.importing.lock().unwrap();
        assert_eq!(code(), "order.importing");
        drop(running);
        assert_eq!(code(), "spool.io");
        spool.close();
    }

    #[test]
    fn who_may_not_read_the_file_is_named_and_other_errors_stay_what_they_are() {
        let file = Path::new("/there/moved");
        let io = |path: &Path, kind: io::ErrorKind| {
            PortableError::Spool(spool::Error::Io {
                action: "open",
                path: path.to_owned(),
                source: kind.into(),
            })
        };
        let denied = of_file(io(file, io::ErrorKind::PermissionDenied), file);
        assert_eq!(denied.code(), "order.unreadable");
        let uid = rustix::process::geteuid().as_raw();
        let text = denied.to_string();
        assert!(text.contains("/there/moved") && text.contains(&format!("user {uid}")), "{text}");
        let elsewhere = io(Path::new("segments/1"), io::ErrorKind::PermissionDenied);
        assert_eq!(of_file(elsewhere, file).code(), "spool.io");
        assert_eq!(of_file(io(file, io::ErrorKind::NotFound), file).code(), "spool.io");
    }
}
