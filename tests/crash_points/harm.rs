//! What happens to a spool while nobody has it open.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Bytes that are no frame of a segment.
const JUNK: [u8; 3000] = [0x5a; 3000];

/// Half an identity, as a disk that lost power may have it.
pub(crate) fn half_identity(spool: &Path) {
    fs::create_dir(spool).unwrap();
    fs::write(spool.join("identity"), "12ab").unwrap();
    fs::write(spool.join("identity.new"), "12ab").unwrap();
}

/// The beginning of a group behind the last whole one.
pub(crate) fn torn_tail(spool: &Path) {
    let newest = segments(spool).pop().unwrap();
    let whole = fs::read(&newest).unwrap();
    // What a group begins with is the same for the first of the file.
    let begun = [&whole[FILE_HEADER..FILE_HEADER + 60], &JUNK[..]].concat();
    fs::OpenOptions::new().append(true).open(newest).unwrap().write_all(&begun).unwrap();
}

/// An empty segment, and a newer one without a whole group.
pub(crate) fn unfinished_segments(spool: &Path) {
    let newest = segments(spool).pop().unwrap();
    let id = u64::from_str_radix(newest.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
    let path = |id| spool.join(format!("segments/{id:016x}.seg"));
    fs::write(path(id + 1), []).unwrap();
    fs::write(path(id + 2), JUNK).unwrap();
}

pub(crate) fn catalog_gone(spool: &Path) {
    fs::remove_dir_all(spool.join("catalog")).unwrap();
}

pub(crate) fn catalog_unreadable(spool: &Path, again: bool) {
    fs::write(spool.join("catalog/conf"), JUNK).unwrap();
    if again {
        fs::create_dir(spool.join("catalog.bad")).unwrap();
        fs::write(spool.join("catalog.bad/conf"), JUNK).unwrap();
    }
}

/// Flips a bit in the end of a group that later ones prove. The entries before it have their
/// own checksums. Returns the segment as it is now.
pub(crate) fn flipped_bit(spool: &Path) -> (PathBuf, Vec<u8>) {
    let newest = segments(spool).pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let group = |at: &usize| bytes[*at..].starts_with(b"SGRP");
    let ended = |at: &usize| bytes[*at - TRAILER..].starts_with(b"SEND");
    let starts: Vec<usize> =
        (FILE_HEADER + TRAILER..bytes.len()).filter(group).filter(ended).collect();
    // The first group is the snapshot, which has to be whole; the last proves those before it.
    let [_, ends @ ..] = &starts[..] else { panic!("one group") };
    let [ends @ .., _] = ends else { panic!("no group in the middle") };
    let damaged = ends[ends.len() / 2];
    bytes[damaged - 6] ^= 1;
    fs::write(&newest, &bytes).unwrap();
    (newest, bytes)
}

/// Files of segments, oldest first.
fn segments(spool: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(spool.join("segments")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

// See docs/spool-format.md.
const FILE_HEADER: usize = 32;
const TRAILER: usize = 24;
