#!/bin/sh
# Downloads rsyslog, syslog-ng, HAProxy and nginx from Debian and unpacks them.  usage: fetch.sh DIR
# Nothing is installed: the daemons run from DIR/root with its libraries and modules. apt
# keeps package lists of its own in DIR, so neither root nor fresh system lists are needed.
set -eu
dir=${1:?usage: fetch.sh DIR}
stamp=$dir/.unpacked-3
[ ! -e "$stamp" ] || exit 0
command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "this is not Debian"; exit 1; }
rm -rf "$dir"
mkdir -p "$dir/debs" "$dir/root" "$dir/lists/partial" "$dir/cache/archives/partial"
cd "$dir/debs"
apt() {
  command=$1
  shift
  "apt-$command" -qq -o Dir::State::lists="$dir/lists" -o Dir::Cache="$dir/cache" \
    -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 -o APT::Update::Error-Mode=any "$@"
}
apt get update
# The daemons, and the libraries of theirs that this machine does not have. A library that
# the release does not know by that name is not needed on it.
packages="rsyslog rsyslog-relp rsyslog-openssl rsyslog-gnutls syslog-ng-core haproxy nginx libnginx-mod-stream"
for library in libestr0 libfastjson4 liblognorm5 librelp0 libnet1 libwrap0 libivykis0 libivykis0t64 \
  libpcre3 libpcre2-8-0 libdbi1 libesmtp6 libjson-c5 libgnutls30 libgnutls30t64 \
  libglib2.0-0 libglib2.0-0t64 libcap2 libsystemd0 liblua5.3-0 liblua5.4-0 \
  libopentracing1 libopentracing-c-wrapper0 libopentracing-c-wrapper0t64; do
  dpkg-query -W -f '${Status}' "$library" 2>/dev/null | grep -q ' installed' && continue
  if apt cache show "$library" >/dev/null 2>&1; then packages="$packages $library"; fi
done
# shellcheck disable=SC2086 # a list of words
apt get download $packages
for deb in ./*.deb; do dpkg -x "$deb" "$dir/root"; done
rm -rf "$dir/lists" "$dir/cache" "$dir/debs"
touch "$stamp"
