//! Root at work on a spool that is not root's: the real binary leaves no file of root's there.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test ends at the first surprise")]

#[path = "support/left_out.rs"]
mod left_out;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sls_relay::spool::{Options, Spool};

/// Not root, and mapped in every namespace with a range of users.
const OWNER: u32 = 1234;
const NAME: &str = "root_leaves_every_file_of_a_spool_to_its_owner";

#[test]
fn root_leaves_every_file_of_a_spool_to_its_owner() {
    if !rustix::process::geteuid().is_root() {
        return as_root_of_a_namespace();
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let spool = dir.path().join("spool");
    make_spool(&spool);
    for file in files(&spool) {
        chown(file, Some(OWNER), Some(OWNER)).unwrap();
    }
    let before = files(&spool).len();
    let said = relay(&["status"], &spool);
    assert!(said.status.success(), "{said:?}");
    let said = relay(&["forget", "--destination", "gone", "--reason", "a test"], &spool);
    assert!(said.status.success(), "{said:?}");
    let after = files(&spool);
    assert!(after.len() > before, "the command made files: {after:?}");
    let foreign: Vec<_> = after
        .iter()
        .filter(|file| {
            let found = file.symlink_metadata().unwrap();
            (found.uid(), found.gid()) != (OWNER, OWNER)
        })
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");

    // What its owner may not do, root does not do in its place.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let said = relay(&["status"], &spool);
    assert_eq!(said.status.code(), Some(77), "{said:?}");
}

#[test]
fn a_spool_of_the_user_itself_is_worked_on_as_ever() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    make_spool(&spool);
    let said = relay(&["forget", "--destination", "gone", "--reason", "a test"], &spool);
    assert!(said.status.success(), "{said:?}");
    let user = rustix::process::geteuid().as_raw();
    assert!(files(&spool).iter().all(|file| file.symlink_metadata().unwrap().uid() == user));
}

/// The same test once more as root of a user namespace, where that is possible.
fn as_root_of_a_namespace() {
    let unshare =
        |args: &[&str]| Command::new("unshare").args(["-r", "--map-auto"]).args(args).output();
    if !unshare(&["true"]).is_ok_and(|output| output.status.success()) {
        left_out::left_out(
            "commands of root on another user's spool: needs root, or unshare -r --map-auto",
        );
        return;
    }
    let this = std::env::current_exe().unwrap();
    let output = unshare(&[this.to_str().unwrap(), "--exact", NAME]).unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn make_spool(dir: &Path) {
    let options = Options::new(dir, 64 << 20);
    let (spool, _) = Spool::open(&options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(spool.set_destinations(&["gone".to_owned()])).unwrap();
    spool.close();
}

fn relay(args: &[&str], spool: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sls-relay"));
    command.arg("spool").args(args).arg("--spool").arg(spool).env_clear().output().unwrap()
}

/// Everything in a directory, and itself.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut at = 0;
    while at < found.len() {
        if found[at].is_dir() {
            found.extend(std::fs::read_dir(&found[at]).unwrap().map(|entry| entry.unwrap().path()));
        }
        at += 1;
    }
    found
}
