//! Undoing the compression of a PullLogs answer.
//!
//! `lz4` is one raw LZ4 block without a frame or a size in front, `zstd` a standard
//! frame. The size comes from `x-log-bodyrawsize` and must be met exactly: a body that
//! comes out shorter or longer is not the one SLS sent.

use lz4_flex::block;
use ruzstd::decoding::FrameDecoder;

use super::error::DecodeError;

/// How the body of a PullLogs answer is compressed (`x-log-compresstype`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// One raw LZ4 block.
    Lz4,
    /// One zstd frame.
    Zstd,
}

impl Compression {
    /// Reads the value of `x-log-compresstype`; an empty one means none.
    pub fn from_header(value: &str) -> Option<Self> {
        match value.trim() {
            "" => Some(Self::None),
            name if name.eq_ignore_ascii_case("lz4") => Some(Self::Lz4),
            name if name.eq_ignore_ascii_case("zstd") => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The value of `x-log-compresstype`; empty for none.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// No honest body of this many raw bytes is longer than this when compressed.
    pub fn longest_body(self, raw_size: u64) -> u64 {
        match self {
            Self::None => raw_size,
            // lz4 adds a byte in 255, zstd three for each block; and some slack for both.
            Self::Lz4 | Self::Zstd => raw_size.saturating_add(raw_size / 128).saturating_add(1024),
        }
    }
}

/// One byte of LZ4 adds at most this many bytes of output.
const LZ4_LARGEST_RATIO: u64 = 255;

/// The window a zstd encoder may use however small its input is (level 19 and below).
const ZSTD_COMMON_WINDOW: u64 = 8 * 1024 * 1024;

/// Decompresses `body` into `out`, which afterwards holds exactly `raw_size` bytes.
///
/// What `out` held before is overwritten; reusing it saves allocation and clearing.
/// The caller caps `raw_size`, which is allocated here.
///
/// # Errors
/// When the body is damaged or does not come out at `raw_size`; `out` is then empty.
pub fn decompress(
    compression: Compression,
    body: &[u8],
    raw_size: u64,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let result = fill(compression, body, raw_size, out);
    if result.is_err() {
        out.clear();
    }
    result
}

fn fill(
    compression: Compression,
    body: &[u8],
    raw_size: u64,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let length = |actual| DecodeError::RawSize { expected: raw_size, actual };
    let body_size = body.len() as u64;
    let largest = match compression {
        Compression::None => body_size,
        Compression::Lz4 => body_size.saturating_mul(LZ4_LARGEST_RATIO),
        Compression::Zstd => u64::MAX,
    };
    if raw_size > largest {
        return Err(length(largest));
    }
    let size = usize::try_from(raw_size).map_err(|_| length(body_size))?;
    if body.is_empty() && size == 0 {
        out.clear();
        return Ok(());
    }
    out.resize(size, 0);
    let written = match compression {
        Compression::None if body.len() != size => return Err(length(body_size)),
        Compression::None => {
            out.copy_from_slice(body);
            size
        }
        Compression::Lz4 => block::decompress_into(body, out)
            .map_err(|error| DecodeError::Compressed { source: Box::new(error) })?,
        Compression::Zstd => unzstd(body, out)?,
    };
    if written == size { Ok(()) } else { Err(length(written as u64)) }
}

fn unzstd(body: &[u8], out: &mut [u8]) -> Result<usize, DecodeError> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_COMMON_WINDOW.max(out.len() as u64));
    let written = decoder
        .decode_all(body, out)
        .map_err(|error| DecodeError::Compressed { source: Box::new(error) })?;
    match (decoder.get_checksum_from_data(), decoder.get_calculated_checksum()) {
        (Some(sent), Some(calculated)) if sent != calculated => Err(DecodeError::Checksum),
        _ => Ok(written),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unpack(
        compression: Compression,
        body: &[u8],
        raw_size: u64,
    ) -> Result<Vec<u8>, DecodeError> {
        let mut out = vec![0xAA; 7];
        let result = decompress(compression, body, raw_size, &mut out);
        assert!(result.is_ok() || out.is_empty(), "nothing half done is left");
        result.map(|()| out)
    }

    fn zstd(raw: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(raw, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn each_compression_comes_back_exactly() {
        let raw: Vec<u8> = (0..200_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for (compression, body) in [
            (Compression::None, raw.clone()),
            (Compression::Lz4, block::compress(&raw)),
            (Compression::Zstd, zstd(&raw)),
        ] {
            let size = raw.len() as u64;
            assert_eq!(unpack(compression, &body, size).expect("unpack"), raw);
            assert!(body.len() as u64 <= compression.longest_body(size));
            for wrong in [0, 1, size - 1, size + 1] {
                assert!(unpack(compression, &body, wrong).is_err(), "{compression:?} {wrong}");
            }
            for cut in [1, body.len() / 2, body.len() - 1] {
                assert!(unpack(compression, &body[..cut], size).is_err(), "{compression:?} {cut}");
            }
        }
    }

    #[test]
    fn an_empty_answer_is_an_empty_body_in_every_compression() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            assert_eq!(unpack(compression, b"", 0).expect("empty"), b"");
            assert!(unpack(compression, b"", 5).is_err());
        }
    }

    #[test]
    fn a_size_that_lz4_cannot_reach_is_refused_before_it_is_allocated() {
        let error = unpack(Compression::Lz4, &[0; 10], 1 << 60).expect_err("too large");
        assert!(matches!(error, DecodeError::RawSize { .. }), "{error}");
    }

    #[test]
    fn a_frame_that_asks_for_a_huge_window_is_refused() {
        // Magic, a header without single segment, window descriptor 0xB0 (1 GiB and more).
        let body = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xB0, 0x01, 0x00, 0x00];
        assert!(matches!(
            unpack(Compression::Zstd, &body, 100),
            Err(DecodeError::Compressed { .. })
        ));
    }

    #[test]
    fn a_frame_whose_checksum_disagrees_is_refused() {
        let raw = b"checked to the last byte";
        let mut body = zstd(raw);
        *body.last_mut().expect("a checksum") ^= 1;
        let error = unpack(Compression::Zstd, &body, raw.len() as u64);
        assert!(matches!(error, Err(DecodeError::Checksum)), "{error:?}");
    }

    proptest! {
        #[test]
        fn damaged_bodies_never_panic_and_never_come_out_at_another_size(
            raw in prop::collection::vec(0u8..8, 0..3000),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let size = raw.len() as u64;
            for compression in [Compression::Lz4, Compression::Zstd] {
                let mut body = match compression {
                    Compression::Lz4 => block::compress(&raw),
                    _ => zstd(&raw),
                };
                for (place, byte) in &damage {
                    let place = place.index(body.len());
                    body[place] = *byte;
                }
                for body in [&body[..], &body[..cut.index(body.len())]] {
                    if let Ok(out) = unpack(compression, body, size) {
                        prop_assert_eq!(out.len(), raw.len());
                    }
                }
            }
        }
    }
}
