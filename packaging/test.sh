#!/bin/sh
# Builds the Debian package, checks its unit, installs it into a throw-away copy of this
# system, runs it there and purges it.  usage: test.sh [PACKAGE.deb instead of building one]
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

left_out() {
    echo "LEFT OUT: $1"
    [ -z "${SLS_RELAY_LEFT_OUT:-}" ] || echo "$1" >>"$SLS_RELAY_LEFT_OUT"
}

if ! command -v dpkg-deb >/dev/null; then
    left_out "the Debian package: there is no dpkg"
    exit 0
fi
deb=${1:-$(packaging/build-deb.sh | tail -n 1)}
[ -f "$deb" ] || { echo "there is no package to test: ${deb:-the build failed}" >&2 && exit 1; }

mkdir "$work/root"
dpkg-deb -x "$deb" "$work/root"
[ "$("$work/root/usr/bin/sls-relay" --version)" = "sls-relay $version" ]

if command -v systemd-analyze >/dev/null; then
    unit=$work/sls-relay.service
    # verify wants an executable that exists.
    find "$work/root" -name sls-relay.service -exec \
        sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' {} ';' >"$unit"
    systemd-analyze verify --man=no --recursive-errors=no "$unit"
    # The scale of the threshold is ten times that of the printed exposure.
    systemd-analyze security --no-pager --offline=true --threshold=15 "$unit" >"$work/security.log" ||
        { cat "$work/security.log" && exit 1; }
else
    left_out "the check of the systemd unit: there is no systemd-analyze"
fi

if [ "$(id -u)" != 0 ] || ! unshare -m true 2>/dev/null || ! command -v systemd-sysusers >/dev/null; then
    left_out "installing the Debian package: that needs root, mount namespaces and systemd-sysusers"
    exit 0
fi
mkdir "$work/copy"
# An overlay over the root file system in a mount namespace of its own: what is installed
# there is gone with the namespace.
# shellcheck disable=SC2016 # expanded by the inner shell
unshare -m sh -euc '
    mount --make-rprivate /
    mount -t tmpfs tmpfs "$1/copy"
    cd "$1/copy"
    mkdir up work system
    mount -t overlay overlay -o lowerdir=/,upperdir=up,workdir=work system
    cp "$2" system/sls-relay.deb
    cp "$3/packaging/lifecycle.sh" system/
    mount -t proc proc system/proc
    mount --bind /dev system/dev
    exec chroot system /bin/sh /lifecycle.sh "$4"
' sh "$work" "$(realpath "$deb")" "$PWD" "$version"
