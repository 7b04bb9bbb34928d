//! Keys of an encrypted spool, and what they do to a body.
//!
//! XChaCha20-Poly1305: a random nonce of 24 bytes in front, the ciphertext, a tag of 16 bytes
//! behind. Which shard, cursors and compression a body belongs to is authenticated with it, so
//! that bodies cannot change places; its number is not, so that it may move to another spool.

use std::fmt;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use chacha20poly1305::aead::{AeadInOut as _, Generate as _, KeyInit as _};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::entry::{Batch, BatchHeader, Compression, ShardKey};
use super::error::Error;

const KEY: usize = 32;
const NONCE: usize = 24;
const TAG: usize = 16;
/// Bytes by which a sealed body is longer.
pub(crate) const OVERHEAD: usize = NONCE + TAG;
/// In front of a copy in `quarantine/`; the id of the key follows.
const COPY_MAGIC: &[u8; 8] = b"SLSRENC1";
pub(crate) const COPY_HEADER: usize = 16;
/// Bytes of an encrypted copy at most.
pub(crate) const LARGEST_COPY: usize = super::format::MAX_BODY + COPY_HEADER + OVERHEAD;

/// The keys of a spool. The first one encrypts, all of them decrypt; without any, bodies are
/// stored in the clear. Handles share the keys, which are wiped with the last one.
#[derive(Clone, Default)]
pub struct Keys(Arc<[Key]>);

/// What is wrong with a file of keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeysError {
    /// There is none in it.
    #[error("it holds no key; `sls-relay spool key` makes one")]
    Empty,
    /// A line is none.
    #[error("line {line} is no key: 32 bytes in base64 or hex are one")]
    NotAKey {
        /// Number of the line, from 1.
        line: usize,
    },
}

struct Key {
    id: u64,
    cipher: XChaCha20Poly1305,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Reads keys, one a line, in base64 or hex; empty lines and lines that begin with `#` are
    /// passed over.
    ///
    /// # Errors
    /// Which line is no key, or that there is none.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let keys = lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#'));
        let keys: Result<Vec<Key>, _> =
            keys.map(|(line, text)| Key::parse(text).ok_or(KeysError::NotAKey { line })).collect();
        let keys = keys?;
        if keys.is_empty() { Err(KeysError::Empty) } else { Ok(Self(keys.into())) }
    }

    /// A new random key as a line of a file.
    ///
    /// # Errors
    /// [`Error::Io`] where the system has no randomness to give.
    pub fn random() -> Result<Zeroizing<String>, Error> {
        let bytes: [u8; KEY] = random()?;
        Ok(Zeroizing::new(BASE64_STANDARD.encode(Zeroizing::new(bytes))))
    }

    /// The ids of the keys, the encrypting one first.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(|key| key.id)
    }

    /// The id of the key of this number, unless it is 0 or known here.
    pub(crate) fn lacks(&self, id: u64) -> bool {
        id != 0 && self.ids().all(|known| known != id)
    }

    /// Encrypts the body of a batch where there is a key; returns the id of the key, else 0.
    pub(crate) fn seal(&self, shard: &ShardKey, batch: &mut Batch) -> Result<u64, Error> {
        let Some(key) = self.0.first() else { return Ok(0) };
        let bound = Bound {
            shard,
            cursor: &batch.cursor,
            next_cursor: &batch.next_cursor,
            raw_size: batch.raw_size,
            compression: batch.compression,
        };
        batch.body = Bytes::from(key.seal(&[], &bound.bytes(), &batch.body)?);
        Ok(key.id)
    }

    /// The body that was sealed; `None` where it is not what was sealed with this header.
    ///
    /// # Errors
    /// [`Error::KeyMissing`].
    pub(crate) fn open(
        &self,
        header: &BatchHeader,
        stored: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, Error> {
        if header.key_id == 0 {
            return Ok(Some(stored));
        }
        let key = self.get(header.key_id, || format!("batch {}", header.seq))?;
        let bound = Bound {
            shard: &header.key,
            cursor: &header.cursor,
            next_cursor: &header.next_cursor,
            raw_size: header.raw_size,
            compression: header.compression,
        };
        Ok(key.open(&bound.bytes(), stored))
    }

    /// What goes into `quarantine/` under `name` for `content`.
    pub(crate) fn seal_copy(&self, name: &str, content: &[u8]) -> Result<Vec<u8>, Error> {
        let Some(key) = self.0.first() else { return Ok(content.to_vec()) };
        let mut head = COPY_MAGIC.to_vec();
        head.extend_from_slice(&key.id.to_le_bytes());
        key.seal(&head, name.as_bytes(), content)
    }

    /// The content of a file in `quarantine/` that was called `name` there; as it is where it
    /// is not encrypted, as copies of damaged bytes never are.
    ///
    /// # Errors
    /// [`Error::KeyMissing`], and [`Error::Sealed`] where the file was changed or renamed.
    pub fn open_copy(&self, name: &str, copy: Vec<u8>) -> Result<Vec<u8>, Error> {
        let Some((head, stored)) = copy.split_at_checked(COPY_HEADER) else { return Ok(copy) };
        let Some(id) = head.strip_prefix(COPY_MAGIC).and_then(|id| id.try_into().ok()) else {
            return Ok(copy);
        };
        let key = self.get(u64::from_le_bytes(id), || name.to_owned())?;
        let opened = key.open(name.as_bytes(), stored.to_vec());
        opened.ok_or_else(|| Error::Sealed { what: name.to_owned() })
    }

    fn get(&self, id: u64, what: impl FnOnce() -> String) -> Result<&Key, Error> {
        let known = self.0.iter().find(|key| key.id == id);
        known.ok_or_else(|| Error::KeyMissing { key_id: id, what: what() })
    }
}

