#!/bin/sh
# usage: tests/tools.sh PACKAGE...
# Install Debian packages that tests need, where that is possible. Says nothing when they are there.
set -eu

missing=""
for package; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "installing$missing needs root" >&2; exit 1; }
command -v apt-get >/dev/null || { echo "cannot install$missing: there is no apt-get" >&2; exit 1; }

install() {
    # Another run of the tests may be at it.
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -qq --no-install-recommends $missing
}
# The list of packages of a new machine is old, or not there.
{ install || { apt-get update -qq && install; }; } >/dev/null 2>&1 || { echo "cannot install$missing" >&2; exit 1; }
