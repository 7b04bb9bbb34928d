#!/bin/sh
# Downloads rsyslog and syslog-ng from Debian and unpacks them.  usage: fetch.sh DIR
# Nothing is installed: the daemons run from DIR/root with its libraries and modules.
set -eu
dir=${1:?usage: fetch.sh DIR}
stamp=$dir/.unpacked-1
[ ! -e "$stamp" ] || exit 0
command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "this is not Debian"; exit 1; }
rm -rf "$dir"
mkdir -p "$dir/debs" "$dir/root"
cd "$dir/debs"
if ! apt-cache show syslog-ng-core >/dev/null 2>&1; then
  [ "$(id -u)" = 0 ] || { echo "apt has no package lists: run apt-get update as root once"; exit 1; }
  apt-get update -qq
fi
# The daemons, and the libraries of theirs that this machine does not have. A library that
# the release does not know by that name is not needed on it.
packages="rsyslog rsyslog-relp rsyslog-openssl rsyslog-gnutls syslog-ng-core"
for library in libestr0 libfastjson4 liblognorm5 librelp0 libnet1 libwrap0 libivykis0 libivykis0t64 \
  libpcre3 libpcre2-8-0 libdbi1 libesmtp6 libjson-c5 libgnutls30 libgnutls30t64; do
  dpkg -s "$library" >/dev/null 2>&1 && continue
  if apt-cache show "$library" >/dev/null 2>&1; then packages="$packages $library"; fi
done
# shellcheck disable=SC2086 # a list of words
apt-get download -qq $packages
for deb in ./*.deb; do dpkg -x "$deb" "$dir/root"; done
touch "$stamp"
