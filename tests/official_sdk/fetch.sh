#!/bin/sh
# Makes a virtual environment with the official Python SDK.  usage: fetch.sh DIR
set -eu
dir=${1:?usage: fetch.sh DIR}
version=0.9.52
stamp=$dir/.aliyun-log-$version
[ ! -e "$stamp" ] || exit 0
rm -rf "$dir"
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check "aliyun-log-python-sdk==$version"
touch "$stamp"
