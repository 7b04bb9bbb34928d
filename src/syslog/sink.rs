//! A buffer that keeps the beginning of a text and counts the rest.

/// Appends to `out` up to a fixed end and counts what would have followed, so that a huge
/// value costs no memory beyond the largest message.
pub(super) struct Sink<'a> {
    out: &'a mut Vec<u8>,
    end: usize,
    total: usize,
}

impl<'a> Sink<'a> {
    /// Lets `out` grow to `end` bytes.
    pub(super) fn new(out: &'a mut Vec<u8>, end: usize) -> Self {
        Self { out, end, total: 0 }
    }

    /// Appends, or counts what does not fit any more.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.total += bytes.len();
        let room = self.end.saturating_sub(self.out.len());
        self.out.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Bytes put so far, kept or not.
    pub(super) fn total(&self) -> usize {
        self.total
    }
}
