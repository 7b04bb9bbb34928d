//! The HTTP side: connections, and the faults that happen to them.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::Socket;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{Answer, Refusal};
use super::asked::Asked;
use super::faults::{FaultKind, Operation};
use super::request::{Call, Request};
use super::service::Service;
use super::spoil;

/// Largest request body read into memory.
const MAX_REQUEST_BYTES: usize = 12 * 1024 * 1024;

/// Serves connections until `stop`; each runs on a task of `connections`.
pub(super) async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    stop: CancellationToken,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, Arc::clone(&service), stop.clone()));
            }
            // Out of descriptors, or the peer went away: neither ends the service.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn connection(stream: TcpStream, service: Arc<Service>, stop: CancellationToken) {
    // A second descriptor of the same socket lets a fault reach it under hyper.
    let Ok(descriptor) = stream.as_fd().try_clone_to_owned() else { return };
    let socket = Arc::new(Socket::from(descriptor));
    let _ = stream.set_nodelay(true);
    let exchange =
        service_fn(|request| exchange(Arc::clone(&service), Arc::clone(&socket), request));
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), exchange);
    tokio::select! {
        () = stop.cancelled() => {}
        _ = served => {}
    }
}

/// One request and its answer; an error ends the connection without one.
async fn exchange(
    service: Arc<Service>,
    socket: Arc<Socket>,
    request: http::Request<Incoming>,
) -> io::Result<Response<Sending>> {
    let (head, body) = request.into_parts();
    let request = match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
        Ok(body) => Request::new(&head, body.to_bytes()),
        Err(_) => {
            let message = format!("the body is broken or above {MAX_REQUEST_BYTES} bytes");
            let refusal = Refusal::new(400, "PostBodyTooLarge", message);
            return Ok(response(&service, refusal.into(), false));
        }
    };
    let call = request.call();
    let (operation, shard) = target(&request, call.as_ref().ok());
    let asked = Asked::new(&request, call.as_ref().ok(), shard);
    let fault = service.faults.take(operation, shard, |kind| !kind.spoils_the_answer());
    let mut answer = match fault.map(instead) {
        Some(Some(answer)) => answer,
        _ => service.answer(&request, call).unwrap_or_else(Answer::from),
    };
    let asked = match fault {
        Some(FaultKind::Reset | FaultKind::NeverAnswers) => asked,
        _ => asked.answered(&answer),
    };
    service.state().asked.add(asked);
    match fault {
        Some(FaultKind::Reset) => {
            socket.set_linger(Some(Duration::ZERO))?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Some(FaultKind::NeverAnswers) => match std::future::pending::<Infallible>().await {},
        Some(FaultKind::Slow(delay)) => tokio::time::sleep(delay).await,
        _ => {}
    }
    let spoiled = service.faults.take(operation, shard, |kind| spoil::applies(kind, &answer));
    if let Some(kind) = spoiled {
        spoil::spoil(kind, &mut answer);
    }
    Ok(response(&service, answer, spoiled == Some(FaultKind::Truncated)))
}

/// What faults look at: the operation and the shard in its path or body.
fn target(request: &Request, call: Option<&Call>) -> (Operation, Option<u32>) {
    let shard = match call {
        Some(
            Call::PullLogs { shard, .. }
            | Call::GetCursor { shard, .. }
            | Call::GetCursorTime { shard, .. },
        ) => Some(*shard),
        Some(Call::UpdateCheckpoint { .. }) => {
            let body: Option<serde_json::Value> = serde_json::from_slice(&request.body).ok();
            body.and_then(|body| u32::try_from(body.get("shard")?.as_u64()?).ok())
        }
        _ => None,
    };
    (call.map_or(Operation::Any, Call::operation), shard)
}

/// The answer that stands in for the real one, if the fault brings one.
fn instead(kind: FaultKind) -> Option<Answer> {
    let (status, code) = match kind {
        FaultKind::InternalServerError => (500, "InternalServerError"),
        FaultKind::ServerBusy => (503, "ServerBusy"),
        FaultKind::ReadQuotaExceed => (403, "ReadQuotaExceed"),
        FaultKind::ShardReadQuotaExceed => (403, "ShardReadQuotaExceed"),
        FaultKind::Unauthorized => (401, "Unauthorized"),
        FaultKind::Forbidden => (403, "Unauthorized"),
        FaultKind::InvalidCursor => (400, "InvalidCursor"),
        FaultKind::BadGateway => return Some(Answer::bad_gateway()),
        FaultKind::Reset | FaultKind::NeverAnswers => return Some(Answer::empty()),
        FaultKind::Slow(_)
        | FaultKind::Truncated
        | FaultKind::Corrupt
        | FaultKind::WrongRawSize
        | FaultKind::HugeRawSize
        | FaultKind::EmptyCursor => return None,
    };
    Some(Refusal::new(status, code, "a fault of the emulator").into())
}

fn response(service: &Service, answer: Answer, truncated: bool) -> Response<Sending> {
    let number = service.counters.requests.fetch_add(1, Ordering::Relaxed);
    let date = service.clock().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let mut headers = answer.headers;
    headers.push(("content-length", answer.body.len().to_string()));
    headers.push(("date", date));
    headers.push(("server", "sls-relay emulator".to_owned()));
    headers.push(("x-log-requestid", format!("{number:024X}")));
    let mut response = Response::new(Sending::new(answer.body, truncated));
    *response.status_mut() = answer.status;
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A body on its way out: whole, or half of it and then the end of the connection.
struct Sending {
    bytes: Option<Bytes>,
    breaks_off: bool,
    flushed: bool,
}

impl Sending {
    fn new(bytes: Bytes, truncated: bool) -> Sending {
        let bytes = if truncated { bytes.slice(..bytes.len() / 2) } else { bytes };
        Sending { bytes: Some(bytes), breaks_off: truncated, flushed: false }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
        }
        if !self.breaks_off {
            return Poll::Ready(None);
        }
        // One more turn, so that hyper writes out the first half before it gives up.
        if !std::mem::replace(&mut self.flushed, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::ErrorKind::BrokenPipe.into())))
    }

    fn is_end_stream(&self) -> bool {
        !self.breaks_off && self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.bytes {
            Some(bytes) if !self.breaks_off => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}
