#!/usr/bin/env bash
# Memory of the daemon with a backlog: pulls with no receiver until BACKLOG_MB lie in the
# spool, then lets a receiver have it all. Prints the daemon's peak resident memory (VmHWM)
# after each half, and fails when it passed LIMIT_MB.
#
#   benches/backlog.sh                  2 GB, about five minutes, 3 GB of disk
#   BACKLOG_MB=200 benches/backlog.sh   a short form
#
#   BACKLOG_DIR      where the spool goes; target/bench-backlog by default
#   SHARDS           4 by default
#   LIMIT_MB         64 by default
#   TIMEOUT          seconds each half may take; 1800 by default
#   SLS_RELAY_BIN    the program; built by default
set -euo pipefail
cd "$(dirname "$0")/.."

BACKLOG_MB=${BACKLOG_MB:-2000}
LIMIT_MB=${LIMIT_MB:-64}
TIMEOUT=${TIMEOUT:-1800}
DIR=${BACKLOG_DIR:-$PWD/target/bench-backlog}
BIN=${SLS_RELAY_BIN:-target/release/sls-relay}
[ -n "${SLS_RELAY_BIN:-}" ] || cargo build --release --locked --quiet --bin sls-relay

PIDS=()
cleanup() {
  for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$DIR"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

rm -rf "$DIR"
mkdir -p "$DIR"
PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

# Until `condition` holds, the time is over, or the daemon is gone.
until_holds() {
  local what=$1 end=$((SECONDS + TIMEOUT))
  shift
  until "$@"; do
    kill -0 "$RELAY" 2>/dev/null || { tail -n 20 "$DIR/relay.log"; echo "the daemon ended while $what"; exit 1; }
    [ $SECONDS -lt $end ] || { tail -n 20 "$DIR/relay.log"; echo "$what took more than $TIMEOUT s"; exit 1; }
    sleep 0.5
  done
}
spool_mb() { echo $(($(du -sk "$DIR/spool" 2>/dev/null | cut -f1 || echo 0) / 1000)); }
peak_mb() { awk '/^VmHWM/ { printf "%.1f", $2 * 1024 / 1e6 }' "/proc/$RELAY/status"; }
PEAK_SPOOL=0
is_filled() { note_spool && [ "$NOW" -ge "$BACKLOG_MB" ]; }
# A drained spool keeps its newest segment, the catalog and the reserve.
is_drained() { note_spool && [ "$NOW" -lt 80 ]; }
note_spool() {
  NOW=$(spool_mb)
  if [ "$NOW" -gt "$PEAK_SPOOL" ]; then PEAK_SPOOL=$NOW; fi
}

"$BIN" emulator --listen 127.0.0.1:0 --logs 1000000000 --shards "${SHARDS:-4}" >"$DIR/emulator.json" 2>"$DIR/emulator.log" &
EMULATOR=$!
PIDS+=("$EMULATOR")
for _ in $(seq 100); do [ -s "$DIR/emulator.json" ] && break; sleep 0.1; done
access() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$DIR/emulator.json" "$1"; }
SLS_ENDPOINT=$(access endpoint) SLS_PROJECT=$(access project) SLS_LOGSTORE=$(access logstore)
SLS_AK_ID=$(access access_key_id) SLS_AK_KEY=$(access access_key_secret) SLS_CG=backlog
export SLS_ENDPOINT SLS_PROJECT SLS_LOGSTORE SLS_AK_ID SLS_AK_KEY SLS_CG

"$BIN" run --to "tcp://127.0.0.1:$PORT" --spool "$DIR/spool" >"$DIR/relay.log" 2>&1 &
RELAY=$!
PIDS+=("$RELAY")

start=$SECONDS
until_holds "the spool fills" is_filled
echo "filled:  ${NOW} MB in the spool after $((SECONDS - start)) s, peak memory $(peak_mb) MB"
# No more comes in: what is there can be drained.
kill "$EMULATOR"

python3 - "$PORT" <<'SINK' &
import socket, sys, threading

def read(connection):
    buffer = bytearray(1 << 20)
    with connection:
        while connection.recv_into(buffer):
            pass

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=16)
while True:
    connection, _ = listener.accept()
    threading.Thread(target=read, args=(connection,), daemon=True).start()
SINK
PIDS+=("$!")

start=$SECONDS
until_holds "the spool drains" is_drained
PEAK=$(peak_mb)
echo "drained: ${NOW} MB in the spool after $((SECONDS - start)) s, peak memory $PEAK MB"
echo "largest spool $PEAK_SPOOL MB, peak memory $PEAK MB of $LIMIT_MB MB"
awk -v peak="$PEAK" -v limit="$LIMIT_MB" 'BEGIN { exit !(peak <= limit) }' || { echo "the daemon took more memory than it may"; exit 1; }
