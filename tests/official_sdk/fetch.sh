#!/bin/sh
# Makes a virtual environment with the official Python SDK.  usage: fetch.sh DIR
set -eu
dir=${1:?usage: fetch.sh DIR}
requirements=$(dirname "$0")/requirements.txt
stamp=$dir/.requirements.txt
! cmp -s "$requirements" "$stamp" || exit 0
rm -rf "$dir"
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
cp "$requirements" "$stamp"
