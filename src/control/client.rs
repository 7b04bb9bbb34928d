//! The side of the command line. Blocks.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::protocol::{self, Hello, LONGEST_LINE, LONGEST_REQUEST, Message, VERSION};
use super::socket::{self, LONGEST_PATH};

/// Time for the server's hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// What comes before the end of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A part of the answer.
    Line(Value),
    /// How far it is, of how much.
    Progress(u64, u64),
}

/// Why there is no answer from a relay that may be running.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket is there, and this user may not use it.
    #[error(
        "no permission to talk to the relay through {}; {}",
        path.display(),
        remedy(group.as_deref())
    )]
    Denied {
        /// The socket.
        path: PathBuf,
        /// Name or number of its group, where this user may see it.
        group: Option<String>,
    },
    /// Another version of the protocol.
    #[error(
        "{program:?} answers with version {version} of the control protocol, and this sls-relay {} speaks version {VERSION}; use the sls-relay command of the same installation as the relay, and restart the relay after an upgrade",
        env!("CARGO_PKG_VERSION")
    )]
    Version {
        /// Who answers.
        program: String,
        /// With what version.
        version: u32,
    },
    /// What answers is no relay.
    #[error("what answers on {} does not speak the control protocol: {what}", path.display())]
    NotUnderstood {
        /// The socket.
        path: PathBuf,
        /// In words.
        what: String,
    },
    /// It stands still, or the connection broke.
    #[error("the relay does not answer on {}; its log may say why", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The answer ended before its last line.
    #[error("the relay ended in the middle of its answer; ask again")]
    CutOff,
    /// A request longer than the protocol allows.
    #[error("the request has more than {LONGEST_REQUEST} bytes; ask for less")]
    TooLarge,
    /// The relay refuses.
    #[error("{message}")]
    Refused {
        /// Stable code.
        code: String,
        /// What is wrong and what to do.
        message: String,
    },
}

impl ClientError {
    /// Stable; that of the relay where it refuses.
    pub fn code(&self) -> &str {
        match self {
            Self::Denied { .. } => "control.denied",
            Self::Version { .. } => "control.version",
            Self::NotUnderstood { .. } => "control.not_understood",
            Self::Io { .. } => "control.io",
            Self::CutOff => "control.cut_off",
            Self::TooLarge => "control.request_too_large",
            Self::Refused { code, .. } => code,
        }
    }
}

/// A connection to a relay that runs; good for one request.
#[derive(Debug)]
pub struct Client {
    lines: BufReader<UnixStream>,
    path: PathBuf,
    hello: Hello,
}

impl Client {
    /// Connects to the relay that listens at `path`; none when none does.
    ///
    /// # Errors
    /// When something is there and cannot be used, or does not answer within 10 seconds.
    pub fn connect(path: &Path) -> Result<Option<Self>, ClientError> {
        // Nobody listens where nobody can.
        if path.as_os_str().len() > LONGEST_PATH {
            return Ok(None);
        }
        let failed = |source| ClientError::Io { path: path.to_owned(), source };
        let stream = match socket::connect(path, HELLO_WITHIN) {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::ConnectionRefused => return Ok(None),
                io::ErrorKind::PermissionDenied => {
                    let group = socket_group(path);
                    return Err(ClientError::Denied { path: path.to_owned(), group });
                }
                _ => return Err(failed(error)),
            },
        };
        stream.set_read_timeout(Some(HELLO_WITHIN)).map_err(failed)?;
        let mut lines = BufReader::new(stream);
        let hello = match next(&mut lines, path)? {
            // It stops just now.
            None => return Ok(None),
            Some(Message::Hello(hello)) => hello,
            Some(_) => return Err(not_understood(path, "the first line is no hello")),
        };
        if hello.version != VERSION {
            let Hello { program, version, .. } = hello;
            return Err(ClientError::Version { program, version });
        }
        lines.get_ref().set_read_timeout(None).map_err(failed)?;
        Ok(Some(Self { lines, path: path.to_owned(), hello }))
    }

    /// Who answers, and for which spool.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Sends a request and gives every part of the answer to `reply` as it comes; returns the
    /// summary at its end. Waits as long as the relay needs.
    ///
    /// # Errors
    /// A refusal of the relay, also after parts of an answer; a broken connection.
    pub fn ask(
        mut self,
        request: Map<String, Value>,
        reply: &mut dyn FnMut(Reply),
    ) -> Result<Map<String, Value>, ClientError> {
        let line = protocol::request_line(request);
        if line.len() > LONGEST_REQUEST {
            return Err(ClientError::TooLarge);
        }
        // A server that does not read has said why.
        let sent = self.lines.get_mut().write_all(&line);
        let answered = answer(&mut self.lines, &self.path, reply);
        match (sent, answered) {
            (Err(source), Err(ClientError::Io { path, .. })) => {
                Err(ClientError::Io { path, source })
            }
            (_, answered) => answered,
        }
    }
}

/// Reads an answer to its end.
pub(super) fn answer(
    lines: &mut impl BufRead,
    path: &Path,
    reply: &mut dyn FnMut(Reply),
) -> Result<Map<String, Value>, ClientError> {
    loop {
        match next(lines, path)? {
            None => return Err(ClientError::CutOff),
            Some(Message::Line(part)) => reply(Reply::Line(part)),
            Some(Message::Progress { done, of }) => reply(Reply::Progress(done, of)),
            Some(Message::End(end)) => return Ok(end),
            Some(Message::Error { code, message }) => {
                return Err(ClientError::Refused { code, message });
            }
            Some(Message::Hello(_)) => return Err(not_understood(path, "a second hello")),
        }
    }
}

/// The next line of the server; none where it has closed.
fn next(lines: &mut impl BufRead, path: &Path) -> Result<Option<Message>, ClientError> {
    let mut line = Vec::new();
    let read = lines.take(LONGEST_LINE as u64).read_until(b'\n', &mut line);
    read.map_err(|source| ClientError::Io { path: path.to_owned(), source })?;
    match line.strip_suffix(b"\n") {
        Some(line) => protocol::message(line).map(Some).map_err(|what| not_understood(path, &what)),
        None if line.len() >= LONGEST_LINE => Err(not_understood(path, "a line has no end")),
        None => Ok(None),
    }
}

fn not_understood(path: &Path, what: &str) -> ClientError {
    // It may repeat what came, from whoever sent it.
    let what = what.chars().take(200).flat_map(char::escape_debug).collect();
    ClientError::NotUnderstood { path: path.to_owned(), what }
}

fn remedy(group: Option<&str>) -> String {
    match group {
        Some(group) => format!("run this as root, or add yourself to the group {group}"),
        None => "run this as root or as the user of the relay".to_owned(),
    }
}

/// The group that may connect; none where it cannot be seen.
fn socket_group(path: &Path) -> Option<String> {
    let found = std::fs::metadata(path).ok()?;
    // A group without the right is no way in.
    if !found.file_type().is_socket() || found.mode() & 0o020 == 0 {
        return None;
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        (gid.parse() == Ok(found.gid())).then(|| name.to_owned())
    });
    Some(name.unwrap_or_else(|| found.gid().to_string()))
}