/// Whether what begins like this is an encrypted copy.
pub(crate) fn is_sealed(head: &[u8]) -> bool {
    head.len() == COPY_HEADER && head.starts_with(COPY_MAGIC)
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(match text.len() {
            64 => hex(text.as_bytes())?,
            _ => BASE64_STANDARD.decode(text).ok()?,
        });
        let cipher = XChaCha20Poly1305::new_from_slice(&bytes).ok()?;
        let digest = Sha256::digest(bytes.as_slice());
        // 0 says that there is none.
        let id = digest.first_chunk().map_or(1, |first| u64::from_le_bytes(*first)).max(1);
        Some(Self { id, cipher })
    }

    /// `head`, nonce, ciphertext and tag.
    fn seal(&self, head: &[u8], bound: &[u8], body: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce: [u8; NONCE] = random()?;
        let mut out = Vec::with_capacity(head.len() + body.len() + OVERHEAD);
        out.extend_from_slice(head);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(body);
        let sealed = self.cipher.encrypt_inout_detached(
            &XNonce::from(nonce),
            bound,
            (&mut out[start..]).into(),
        );
        let tag = sealed
            .map_err(|_| Error::TooLarge { size: body.len(), limit: super::format::MAX_BODY })?;
        out.extend_from_slice(&tag);
        Ok(out)
    }

    fn open(&self, bound: &[u8], mut stored: Vec<u8>) -> Option<Vec<u8>> {
        let end = stored.len().checked_sub(TAG)?;
        let (nonce, rest) = stored.split_first_chunk_mut::<NONCE>()?;
        let (body, tag) = rest.split_at_mut_checked(end.checked_sub(NONCE)?)?;
        let (nonce, tag) = (XNonce::from(*nonce), Tag::try_from(&*tag).ok()?);
        self.cipher.decrypt_inout_detached(&nonce, bound, body.into(), &tag).ok()?;
        stored.truncate(end);
        stored.drain(..NONCE);
        Some(stored)
    }
}

/// What of a header is authenticated with its body.
struct Bound<'a> {
    shard: &'a ShardKey,
    cursor: &'a str,
    next_cursor: &'a str,
    raw_size: u64,
    compression: Compression,
}

impl Bound<'_> {
    /// Each text with its length in front, so that none can run into the next.
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        for text in [&self.shard.source, self.cursor, self.next_cursor] {
            out.extend_from_slice(&(text.len() as u64).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(&self.shard.shard.to_le_bytes());
        out.extend_from_slice(&self.raw_size.to_le_bytes());
        out.push(match self.compression {
            Compression::None => 0,
            Compression::Lz4 => 1,
            Compression::Zstd => 2,
        });
        out
    }
}

/// Bytes of the system's randomness.
fn random<const N: usize>() -> Result<[u8; N], Error> {
    let bytes = <[u8; N]>::try_generate();
    bytes.map_err(|e| {
        Error::io("get randomness from", "the system", std::io::Error::other(e.to_string()))
    })
}

fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits.chunks_exact(2).map(|two| Some(digit(two[0])? << 4 | digit(two[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::entry::Origin;
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";

    fn shard(number: u32) -> ShardKey {
        ShardKey { source: "source".to_owned(), shard: number }
    }

    fn batch() -> Batch {
        Batch {
            cursor: "c0".to_owned(),
            next_cursor: "c1".to_owned(),
            first_group_cursor: None,
            groups: 1,
            logs: 1,
            query: false,
            received_at: 0,
            min_time: 0,
            max_time: 0,
            raw_size: 9,
            compression: Compression::Lz4,
            body: Bytes::from_static(b"plaintext"),
        }
    }

    fn sealed(keys: &Keys) -> (BatchHeader, Vec<u8>) {
        let mut batch = batch();
        let id = keys.seal(&shard(0), &mut batch).unwrap();
        let (header, body) = BatchHeader::of(batch, shard(0), (7, 7), Origin::Live, id);
        (header, body.to_vec())
    }

    #[test]
    fn a_key_is_one_line_of_hex_or_base64_and_its_id_the_start_of_its_hash() {
        let base64 = BASE64_STANDARD.encode(hex(HEX.as_bytes()).unwrap());
        let keys = Keys::parse(&format!("# new\n\n {HEX} \n{base64}\n")).unwrap();
        // sha256 of the 32 bytes 00 to 1f begins 630dcd2966c43366.
        let id = u64::from_le_bytes([0x63, 0x0d, 0xcd, 0x29, 0x66, 0xc4, 0x33, 0x66]);
        assert_eq!(keys.ids().collect::<Vec<_>>(), [id, id]);
        assert!(!keys.lacks(id) && !keys.lacks(0) && keys.lacks(id + 1));
        assert_eq!(Keys::parse("# nothing\n\n").unwrap_err(), KeysError::Empty);
        for wrong in [&HEX[1..], "AAAA", &base64[1..], "zz", &HEX.replace('0', "x")] {
            let text = format!("{HEX}\n{wrong}");
            assert_eq!(Keys::parse(&text).unwrap_err(), KeysError::NotAKey { line: 2 });
        }
        let (one, other) = (Keys::random().unwrap(), Keys::random().unwrap());
        assert!(one != other && Keys::parse(&one).is_ok());
    }

    #[test]
    fn keys_show_nothing_of_themselves() {
        let keys = Keys::parse(HEX).unwrap();
        assert_eq!(format!("{keys:?}"), "Keys");
        assert!(!format!("{:?}", Keys::parse("secret")).contains("secret"));
    }

    #[test]
    fn a_body_opens_with_its_key_and_its_header_only() {
        let keys = Keys::parse(HEX).unwrap();
        let (header, stored) = sealed(&keys);
        assert_eq!(stored.len(), b"plaintext".len() + OVERHEAD);
        assert_ne!(sealed(&keys).1, stored, "the nonce is random");
        let open =
            |header: &BatchHeader, stored: &[u8]| keys.open(header, stored.to_vec()).unwrap();
        assert_eq!(open(&header, &stored).as_deref(), Some(&b"plaintext"[..]));
        let moved = BatchHeader { seq: 9, first_log: 9, origin: Origin::Import, ..header.clone() };
        assert!(open(&moved, &stored).is_some(), "it may get another number");
        for other in [
            BatchHeader { key: shard(1), ..header.clone() },
            BatchHeader { cursor: "c".to_owned(), next_cursor: "0c1".to_owned(), ..header.clone() },
            BatchHeader { raw_size: 8, ..header.clone() },
            BatchHeader { compression: Compression::None, ..header.clone() },
        ] {
            assert_eq!(open(&other, &stored), None, "{other:?}");
        }
        for at in 0..stored.len() {
            let mut flipped = stored.clone();
            flipped[at] ^= 1;
            assert_eq!(open(&header, &flipped), None);
            assert_eq!(open(&header, &stored[..at]), None);
        }
        let other = Keys::parse(&Keys::random().unwrap()).unwrap();
        for keys in [other, Keys::default()] {
            match keys.open(&header, stored.clone()) {
                Err(Error::KeyMissing { key_id, .. }) => assert_eq!(key_id, header.key_id),
                opened => panic!("{opened:?}"),
            }
        }
    }

    #[test]
    fn a_copy_opens_under_its_name_and_one_in_the_clear_is_as_it_is() {
        let keys = Keys::parse(HEX).unwrap();
        let copy = keys.seal_copy("answer.bin", b"plaintext").unwrap();
        assert!(copy.starts_with(COPY_MAGIC) && !copy.windows(9).any(|nine| nine == b"plaintext"));
        assert_eq!(keys.open_copy("answer.bin", copy.clone()).unwrap(), b"plaintext");
        assert!(matches!(keys.open_copy("x.bin", copy.clone()), Err(Error::Sealed { .. })));
        assert!(matches!(Keys::default().open_copy("x", copy), Err(Error::KeyMissing { .. })));
        let clear = Keys::default().seal_copy("answer.bin", b"plaintext").unwrap();
        assert_eq!(keys.open_copy("answer.bin", clear).unwrap(), b"plaintext");
    }
}
