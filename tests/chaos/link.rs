//! A way between one relay and SLS that can be cut.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    /// Connections stand, and nothing passes.
    Silent,
    /// Connections are closed as soon as they are made.
    Down,
}

pub(crate) struct Link {
    pub(crate) addr: SocketAddr,
    state: watch::Sender<State>,
}

impl Link {
    pub(crate) async fn to(sls: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (state, link) = watch::channel(State::Up);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, sls, link.clone()));
            }
        });
        Self { addr, state }
    }

    pub(crate) fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn carry(mut relay: TcpStream, sls: SocketAddr, mut link: watch::Receiver<State>) {
    let now = *link.borrow_and_update();
    if now == State::Up {
        let Ok(mut sls) = TcpStream::connect(sls).await else { return };
        let cut = tokio::select! {
            _ = copy_bidirectional(&mut relay, &mut sls) => return,
            cut = link.wait_for(|state| *state != State::Up) => cut.is_ok_and(|cut| *cut == State::Silent),
        };
        if cut {
            // What was under way never arrives, also not later.
            let _ = link.wait_for(|state| *state != State::Silent).await;
        }
    } else if now == State::Silent {
        let _ = link.wait_for(|state| *state != State::Silent).await;
    }
}
