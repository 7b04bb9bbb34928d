//! Root works on a spool as its owner does: a file of root's in the directory of the relay
//! would stop the relay, which may not write to it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Root cannot work as the owner of the spool.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot go on as the owner of {} (user {uid}); run the command as that user",
    dir.display()
)]
pub(crate) struct OwnerError {
    dir: PathBuf,
    uid: u32,
    source: io::Error,
}

/// Makes root the owner of the spool directory `dir`, for good: user, group and the owner's
/// other groups. What does not exist yet gets the owner of the directory it will be in. Does
/// nothing where that is root, or where this is not root.
///
/// On Linux the kernel changes one thread, and threads inherit it when they start: this must
/// be called before there is a second one.
///
/// # Errors
/// When the system refuses; nothing may be opened then.
pub(crate) fn become_owner(dir: &Path) -> Result<(), OwnerError> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let Some((uid, gid)) = owner(dir) else { return Ok(()) };
    if uid == 0 {
        return Ok(());
    }
    let failed = |source| OwnerError { dir: dir.to_owned(), uid, source };
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let groups = groups(uid, &read("/etc/passwd"), &read("/etc/group"));
    let groups: Vec<Gid> = std::iter::once(gid).chain(groups).map(Gid::from_raw).collect();
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // The user last: it is what allows the others.
    set_thread_groups(&groups)
        .and_then(|()| set_thread_res_gid(group, group, group))
        .and_then(|()| set_thread_res_uid(user, user, user))
        .map_err(|error| failed(error.into()))
}

/// User and group of the first of `dir` and what it lies in that exists.
fn owner(dir: &Path) -> Option<(u32, u32)> {
    let dir = std::path::absolute(dir).ok()?;
    let found = dir.ancestors().find_map(|path| std::fs::metadata(path).ok())?;
    Some((found.uid(), found.gid()))
}

/// The groups of a user as the files of the system say; one from elsewhere has none here.
fn groups(uid: u32, users: &str, groups: &str) -> Vec<u32> {
    let names: Vec<&str> = users
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let (name, id) = (fields.next()?, fields.nth(1)?);
            (id.parse() == Ok(uid)).then_some(name)
        })
        .collect();
    groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':').skip(2);
            let (id, members) = (fields.next()?.parse().ok()?, fields.next()?);
            // Root's group is not passed on, whoever is in it.
            (id != 0 && members.split(',').any(|name| names.contains(&name))).then_some(id)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_a_user_are_those_that_name_it_and_never_roots() {
        let users = "root:x:0:0::/root:/bin/sh\nrelay:x:990:990:::\nother:x:991:991:::\nbroken\n";
        let all = "root:x:0:relay\nadm:x:4:syslog,relay\nrelay:x:990:\nssl:x:101:relay\nx:y\n\
                   relays:x:7:relay2,other\nbad:x:n:relay\n";
        assert_eq!(groups(990, users, all), [4, 101]);
        assert_eq!(groups(991, users, all), [7]);
        assert!(groups(12345, users, all).is_empty() && groups(990, "", all).is_empty());
    }

    #[test]
    fn what_does_not_exist_has_the_owner_of_the_directory_around_it() {
        let dir = tempfile::tempdir().unwrap();
        let own = owner(dir.path()).unwrap();
        assert_eq!(owner(&dir.path().join("not/there")), Some(own));
        assert_eq!(own.0, geteuid().as_raw());
    }
}
