//! Waiting in a thread of its own for something that tasks announce, without a runtime.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::entry::Seq;

/// Blocks until the watched number is above `known`, `longest` at most; whether it is.
pub(crate) fn changed(watched: &mut watch::Receiver<Seq>, known: Seq, longest: Duration) -> bool {
    let end = Instant::now() + longest;
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut above = pin!(watched.wait_for(|seq| *seq > known));
    loop {
        if let Poll::Ready(found) = above.as_mut().poll(&mut Context::from_waker(&waker)) {
            return found.is_ok();
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        std::thread::park_timeout(left);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_waited_for_and_a_wait_ends() {
        let sender = watch::Sender::new(1);
        let mut watched = sender.subscribe();
        assert!(changed(&mut watched, 0, Duration::ZERO), "it is there already");
        assert!(!changed(&mut watched, 1, Duration::from_millis(1)));
        let waiting = std::thread::spawn(move || changed(&mut watched, 2, Duration::from_secs(60)));
        sender.send_replace(2);
        sender.send_replace(3);
        assert!(waiting.join().unwrap());
    }
}
