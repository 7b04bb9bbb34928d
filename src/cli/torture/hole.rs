//! A network of this process's own, and a hole in it.
//!
//! Inside a network namespace a more specific route hides the receivers' address: packets to
//! it have no way, and packets from it fail the check of their source, so both directions are
//! silent while both ends think that they are connected. It needs no netfilter, and nothing
//! outside of the namespace changes.

use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use super::receiver::ADDRESS;
use super::stage::left_out;

/// Set in the process that runs inside its namespace.
const INSIDE: &str = "SLS_RELAY_TORTURE_NAMESPACE";
/// What the kernel ships; a machine may have been told otherwise.
const BUFFERS: [(&str, &str); 2] =
    [("tcp_rmem", "4096 131072 6291456"), ("tcp_wmem", "4096 16384 4194304")];

/// Goes on in a network namespace of its own, where that is possible and was not done. Returns
/// only where it is not: then [`dig`] says why. To be called before there are other threads.
pub(super) fn enter() {
    if is_inside() {
        let _ = ip(&["link", "set", "lo", "up"]);
        for (name, value) in BUFFERS {
            // The machine's own values do as well.
            let _ = std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value);
        }
        return;
    }
    let possible = quiet(unshare().args(["ip", "link"])).is_ok();
    if let (true, Ok(program)) = (possible, std::env::current_exe()) {
        let _: std::io::Result<Infallible> =
            Err(unshare().arg(program).args(std::env::args_os().skip(1)).env(INSIDE, "1").exec());
    }
}

/// A hole around the receivers; packets pass again when it is dropped.
pub(super) struct Hole(());

/// Drops all packets to and from the receivers from now on.
pub(super) fn dig() -> anyhow::Result<Hole> {
    available()?;
    ip(&["route", "add", "blackhole", &ADDRESS.to_string(), "table", "local"])?;
    Ok(Hole(()))
}

/// Whether [`dig`] will work; the error says what it takes.
pub(super) fn available() -> anyhow::Result<()> {
    match is_inside() {
        true => Ok(()),
        false => Err(left_out(
            "needs a network namespace: the tools unshare and ip, and root or user namespaces",
        )),
    }
}

impl Drop for Hole {
    fn drop(&mut self) {
        let _ = ip(&["route", "del", "blackhole", &ADDRESS.to_string(), "table", "local"]);
    }
}

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Root needs no user namespace, others become root in one.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.arg("--");
    command
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    quiet(Command::new("ip").args(args))
}

fn quiet(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?} failed: {}", said.trim());
    Ok(())
}
