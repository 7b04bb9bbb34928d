//! `sls-relay run`: the daemon.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::time::time;
use super::{ConfigArgs, exit, output};
use crate::config::{LogFormat, Settings, Start};
use crate::control::{self, Daemon, Listener};
use crate::orders::Configured;
use crate::relay::{Relay, RelayError};
use crate::telemetry;

/// Time for threads that answered on the control socket and did not see that it is over.
const ANSWERS_END_WITHIN: Duration = Duration::from_secs(2);

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Only deliver what waits in the spool, pull nothing, and end
    #[arg(long)]
    drain: bool,
    /// An export: pull only what SLS received before this time (RFC 3339, now, or a span
    /// back such as 2h), deliver it, and end. A consumer group of its own keeps it apart from a running relay
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "drain")]
    until: Option<Timestamp>,
    /// In place of start: where shards without a checkpoint begin
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "drain")]
    since: Option<Timestamp>,
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
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since >= until
    {
        output::error(&format!("error: nothing lies between --since {since} and --until {until}"));
        return ExitCode::from(exit::USAGE);
    }
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
    for source in &mut settings.sources {
        source.until = args.until;
        if let Some(since) = args.since {
            source.start = Start::Time(since);
        }
    }
    let outcome = runtime.block_on(relay(settings, args.drain || args.until.is_some()));
    runtime.shutdown_timeout(ANSWERS_END_WITHIN);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(code = "relay.failed", "{}", crate::relay::chain(&error));
            output::fail(&error, exit_code(&error))
        }
    }
}

async fn relay(settings: Settings, ends: bool) -> Result<(), RelayError> {
    let stop = CancellationToken::new();
    let socket = settings.control.socket.clone();
    let configured = Configured::new(&settings.destinations, &settings.sources);
    let relay = Relay::start(settings).await?;
    // After the spool's lock: nobody else with this spool can take the socket.
    let daemon = Daemon::new(relay.spool(), configured, relay.counters());
    let control = serve(&socket, daemon, stop.clone());
    let signalled = stop.clone();
    if ends {
        let (exported, done) = (relay.exported(), stop.clone());
        tokio::spawn(async move {
            exported.await;
            tracing::info!("everything is delivered");
            done.cancel();
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
    let outcome = relay.run(stop.clone()).await;
    stop.cancel();
    control.await;
    outcome
}

/// Answers on the control socket until `stop`, and returns its end. A relay that cannot be
/// asked still moves logs.
fn serve(
    socket: &Path,
    daemon: Daemon,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let serving = match Listener::bind(socket) {
        Ok(listener) => {
            tracing::debug!(socket = %socket.display(), "answering on the control socket");
            Some(tokio::spawn(control::serve(listener, stop, Arc::new(daemon))))
        }
        Err(error) => {
            tracing::warn!(
                code = error.code(),
                "this relay runs without a control socket: {}; commands read the files of the spool meanwhile",
                crate::relay::chain(&error)
            );
            None
        }
    };
    async move {
        if let Some(serving) = serving {
            let _ = serving.await;
        }
    }
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
        | RelayError::Keys(_)
        | RelayError::Source { .. } => exit::CONFIG,
        RelayError::Spool(_) | RelayError::NameInUse { .. } => exit::UNAVAILABLE,
        RelayError::TaskEnded(_) => exit::SOFTWARE,
    }
}
