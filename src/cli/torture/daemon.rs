//! rsyslog and syslog-ng as receivers: real processes that write what they got to a file.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::pki::Pki;
use super::receiver::ADDRESS;
use super::scenario::Kind;
use super::tally::Tally;
use super::tools::{Daemon, Tools};

/// A receiver that can be killed and comes back at the same address with the same files.
pub(super) struct RealReceiver {
    kind: Kind,
    tools: Tools,
    dir: PathBuf,
    port: u16,
    lf: u16,
    relp: u16,
    /// Where its certificates are, if it speaks TLS, and then nothing else.
    pki: Option<PathBuf>,
    process: Option<Daemon>,
    arrived: Lines,
    tally: Tally,
}

impl RealReceiver {
    /// Starts one that keeps its files in `dir`.
    pub(super) async fn start(
        kind: Kind,
        pki: Option<&Pki>,
        tools: &Tools,
        dir: &Path,
        tally: &Tally,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let (port, lf, relp) = (free_port()?, free_port()?, free_port()?);
        let mut receiver = Self {
            kind,
            tools: tools.clone(),
            dir: dir.to_owned(),
            port,
            lf,
            relp,
            pki: pki.map(|pki| pki.dir().to_owned()),
            process: None,
            arrived: Lines::new(dir.join("raw.log")),
            tally: tally.clone(),
        };
        receiver.restart().await?;
        Ok(receiver)
    }

