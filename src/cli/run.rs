//! `sls-relay run`: the daemon.

use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{ConfigArgs, exit, output};
use crate::config::{LogFormat, Settings};
use crate::relay::{Relay, RelayError};
use crate::telemetry;

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Only deliver what waits in the spool, pull nothing, and end
    #[arg(long)]
    drain: bool,
    /// Form of the log lines: text or json
    #[arg(long, value_enum)]
    log_format: Option<LogFormatArg>,
    /// Least level that is logged: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogFormatArg {
    Text,
    Json,
}

pub(crate) fn run(args: &RunArgs) -> ExitCode {
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let mut settings = loaded.settings;
    if let Some(level) = &args.log_level {
        settings.log.level.clone_from(level);
    }
    settings.log.format = match args.log_format {
        Some(LogFormatArg::Text) => LogFormat::Text,
        Some(LogFormatArg::Json) => LogFormat::Json,
        None => settings.log.format,
    };
    if let Err(error) = telemetry::init(&settings.log) {
        output::error(&format!("error: {error}"));
        return ExitCode::from(exit::CONFIG);
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    if args.drain {
        settings.sources.clear();
    }
    match runtime.block_on(relay(settings, args.drain)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(code = "relay.failed", "{}", crate::relay::chain(&error));
            output::fail(&error, exit_code(&error))
        }
    }
}

async fn relay(settings: Settings, drain: bool) -> Result<(), RelayError> {
    let stop = CancellationToken::new();
    let relay = Relay::start(settings).await?;
    let signalled = stop.clone();
    if drain {
        let (spool, drained) = (relay.spool(), stop.clone());
        tokio::spawn(async move {
            while spool.waiting() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            drained.cancel();
        });
    }
    tokio::spawn(async move {
        let (Ok(mut term), Ok(mut int)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return;
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        signalled.cancel();
        // A second signal does not wait: the spool needs no goodbye.
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        std::process::exit(1);
    });
    relay.run(stop).await
}

fn exit_code(error: &RelayError) -> u8 {
    use crate::spool::Error;
    match error {
        RelayError::Spool(Error::Io { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            exit::NO_PERMISSION
        }
        RelayError::Spool(Error::QuotaTooSmall { .. } | Error::NewerFormat { .. })
        | RelayError::Source { .. } => exit::CONFIG,
        RelayError::Spool(_) => exit::UNAVAILABLE,
        RelayError::TaskEnded(_) => exit::SOFTWARE,
    }
}
