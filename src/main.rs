//! The `sls-relay` binary.

fn main() -> std::process::ExitCode {
    sls_relay::cli::main()
}
