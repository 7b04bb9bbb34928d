//! The `sls-relay` binary.

fn main() {}
