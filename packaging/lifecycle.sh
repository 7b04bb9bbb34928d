#!/bin/sh
# Runs as root inside the throw-away system that test.sh makes, never on a real one:
# installs /sls-relay.deb, runs it, removes and purges it.  usage: lifecycle.sh VERSION
set -eu
version=$1
export DEBIAN_FRONTEND=noninteractive

check() {
    "$@" || { echo "lifecycle: this does not hold: $*" >&2 && exit 1; }
}
mode_and_owner() {
    stat -c '%a %U:%G' "$1"
}

dpkg -i /sls-relay.deb
check [ "$(/usr/bin/sls-relay --version)" = "sls-relay $version" ]
check id _sls-relay
check [ "$(mode_and_owner /etc/sls-relay/credentials/default)" = "700 root:root" ]
check [ ! -e /etc/sls-relay/sls-relay.toml ]
check [ -s /usr/share/doc/sls-relay/examples/sls-relay.toml ]

# A configuration and a spool survive an upgrade and a removal.
echo '# mine' >/etc/sls-relay/sls-relay.toml
install -d -o _sls-relay -g _sls-relay -m 0700 /var/lib/sls-relay /var/lib/sls-relay/default
echo undelivered >/var/lib/sls-relay/default/segment
dpkg -i /sls-relay.deb
dpkg -r sls-relay
check [ ! -e /usr/bin/sls-relay ]
check [ "$(cat /etc/sls-relay/sls-relay.toml)" = '# mine' ]

# A purge takes the configuration and the secrets, and never undelivered logs.
dpkg -P sls-relay
check [ ! -e /etc/sls-relay ]
check [ "$(cat /var/lib/sls-relay/default/segment)" = undelivered ]
echo "lifecycle: installed, upgraded, removed and purged"
