//! How much the receiving process has read, estimated from the window that its kernel offers.
//!
//! What lies unread in a receiver's buffer is missing from the window. So what was acknowledged,
//! less the difference between the largest window seen and the present one, was read; less a
//! margin, since receivers read up to 128 KiB at once before they look at it. Measured against
//! rsyslog and syslog-ng the estimate is right within a few kilobytes for a fast reader, and
//! errs towards too little *unread* for a slow one while its kernel still grows the buffer:
//! taken a settle time late ([`super::Positions`]) it lost nothing there. A proxy in between
//! makes it worthless: it then tells of the proxy.

use crate::syslog::transport::StreamSample;

/// Bytes that a process may have taken from its kernel without having looked at them.
const MARGIN: u64 = 128 << 10;

/// The estimate for one connection.
#[derive(Debug, Clone, Default)]
pub struct WindowEstimate {
    largest: u32,
}

impl WindowEstimate {
    /// Up to which offset of the stream the peer has read; `None` where the kernel does not tell
    /// its window. It may go back: the highest counts.
    pub fn read(&mut self, sample: &StreamSample) -> Option<u64> {
        let window = sample.window?;
        self.largest = self.largest.max(window);
        let unread = u64::from(self.largest - window) + MARGIN;
        Some(sample.taken()?.saturating_sub(unread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(written: u64, queued: u64, window: u32) -> StreamSample {
        StreamSample { written, queued: Some(queued), window: Some(window) }
    }

    #[test]
    fn what_is_missing_from_the_window_was_not_read() {
        let mut estimate = WindowEstimate::default();
        assert_eq!(estimate.read(&sample(1 << 20, 0, 65_536)), Some((1 << 20) - MARGIN));
        assert_eq!(estimate.read(&sample(1 << 20, 1000, 65_536)), Some((1 << 20) - MARGIN - 1000));
        let closed = estimate.read(&sample(2 << 20, 0, 0));
        assert_eq!(closed, Some((2 << 20) - MARGIN - 65_536));
        let grown = estimate.read(&sample(2 << 20, 0, 1 << 20));
        assert_eq!(grown, Some((2 << 20) - MARGIN));
        assert_eq!(estimate.read(&sample(2 << 20, 0, 0)), Some((1 << 20) - MARGIN));
        assert_eq!(estimate.read(&sample(100, 0, 1 << 20)), Some(0));
    }

    #[test]
    fn a_kernel_that_does_not_tell_proves_nothing() {
        let mut estimate = WindowEstimate::default();
        let silent = StreamSample { window: None, ..sample(1 << 20, 0, 0) };
        assert_eq!(estimate.read(&silent), None);
        let silent = StreamSample { queued: None, ..sample(1 << 20, 0, 9) };
        assert_eq!(estimate.read(&silent), None);
    }
}
