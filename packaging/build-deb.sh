#!/bin/sh
# Builds the Debian package; the last line printed is its path.
# Needs a C compiler and dpkg. cargo-deb, pinned, is put under target/tools.
set -eu
cd "$(dirname "$0")/.."
version=3.8.0
tools=$PWD/target/tools
if [ "$("$tools/bin/cargo-deb" --version 2>/dev/null || true)" != "$version" ]; then
    cargo install --quiet --locked cargo-deb --version "$version" --root "$tools"
fi
# The same commit gives the same bytes wherever it is built.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
RUSTFLAGS="--remap-path-prefix=$PWD=/sls-relay --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
export SOURCE_DATE_EPOCH RUSTFLAGS
exec "$tools/bin/cargo-deb" --locked
