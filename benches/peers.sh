#!/usr/bin/env bash
# CPU seconds that a spool and the disk queues of rsyslog and syslog-ng take to be drained, all
# with the same messages to the same sink, in turns: once over TCP, and for rsyslog and us over
# RELP to rsyslog's imrelp. Each is filled while nothing listens; what counts is the CPU time,
# user and system, of the sender alone, from then until the last message has arrived.
#
#   benches/peers.sh              3 rounds of 200,000 logs, about ten minutes, 2 GB of disk
#   LOGS=20000 benches/peers.sh   a short form
#
#   ROUNDS           turns; medians are shown
#   PEERS_DIR        where everything goes; target/bench-peers by default
#   TIMEOUT          seconds that each filling and each draining may take; 120 by default
#   SLS_RELAY_BIN    the program; built by default
#   SLS_RELAY_RECEIVERS   the daemons; target/tools/receivers by default, which
#                    tests/receivers/fetch.sh fills
set -euo pipefail
cd "$(dirname "$0")/.."

LOGS=${LOGS:-200000}
ROUNDS=${ROUNDS:-3}
TIMEOUT=${TIMEOUT:-120}
DIR=${PEERS_DIR:-$PWD/target/bench-peers}
ROOT=${SLS_RELAY_RECEIVERS:-$PWD/target/tools/receivers}/root
BIN=${SLS_RELAY_BIN:-target/release/sls-relay}
[ -n "${SLS_RELAY_BIN:-}" ] || cargo build --release --locked --quiet --bin sls-relay
[ -x "$ROOT/usr/sbin/rsyslogd" ] || { echo "no rsyslogd below $ROOT; tests/receivers/fetch.sh gets it"; exit 2; }

TRIPLET=$(uname -m)-linux-gnu
LIBRARIES="$ROOT/usr/lib/$TRIPLET:$ROOT/lib/$TRIPLET:$ROOT/usr/lib/syslog-ng"
MODULES=$(find "$ROOT/usr/lib" -type d -path '*syslog-ng/*' -name '[0-9]*' | head -n 1)
HERTZ=$(getconf CLK_TCK)
LARGEST=65536

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

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
FEED=$(free_port) TCP=$(free_port) RELP=$(free_port)

end_of() { kill "$1" 2>/dev/null || true; wait "$1" 2>/dev/null || true; }

# Until `condition` holds or the time is over.
until_holds() {
  local end=$((SECONDS + TIMEOUT))
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.05
  done
}

# CPU seconds of a living process and all its threads.
cpu() { awk -v hertz="$HERTZ" '{ sub(/^.*\) /, ""); printf "%.2f", ($12 + $13) / hertz }' "/proc/$1/stat"; }

# Has taken no CPU time worth the name for two seconds.
is_idle() {
  local before
  before=$(cpu "$1")
  sleep 2
  awk -v a="$before" -v b="$(cpu "$1")" 'BEGIN { exit !(b - a <= 0.05) }'
}

# --- the receivers -----------------------------------------------------------------------------

# Counts the messages of all connections into $DIR/arrived; keeps the bytes in the file named.
cat >"$DIR/sink.py" <<'SINK'
import os, socket, sys, threading, time

MARK = b"[sls@32473 "  # a log may well hold what looks like a header
count, lock = 0, threading.Lock()
kept = open(sys.argv[3], "wb") if len(sys.argv) > 3 else None

def read(connection):
    global count
    buffer, tail = bytearray(1 << 20), b""
    with connection:
        while size := connection.recv_into(buffer):
            seen = tail + buffer[:size]
            with lock:
                count += seen.count(MARK)
                if kept:
                    kept.write(buffer[:size])
            tail = bytes(seen[-len(MARK) + 1:])

def tell():
    told = None
    while True:
        if told != count:
            told = count
            if kept:
                with lock:
                    kept.flush()
            with open(sys.argv[2] + ".new", "w") as file:
                file.write(str(told))
            os.replace(sys.argv[2] + ".new", sys.argv[2])
        time.sleep(0.02)

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=16)
threading.Thread(target=tell, daemon=True).start()
while True:
    connection, _ = listener.accept()
    threading.Thread(target=read, args=(connection,), daemon=True).start()
SINK

# rsyslog's imrelp; a character for each message.
cat >"$DIR/imrelp.conf" <<EOF_CONF
global(workDirectory="$DIR" maxMessageSize="$LARGEST" net.enableDNS="off")
module(load="imrelp")
template(name="one" type="string" string=".")
ruleset(name="received" queue.type="Direct") { action(type="omfile" file="$DIR/arrived.relp" template="one") }
action(type="omfile" file="$DIR/imrelp.log")
input(type="imrelp" address="127.0.0.1" port="$RELP" ruleset="received" maxDataSize="$LARGEST")
EOF_CONF

