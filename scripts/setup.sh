#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what building and testing need and is missing (Debian 12, apt). Says what it does; does nothing when all is there.
#   setup.sh build|test|bench ...
set -euo pipefail

build="gcc make clang llvm bpftool pkg-config libbpf-dev libxdp-dev liburing-dev libnuma-dev libyaml-dev libjansson-dev
  libsystemd-dev libmnl-dev libc-ares-dev libmicrohttpd-dev libcmocka-dev libelf-dev zlib1g-dev linux-libc-dev libc6-dev"
test="iproute2 iputils-ping procps curl python3 python3-scapy jq ethtool iperf3 ncat tshark dante-server microsocks
  shadowsocks-libev prometheus nftables openssh-server openssh-client bind9-dnsutils dnsperf libclang-rt-14-dev clang-format clang-tidy cppcheck shellcheck
  mandoc"
bench="redsocks iptables"

wanted=""
for group in "$@"; do
	case $group in
	build) wanted+=" $build" ;;
	test) wanted+=" $test" ;;
	bench) wanted+=" $bench" ;;
	*) echo "setup.sh: unknown group $group; build, test and bench are known" >&2; exit 2 ;;
	esac
done

missing=()
for package in $wanted; do
	dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "setup.sh: these packages are missing and need root to be installed: ${missing[*]}" >&2
	exit 1
fi
echo "Installing ${#missing[@]} Debian packages: ${missing[*]}"

# Servers must not start just because they were installed for tests.
policy=/usr/sbin/policy-rc.d
guard=""
if [ ! -e "$policy" ]; then
	guard=$policy
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
log=$(mktemp)
cleanup() {
	[ -z "$guard" ] || rm -f "$guard"
	rm -f "$log"
}
trap cleanup EXIT

export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
	tail -n 30 "$log" >&2
	echo "setup.sh: installing failed; the lines above say why" >&2
	exit 1
fi
