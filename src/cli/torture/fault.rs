//! What happens to a receiver, second by second.

use std::time::Duration;

use rustix::process::Signal;

use super::hole;
use super::receiver::{Handshake, Receiving};
use super::scenario::Fault;
use crate::emulator::receiver::Mode;

impl Fault {
    /// Plays it; the receiver is well again when this returns.
    pub(super) async fn play(self, receiver: &mut Receiving) -> anyhow::Result<()> {
        let misbehave = match self {
            Self::None => return Ok(()),
            Self::RestartLoop => return restart_loop(receiver).await,
            Self::Term => return away(receiver, Signal::TERM).await,
            Self::Kill => return away(receiver, Signal::KILL).await,
            Self::StopKill => {
                receiver.signal(Signal::STOP).await?;
                pause(1000).await;
                return away(receiver, Signal::KILL).await;
            }
            Self::Hole => {
                let hole = hole::dig()?;
                pause(1500).await;
                receiver.signal(Signal::KILL).await?;
                pause(1500).await;
                drop(hole);
                return receiver.listen(true).await;
            }
            Self::HandshakeStall => return handshake(receiver, Handshake::Silent, 7000).await,
            Self::ClientCertMissing | Self::ClientCertForeign => {
                return handshake(receiver, Handshake::Refused, 3000).await;
            }
            Self::StallKill => {
                receiver.behave(Mode::Stall).await?;
                pause(2000).await;
                (Mode::Refuse, 1000)
            }
            Self::Refuse => (Mode::Refuse, 2000),
            Self::Reset => (Mode::ResetAfter { bytes: 256 << 10 }, 3000),
            Self::AcceptClose => (Mode::CloseAfter { messages: 200 }, 3000),
            Self::Slow => (Mode::Slow { delay: Duration::from_millis(10), bytes: 4096 }, 3000),
            Self::Deaf => (Mode::Deaf, 5000),
        };
        let (mode, millis) = misbehave;
        receiver.behave(mode).await?;
        pause(millis).await;
        receiver.behave(Mode::Accept).await
    }
}

/// Ends a real receiver; it is back after 2 s.
async fn away(receiver: &mut Receiving, signal: Signal) -> anyhow::Result<()> {
    receiver.signal(signal).await?;
    pause(2000).await;
    receiver.listen(true).await
}

/// Lets no connection through to the messages for a while.
async fn handshake(receiver: &Receiving, ends: Handshake, millis: u64) -> anyhow::Result<()> {
    receiver.shake_hands(ends)?;
    pause(millis).await;
    receiver.shake_hands(Handshake::Done)
}

async fn restart_loop(receiver: &mut Receiving) -> anyhow::Result<()> {
    for _ in 0..5 {
        receiver.listen(false).await?;
        pause(300).await;
        receiver.listen(true).await?;
        pause(500).await;
    }
    Ok(())
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
