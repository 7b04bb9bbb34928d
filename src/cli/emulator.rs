//! `sls-relay emulator`: an emulated SLS for tests of one's own.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{exit, output};
use crate::emulator::sls::{SlsConfig, SlsEmulator};
use crate::emulator::waf::Waf;
use crate::emulator::workload::Workload;

#[derive(Args, Debug)]
pub(crate) struct EmulatorArgs {
    /// Address to listen on; loopback only
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Logs to serve, over all shards
    #[arg(long, default_value_t = 10_000)]
    logs: u64,
    /// Shards of the logstore
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    shards: u32,
    /// The same seed serves the same logs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Answer with zstd where the client asks for it
    #[arg(long)]
    zstd: bool,
}

pub(crate) fn run(args: &EmulatorArgs) -> ExitCode {
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    runtime.block_on(async {
        let workload = Workload::new(Waf::new(args.seed), args.shards, args.logs, 50);
        let config = SlsConfig {
            listen: args.listen,
            shards: args.shards,
            generator: Some(workload.generator()),
            zstd: args.zstd,
            ..SlsConfig::default()
        };
        let access = json!({
            "project": config.project,
            "logstore": config.logstore,
            "access_key_id": config.key_id,
            "access_key_secret": config.key_secret,
        });
        let emulator = match SlsEmulator::start(config).await {
            Ok(emulator) => emulator,
            Err(error) => {
                output::error(&format!("error: cannot listen on {}: {error}", args.listen));
                return ExitCode::from(exit::UNAVAILABLE);
            }
        };
        let mut line = json!({ "endpoint": emulator.endpoint() });
        if let (Some(line), Some(access)) = (line.as_object_mut(), access.as_object()) {
            line.extend(access.clone());
        }
        output::line(&line.to_string());
        super::interrupted().await;
        emulator.shutdown().await;
        ExitCode::SUCCESS
    })
}