rsyslogd() { LD_LIBRARY_PATH=$LIBRARIES exec "$ROOT/usr/sbin/rsyslogd" -n -M "$ROOT/usr/lib/$TRIPLET/rsyslog" -f "$1" -i "$1.pid"; }

# open_sink TRANSPORT [FILE]: from now on messages arrive.
open_sink() {
  rm -f "$DIR/arrived" "$DIR/arrived.relp"
  case $1 in
  tcp) python3 "$DIR/sink.py" "$TCP" "$DIR/arrived" ${2:+"$2"} & ;;
  relp) rsyslogd "$DIR/imrelp.conf" >"$DIR/imrelp.out" 2>&1 & ;;
  esac
  SINK=$!
  PIDS+=("$SINK")
}
is_listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
arrived() {
  case $1 in
  tcp) cat "$DIR/arrived" 2>/dev/null || echo 0 ;;
  relp) stat -c %s "$DIR/arrived.relp" 2>/dev/null || echo 0 ;;
  esac
}
has_all() { [ "$(arrived "$1")" -ge "$LOGS" ]; }

# --- what drains -------------------------------------------------------------------------------

# The spool is filled once, and a copy of it is drained each time.
logs_ever() { "$BIN" spool status --spool "$DIR/spool" --json 2>/dev/null | python3 -c 'import json, sys; print(json.load(sys.stdin)["logs_ever"])' 2>/dev/null || echo 0; }
pulled() { [ "$(logs_ever)" -ge "$LOGS" ]; }
fill_ours() {
  "$BIN" emulator --listen 127.0.0.1:0 --logs "$LOGS" --shards 4 >"$DIR/emulator.json" 2>"$DIR/emulator.log" &
  local emulator=$! relay
  PIDS+=("$emulator")
  until_holds test -s "$DIR/emulator.json"
  access() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$DIR/emulator.json" "$1"; }
  SLS_ENDPOINT=$(access endpoint) SLS_PROJECT=$(access project) SLS_LOGSTORE=$(access logstore)
  SLS_AK_ID=$(access access_key_id) SLS_AK_KEY=$(access access_key_secret) SLS_CG=peers
  export SLS_ENDPOINT SLS_PROJECT SLS_LOGSTORE SLS_AK_ID SLS_AK_KEY SLS_CG
  "$BIN" run --to "tcp://127.0.0.1:$TCP" --spool "$DIR/spool" >"$DIR/fill.log" 2>&1 &
  relay=$!
  PIDS+=("$relay")
  until_holds pulled || { tail -n 5 "$DIR/fill.log"; echo "the spool did not fill"; exit 1; }
  end_of "$relay"
  end_of "$emulator"
}

# drain_ours TRANSPORT [FILE]: puts the CPU seconds into $SPENT. The start of the program counts.
drain_ours() {
  local port=$TCP TIMEFORMAT='%U %S'
  [ "$1" = tcp ] || port=$RELP
  rm -rf "$DIR/copy"
  cp -a "$DIR/spool" "$DIR/copy"
  open_sink "$@"
  until_holds is_listening "$port"
  { time timeout "$TIMEOUT" "$BIN" run --drain --to "$1://127.0.0.1:$port" --spool "$DIR/copy" \
    >"$DIR/drain.log" 2>&1; } 2>"$DIR/time" || { tail -n 5 "$DIR/drain.log"; echo "the spool did not drain"; }
  until_holds has_all "$1" || true
  SPENT=$(awk 'END { print $1 + $2 }' "$DIR/time")
  GOT=$(arrived "$1")
  end_of "$SINK"
  rm -rf "$DIR/copy"
}

# rsyslog's queue of the action, on disk but for the newest messages.
DISK='queue.type="LinkedList" queue.filename="peers" queue.size="20000" queue.highWatermark="2000"
  queue.lowWatermark="1000" queue.maxDiskSpace="8g" queue.timeoutEnqueue="600000"'
# The same in memory, which costs it least.
MEMORY='queue.type="LinkedList" queue.size="1000000" queue.timeoutEnqueue="600000"'
rsyslog_conf() {
  local action
  case $1 in
  tcp) action="type=\"omfwd\" protocol=\"tcp\" target=\"127.0.0.1\" port=\"$TCP\" TCP_Framing=\"octet-counted\"" ;;
  relp) action="type=\"omrelp\" target=\"127.0.0.1\" port=\"$RELP\"" ;;
  esac
  cat <<EOF_CONF