    /// Where it takes octet-counted frames, over TLS if it speaks that.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::new(ADDRESS, self.port)
    }

    /// Where it takes LF-delimited frames.
    pub(super) fn lf(&self) -> SocketAddr {
        let one_port = self.kind == Kind::Rsyslog || self.pki.is_some();
        SocketAddr::new(ADDRESS, if one_port { self.port } else { self.lf })
    }

    /// Where rsyslog speaks RELP.
    pub(super) fn relp(&self) -> SocketAddr {
        SocketAddr::new(ADDRESS, self.relp)
    }

    /// Sends a signal, and waits for the end where that is what it means.
    pub(super) async fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        let Some(process) = &mut self.process else { return Ok(()) };
        process.signal(signal)?;
        if [Signal::TERM, Signal::KILL].contains(&signal) {
            process.ended().await?;
            self.process = None;
        }
        Ok(())
    }

    /// Starts it again after it has ended.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        let mut command = match self.kind {
            Kind::Rsyslog => self.rsyslog()?,
            Kind::SyslogNg => self.syslog_ng()?,
            Kind::Hostile => anyhow::bail!("the hostile receiver is no process"),
        };
        // A killed daemon leaves its pid file, and refuses to start beside it.
        let _ = std::fs::remove_file(self.dir.join("pid"));
        let ports = [self.address(), self.lf()];
        let listens = || ports.iter().all(|port| TcpStream::connect(port).is_ok());
        let log = self.dir.join("stdout.log");
        self.process = Some(Daemon::start(&mut command, &log, listens).await?);
        Ok(())
    }

    /// Counts what was written since the last time.
    pub(super) fn count(&mut self) -> anyhow::Result<()> {
        if let Some(process) = &mut self.process {
            anyhow::ensure!(process.is_running(), "{} ended of itself", self.kind.name());
        }
        Ok(self.arrived.read(|line| self.tally.message(line))?)
    }

    /// Ends it, and counts what it wrote at the end.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM).await?;
        self.count()
    }

    fn rsyslog(&self) -> anyhow::Result<Command> {
        let program = self.program("rsyslogd")?;
        let modules = self.tools.plugins(&program, "rsyslog");
        let text = match self.pki {
            None => include_str!("conf/rsyslog.conf"),
            // A missing driver would show only as a port that never opens.
            Some(_) if modules.as_ref().is_some_and(|dir| !dir.join("lmnsd_ossl.so").is_file()) => {
                return Err(super::stage::left_out("needs rsyslog-openssl"));
            }
            Some(_) => include_str!("conf/rsyslog-tls.conf"),
        };
        let config = self.configure("rsyslog.conf", text, "")?;
        let mut command = self.tools.command(&program);
        command.arg("-n").arg("-f").arg(config).arg("-i").arg(self.dir.join("pid"));
        if let Some(modules) = modules {
            command.arg("-M").arg(modules);
        }
        Ok(command)
    }

    fn syslog_ng(&self) -> anyhow::Result<Command> {
        let program = self.program("syslog-ng")?;
        let text = match self.pki {
            None => include_str!("conf/syslog-ng.conf"),
            Some(_) => include_str!("conf/syslog-ng-tls.conf"),
        };
        let config = self.configure("syslog-ng.conf", text, &version(&self.tools, &program))?;
        let mut command = self.tools.command(&program);
        command.args(["-F", "--no-caps", "-f"]).arg(config);
        command.arg("-p").arg(self.dir.join("pid")).arg("-c").arg(self.dir.join("ctl"));
        command.arg("-R").arg(self.dir.join("persist"));
        if let Some(modules) = syslog_ng_modules(&self.tools, &program) {
            command.arg("--module-path").arg(modules);
        }
        Ok(command)
    }

    fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.tools.find(name).ok_or_else(|| super::stage::left_out(format!("needs {name}")))
    }

    fn configure(&self, name: &str, text: &str, version: &str) -> std::io::Result<PathBuf> {
        let pki = self.pki.as_deref().unwrap_or(&self.dir);
        let text = text
            .replace("@DIR@", &self.dir.to_string_lossy())
            .replace("@PKI@", &pki.to_string_lossy())
            .replace("@ADDRESS@", &ADDRESS.to_string())
            .replace("@PORT@", &self.port.to_string())
            .replace("@LF@", &self.lf.to_string())
            .replace("@RELP@", &self.relp.to_string())
            .replace("@VERSION@", version);
        let path = self.dir.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

/// The version that a configuration of this syslog-ng names.
pub(super) fn version(tools: &Tools, program: &Path) -> String {
    let output = tools.command(program).arg("--version").output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let said = said.unwrap_or_default();
    let line = said.lines().find_map(|line| line.strip_prefix("Config version: "));
    line.unwrap_or("3.38").trim().to_owned()
}

/// Where an unpacked syslog-ng has its modules: a folder named after its version.
pub(super) fn syslog_ng_modules(tools: &Tools, program: &Path) -> Option<PathBuf> {
    let folders = std::fs::read_dir(tools.plugins(program, "syslog-ng")?).ok()?;
    let is_version = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_dir() && name.starts_with(|c: char| c.is_ascii_digit())
    };
    folders.flatten().map(|folder| folder.path()).find(is_version)
}

/// A TCP port that is free at this moment, at the receivers' address.
pub(super) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((ADDRESS, 0))?.local_addr()?.port())
}

/// The lines of a file that grows.
struct Lines {
    path: PathBuf,
    offset: u64,
}

impl Lines {
    fn new(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    /// Gives every whole line that was not given before. A part of a line at the end waits for
    /// its rest.
    fn read(&mut self, mut line: impl FnMut(&[u8])) -> std::io::Result<()> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        bytes[..end].split(|byte| *byte == b'\n').for_each(&mut line);
        self.offset += u64::try_from(end).unwrap_or(0) + 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_growing_file_are_given_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw.log");
        let mut lines = Lines::new(path.clone());
        let mut given = Vec::new();
        for (text, expected) in
            [("", 0), ("one\ntw", 1), ("one\ntwo\n", 2), ("one\ntwo\nthree\n", 3)]
        {
            std::fs::write(&path, text).unwrap();
            lines.read(|line| given.push(String::from_utf8_lossy(line).into_owned())).unwrap();
            assert_eq!(given.len(), expected);
        }
        assert_eq!(given, ["one", "two", "three"]);
    }
}
