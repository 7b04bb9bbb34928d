#!/bin/sh
# Runs one receiver in the foreground on loopback.
# usage: run.sh TOOLS KIND DIR        (DIR: where its files go)
# KIND: rsyslog, syslog-ng; over TLS: rsyslog-ossl, rsyslog-gtls, syslog-ng-tls, and with -auth
# at the end one that wants a certificate from clients. DIR/ca.pem, server.pem and server.key
# must exist then.
# Ports: RX_UDP, RX_TCP, for rsyslog RX_RELP, and for syslog-ng RX_LF (its octet-counting
# source takes no LF).
# RX_CONF is another configuration, in which the same words are replaced.
# DIR/raw.log gets each message as received, DIR/parsed.jsonl what the daemon understood.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tools=${1:?} kind=${2:?} dir=${3:?}
root=$tools/root
mkdir -p "$dir"
triplet=$(uname -m)-linux-gnu
export LD_LIBRARY_PATH="$root/usr/lib/$triplet:$root/lib/$triplet:$root/usr/lib/syslog-ng"
conf=$kind driver='' auth=anon verify=optional-untrusted
case $kind in *-auth) conf=${kind%-auth} auth=x509/certvalid verify=required-trusted ;; esac
case $conf in rsyslog-ossl | rsyslog-gtls) driver=${conf#rsyslog-} conf=rsyslog-tls ;; esac
sed -e "s|@PKI@|$dir|g" -e "s|@DRIVER@|$driver|g" -e "s|@AUTH@|$auth|g" -e "s|@VERIFY@|$verify|g" \
  -e "s|@DIR@|$dir|g" -e "s|@UDP@|${RX_UDP:?}|g" -e "s|@TCP@|${RX_TCP:?}|g" -e "s|@LF@|${RX_LF:-0}|g" \
  -e "s|@RELP@|${RX_RELP:-0}|g" \
  "${RX_CONF:-$here/$conf.conf}" >"$dir/receiver.conf"
case $conf in
rsyslog | rsyslog-tls)
  exec "$root/usr/sbin/rsyslogd" -n -M "$root/usr/lib/$triplet/rsyslog" -f "$dir/receiver.conf" -i "$dir/pid"
  ;;
syslog-ng | syslog-ng-tls)
  modules=$(find "$root/usr/lib" -type d -path '*syslog-ng/*' -name '[0-9]*' | head -n 1)
  version=$("$root/usr/sbin/syslog-ng" --version 2>/dev/null | sed -n 's/^Config version: *//p')
  sed -i "s|@VERSION@|${version:-3.38}|" "$dir/receiver.conf"
  exec "$root/usr/sbin/syslog-ng" -F --no-caps --module-path "$modules" -f "$dir/receiver.conf" \
    -p "$dir/pid" -c "$dir/ctl" -R "$dir/persist"
  ;;
*) echo "no receiver is called $kind" >&2; exit 2 ;;
esac
