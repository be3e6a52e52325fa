#!/bin/sh
# Programs that the tests and benchmarks use as peers, from Debian: installs what is missing where that is allowed (root on a
# machine with apt-get), otherwise names it. Exit status 2 when something is missing in CI; elsewhere the tests that need it
# say so themselves. With the argument "bench" also what only benchmarks use.
set -u

missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need ffmpeg ffmpeg
need ffprobe ffmpeg
need rtmpdump rtmpdump
need ss iproute2
need nginx nginx-light
need haproxy haproxy
need redis-server redis-server
need openssl openssl
need gcc gcc
[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
headers=$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))' 2>/dev/null) || headers=""
[ -e "$headers/Python.h" ] || missing="$missing python3-dev"
if [ "${1:-}" = bench ]; then
	need node nodejs
	need npm npm
fi
[ -e /usr/lib/nginx/modules/ngx_rtmp_module.so ] || missing="$missing libnginx-mod-rtmp"
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || missing="$missing libnginx-mod-stream"
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
[ -n "$(printf %s "$missing" | tr -d ' ')" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "headwater: installing from Debian: $missing"
	# Debian's nginx, HAProxy and Redis would start on their ports: only the programs are wanted.
	policy=/usr/sbin/policy-rc.d
	made_policy=""
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made_policy=1
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null
	status=$?
	[ -z "$made_policy" ] || rm -f "$policy"
	[ "$status" = 0 ] && exit 0
fi
echo "headwater: missing Debian packages: $missing; install them with: apt-get install $missing" >&2
[ -z "${CI:-}" ] || exit 2
