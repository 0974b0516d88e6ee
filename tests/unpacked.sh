#!/bin/sh
# usage: tests/unpacked.sh FOLDER PACKAGE...
# Download Debian packages and unpack them in a folder. Installs nothing.
set -eu

folder=$1
shift
for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || { echo "cannot download $*: there is no $tool" >&2; exit 1; }
done
mkdir -p "$folder"
cd "$folder"
download() { apt-get -q download "$@"; }
# The list of packages of a new machine is old, or not there.
{ download "$@" || { apt-get -q update && download "$@"; }; } >/dev/null 2>&1 ||
    { echo "cannot download $*" >&2; exit 1; }
for file in *.deb; do
    dpkg-deb -x "$file" .
    rm "$file"
done
