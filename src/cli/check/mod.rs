//! `sls-relay check`: the configuration, and then every connection, consuming nothing.

mod destination;
mod findings;
mod group;
mod lag;
mod policy;
mod probe;
mod promise;
mod reach;
mod source;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{ConfigArgs, exit, output};
use crate::config::Settings;
use findings::Findings;
use policy::Policy;

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Only the configuration: connect to nothing
    #[arg(long)]
    offline: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
    /// Also print the RAM policy that each source needs [default: where a right is missing]
    #[arg(long)]
    policy: bool,
    /// Longest wait for each answer of SLS
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    wait: u64,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn run(args: &CheckArgs) -> ExitCode {
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let mut findings = Findings::new(args.json);
    for warning in &loaded.warnings {
        findings.of_configuration(warning);
    }
    let settings = loaded.settings;
    if args.offline {
        for source in &settings.sources {
            findings.section(format!("source {}", source.name));
            source::describe(source, &settings, &mut findings);
            if args.policy {
                findings.policy(&source.name, &Policy::new(source));
            }
        }
        for destination in &settings.destinations {
            findings.section(format!("destination {}", destination.name));
            destination::describe(destination, &mut findings);
        }
        if findings.failed() > 0 {
            findings.finish("The configuration names files that cannot be used.");
            return ExitCode::from(exit::CONFIG);
        }
        findings.finish("The configuration is valid. Nothing was connected to.");
        return ExitCode::SUCCESS;
    }
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    runtime.block_on(online(&settings, args, &mut findings));
    // A name that is still being resolved must not hold up the end.
    runtime.shutdown_background();
    match (findings.failed(), findings.warned()) {
        (0, 0) => findings.finish("Everything works."),
        (0, 1) => findings.finish("Works, with 1 warning."),
        (0, warned) => findings.finish(&format!("Works, with {warned} warnings.")),
        (failed, _) => {
            let noun = if failed == 1 { "check" } else { "checks" };
            findings.finish(&format!("{failed} {noun} failed."));
            return ExitCode::from(exit::UNAVAILABLE);
        }
    }
    ExitCode::SUCCESS
}

async fn online(settings: &Settings, args: &CheckArgs, findings: &mut Findings) {
    let wait = Duration::from_secs(args.wait);
    findings.section("spool");
    check_spool(settings, findings);
    for source in &settings.sources {
        findings.section(format!("source {}", source.name));
        source::describe(source, settings, findings);
        probe::source(source, settings, wait, args.policy, findings).await;
    }
    for destination in &settings.destinations {
        findings.section(format!("destination {}", destination.name));
        destination::describe(destination, findings);
        destination::connect(destination, findings).await;
    }
}

fn check_spool(settings: &Settings, findings: &mut Findings) {
    let dir = &settings.spool.dir;
    let existing = dir.ancestors().find(|path| path.is_dir());
    let Some(existing) = existing else {
        return findings.fail(
            "directory",
            "check.spool",
            &format!("{} cannot be made", dir.display()),
        );
    };
    match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let detail = format!(
                "{}: quota {}, {} free on its file system, {} to stay free",
                dir.display(),
                output::size(settings.spool.max_bytes),
                output::size(free),
                output::size(settings.spool.min_free_bytes)
            );
            if free < settings.spool.min_free_bytes.saturating_add(settings.spool.max_bytes) {
                findings.warn(
                    "disk",
                    "check.disk",
                    &format!(
                        "{detail}; the disk is full before the quota is: pulling will hold early"
                    ),
                );
            } else {
                findings.ok("disk", &detail);
            }
        }
        Err(error) => {
            findings.fail("disk", "check.spool", &format!("{}: {error}", existing.display()))
        }
    }
    if let Some(holder) = crate::spool::Lock::holder(dir) {
        findings.note("held by", &holder);
    }
}
