#!/bin/sh
# libs/amf, libs/rtmp and libs/sends with their leaf modules compiled (docs/decisions/0026, 0029): `wheels.sh WHEELS UNPACKED`
# writes the wheels into one folder and what is in them into another, which PYTHONPATH may name. The Python is the first in PATH.
set -eu
wheels=$1
unpacked=$2

fail() {
	echo "headwater: $1; without it everything runs as pure Python" >&2
	exit 2
}
compiler=$(python -c 'import sysconfig; print((sysconfig.get_config_var("CC") or "cc").split()[0])')
command -v "$compiler" >/dev/null 2>&1 || fail "no C compiler $compiler (Debian: gcc, libc6-dev)"
headers=$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -e "$headers/Python.h" ] || fail "no Python.h in $headers (Debian: python3-dev)"

echo "headwater: compiling libs/amf, libs/rtmp and libs/sends ..."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r libs/amf libs/rtmp libs/sends "$work"  # So that nothing is built beside the sources.
rm -rf "$work"/*/build "$work"/*/*.egg-info
HEADWATER_COMPILE=1 python -m pip wheel -q --disable-pip-version-check --no-deps -w "$work/wheels" "$work/amf" "$work/rtmp" "$work/sends"
mkdir -p "$wheels"
cp "$work"/wheels/*.whl "$wheels"
python -m pip install -q --disable-pip-version-check --no-index --no-deps --target "$work/unpacked" "$work"/wheels/*.whl
mkdir -p "$(dirname "$unpacked")"
rm -rf "$unpacked"
mv "$work/unpacked" "$unpacked"
