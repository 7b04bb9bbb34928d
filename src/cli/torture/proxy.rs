//! HAProxy and nginx between the sender and the receiver. They are never the ones that fail.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path as Directory, PathBuf};
use std::process::Command;

use super::daemon::free_port;
use super::receiver::ADDRESS;
use super::scenario::Path;
use super::stage::left_out;
use super::tools::{Daemon, Tools};

/// Where Debian's nginx has its modules, when it is installed.
const NGINX_MODULES: &str = "/usr/lib/nginx/modules";

/// A proxy that runs; dropping it kills it.
pub(super) struct Proxy {
    address: SocketAddr,
    _process: Daemon,
}

impl Proxy {
    /// Starts what `path` names before `target`; nothing for the direct one.
    pub(super) async fn start(
        path: Path,
        tools: &Tools,
        dir: &Directory,
        target: SocketAddr,
    ) -> anyhow::Result<Option<Self>> {
        std::fs::create_dir_all(dir)?;
        let address = SocketAddr::new(ADDRESS, free_port()?);
        let mut command = match path {
            Path::Direct => return Ok(None),
            Path::Haproxy => haproxy(tools, dir, address, target, "3")?,
            Path::HaproxyNoRetries => haproxy(tools, dir, address, target, "0")?,
            Path::Nginx => nginx(tools, dir, address, target, "off")?,
            Path::NginxHalfClose => nginx(tools, dir, address, target, "on")?,
        };
        let listens = || TcpStream::connect(address).is_ok();
        let process = Daemon::start(&mut command, &dir.join("stdout.log"), listens).await?;
        Ok(Some(Self { address, _process: process }))
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn haproxy(
    tools: &Tools,
    dir: &Directory,
    listen: SocketAddr,
    target: SocketAddr,
    retries: &str,
) -> anyhow::Result<Command> {
    let program = tools.find("haproxy").ok_or_else(|| left_out("needs haproxy"))?;
    let text = include_str!("conf/haproxy.cfg");
    let config = configure(dir, "haproxy.cfg", text, &[("@RETRIES@", retries)], listen, target)?;
    let mut command = tools.command(&program);
    command.arg("-db").arg("-f").arg(config);
    Ok(command)
}

fn nginx(
    tools: &Tools,
    dir: &Directory,
    listen: SocketAddr,
    target: SocketAddr,
    half_close: &str,
) -> anyhow::Result<Command> {
    let program = tools.find("nginx").ok_or_else(|| left_out("needs nginx"))?;
    let modules = tools.plugins(&program, "nginx/modules").unwrap_or_else(|| NGINX_MODULES.into());
    let module = modules.join("ngx_stream_module.so");
    // Elsewhere than on Debian it may be built in.
    let module = match module.is_file() {
        true => format!("load_module {};", module.display()),
        false => String::new(),
    };
    let text = include_str!("conf/nginx.conf");
    let marks = [("@MODULE@", module.as_str()), ("@HALF_CLOSE@", half_close)];
    let config = configure(dir, "nginx.conf", text, &marks, listen, target)?;
    let mut command = tools.command(&program);
    command.arg("-p").arg(dir).args(["-e", "stderr", "-c"]).arg(config);
    Ok(command)
}

fn configure(
    dir: &Directory,
    name: &str,
    text: &str,
    marks: &[(&str, &str)],
    listen: SocketAddr,
    target: SocketAddr,
) -> std::io::Result<PathBuf> {
    let dir_text = dir.to_string_lossy();
    let ends = [("@LISTEN@", listen.to_string()), ("@TARGET@", target.to_string())];
    let mut text = text.replace("@DIR@", &dir_text);
    for (mark, value) in ends {
        text = text.replace(mark, &value);
    }
    for (mark, value) in marks {
        text = text.replace(mark, value);
    }
    let path = dir.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}