global(workDirectory="$DIR/peer" maxMessageSize="$LARGEST" net.enableDNS="off")
module(load="imtcp")
module(load="omrelp")
ruleset(name="forward" queue.type="Direct") {
  action($action template="RSYSLOG_SyslogProtocol23Format"
    action.resumeRetryCount="-1" action.resumeInterval="1" $2)
}
action(type="omfile" file="$DIR/peer/own.log")
input(type="imtcp" address="127.0.0.1" port="$FEED" ruleset="forward")
EOF_CONF
}
syslog_ng_conf() {
  cat <<EOF_CONF
@version: $(LD_LIBRARY_PATH=$LIBRARIES "$ROOT/usr/sbin/syslog-ng" --version 2>/dev/null | sed -n 's/^Config version: *//p')
options { log-msg-size($LARGEST); stats-freq(0); use-dns(no); keep-hostname(yes); keep-timestamp(yes); frac-digits(6); time-reopen(1); };
source s { syslog(transport("tcp") ip("127.0.0.1") port($FEED) log-iw-size(10000)); };
source own { internal(); };
destination d { syslog("127.0.0.1" transport("tcp") port($TCP)
  disk-buffer(reliable(yes) disk-buf-size(8589934592) mem-buf-size(16777216) dir("$DIR/peer"))); };
destination o { file("$DIR/peer/own.log"); };
log { source(s); destination(d); flags(flow-control); };
log { source(own); destination(o); };
EOF_CONF
}

# drain_peer NAME TRANSPORT [QUEUE]: fills it, drains it, puts the CPU seconds into $SPENT.
drain_peer() {
  local peer before
  rm -rf "$DIR/peer"
  mkdir -p "$DIR/peer"
  case $1 in
  rsyslog)
    rsyslog_conf "$2" "$3" >"$DIR/peer/conf"
    rsyslogd "$DIR/peer/conf" >"$DIR/peer/out" 2>&1 &
    ;;
  syslog-ng)
    syslog_ng_conf >"$DIR/peer/conf"
    LD_LIBRARY_PATH=$LIBRARIES "$ROOT/usr/sbin/syslog-ng" -F --no-caps --module-path "$MODULES" -f "$DIR/peer/conf" \
      -p "$DIR/peer/pid" -c "$DIR/peer/ctl" -R "$DIR/peer/persist" >"$DIR/peer/out" 2>&1 &
    ;;
  esac
  peer=$!
  PIDS+=("$peer")
  timeout "$TIMEOUT" python3 - "$FEED" "$DIR/messages" <<'FEEDER'
import shutil, socket, sys, time

for _ in range(100):
    try:
        connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        break
    except OSError:
        time.sleep(0.1)
with connection, open(sys.argv[2], "rb") as file:
    connection.sendfile(file)
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass
FEEDER
  until_holds is_idle "$peer" || true
  before=$(cpu "$peer")
  open_sink "$2"
  until_holds has_all "$2" || true
  SPENT=$(awk -v a="$before" -v b="$(cpu "$peer")" 'BEGIN { print b - a }')
  GOT=$(arrived "$2")
  end_of "$peer"
  end_of "$SINK"
}

# --- the turns ---------------------------------------------------------------------------------

# note NAME: keeps the figures of this round.
note() {
  echo "$1 $SPENT $GOT" >>"$DIR/figures"
  printf '%-28s %8s CPU s %9s messages\n' "$1" "$SPENT" "$GOT"
}

fill_ours
drain_ours tcp "$DIR/messages"
[ "$GOT" -eq "$LOGS" ] || { echo "$GOT of $LOGS messages are there to compare with"; exit 1; }
echo "$LOGS messages, $(($(stat -c %s "$DIR/messages") / LOGS)) octets on average; $ROUNDS rounds"
for _ in $(seq "$ROUNDS"); do
  drain_ours tcp
  note tcp:sls-relay
  drain_peer syslog-ng tcp
  note tcp:syslog-ng
  drain_peer rsyslog tcp "$DISK"
  note tcp:rsyslog
  drain_ours relp
  note relp:sls-relay
  drain_peer rsyslog relp "$DISK"
  note relp:rsyslog-disk
  drain_peer rsyslog relp "$MEMORY"
  note relp:rsyslog-memory
done

python3 - "$DIR/figures" "$LOGS" <<'TABLE'
import statistics, sys

figures = {}
for line in open(sys.argv[1]):
    name, spent, got = line.split()
    figures.setdefault(name, []).append((float(spent), int(got)))
rates = {n: statistics.median(got / max(spent, 0.01) for spent, got in f) for n, f in figures.items()}
print(f"\n{'medians':<28}{'messages/CPU s':>16}{'CPU s/100,000':>16}{'ours, times':>14}")
for name, rate in rates.items():
    ours = rates[name.split(":")[0] + ":sls-relay"]
    short = "" if min(got for _, got in figures[name]) >= int(sys.argv[2]) else "  not all arrived in time"
    print(f"{name:<28}{rate:>16,.0f}{1e5 / rate if rate else 0:>16.2f}{ours / max(rate, 1e-9):>14.1f}{short}")
TABLE
