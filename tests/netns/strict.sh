#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a file asks for explicitly and the machine cannot do: `check` accepts it, `check --strict` names line and column,
# `run` takes the fallback, warns once and shows it in `status`. SOCKSPLICE_NO_REPAIR plays a kernel that refuses TCP_REPAIR.
#
#   client c0 ── l0 gateway (check, daemon) u0 ── s0 server (microsocks, web server on lo)
set -uo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/../../scripts/lab.sh"
# shellcheck source=tests/netns/tap.sh
. "$(dirname "$0")/tap.sh"

file=$lab_dir/strict.yml
check() { in_gateway "$lab_build/socksplice" check -c "$file" "$@" 2>&1; }
# strict NAME WHERE-AND-TEXT <<CONFIGURATION: WHERE-AND-TEXT "": all right
strict() {
	local code=3
	cat >"$file"
	[ -n "$2" ] || code=0
	is "$1: check accepts it" "$(check)" "$file: all right"
	is "$1: check --strict" "$(check --strict | sed "s,^socksplice: $file:,," | sed "s,^$file: all right,,")" "$2"
	check --strict >/dev/null
	is "$1: exit code" "$?" "$code"
}
upstream='upstreams: [ { name: main, server: 10.2.0.2:1080 } ]'

lab_up
strict "defaults" "" <<END
interfaces: [ { name: l0 } ]
$upstream
END
strict "what this machine can do" "" <<END
interfaces: [ { name: l0, hook: xdp, xsk: copy, attach: load } ]
uplink: u0
bpf-pin: $lab_bpf/pin
upstreams: [ { name: main, server: 10.2.0.2:1080, sources: [ 10.2.0.1 ] } ]
tcp: { relay: splice }
performance: { enable_ebpf: true, enable_simd: true, enable_cpu_affinity: true, enable_io_uring: true }
END
strict "no such interface" "1:23: name: nosuch0: No such device" <<END
interfaces: [ { name: nosuch0 } ]
$upstream
END
strict "zero-copy on a veth" "3:10: xsk: zerocopy: the driver of l0 (veth) has no zero-copy AF_XDP" <<END
interfaces:
  - name: l0
    xsk: zerocopy
$upstream
END
strict "our program is not there" "1:35: attach: external: our XDP program is not attached to l0" <<END
interfaces: [ { name: l0, attach: external } ]
$upstream
END
strict "several at once" "1:43: xsk: zerocopy: the driver of l0 (veth) has no zero-copy AF_XDP
3:9: uplink: nosuch1: No such device
4:10: bpf-pin: $lab_dir/pin is not on a bpffs (Operation not supported)
2:60: sources: 10.2.0.9 is no address of this machine" <<END
interfaces: [ { name: l0, hook: xdp, xsk: zerocopy } ]
upstreams: [ { name: main, server: 10.2.0.2:1080, sources: [ 10.2.0.1, 10.2.0.9 ] } ]
uplink: nosuch1
bpf-pin: $lab_dir/pin
END
in_gateway ip link set l0 mtu 9000
strict "an MTU that XDP cannot take" "1:33: hook: xdp: l0 has an MTU of 9000, and XDP can take 3822" <<END
interfaces: [ { name: l0, hook: xdp } ]
$upstream
END
in_gateway ip link set l0 mtu 1500
export SOCKSPLICE_NO_REPAIR=1
strict "no TCP_REPAIR" "4:31: enable_ebpf: true: TCP_REPAIR is not permitted (Operation not permitted), so every connection is relayed in user space" <<END
interfaces: [ { name: l0 } ]
$upstream
# as it stands in the file
performance: { enable_ebpf:   true }
END
strict "no TCP_REPAIR, and nothing asked for" "" <<END
interfaces: [ { name: l0 } ]
$upstream
performance: { enable_ebpf: false }
END
strict "no TCP_REPAIR, and splicing only" "3:15: relay: splice: TCP_REPAIR is not permitted (Operation not permitted), so every connection is refused" <<END
interfaces: [ { name: l0 } ]
$upstream
tcp: { relay: splice }
END

# the daemon: on the fallback, with one warning
mkdir "$lab_dir/www"
echo hello >"$lab_dir/www/page"
lab_start_web "$lab_dir/www" || exit 1
lab_start_microsocks || exit 1
# warned: lines of the log that speak of it
warned() { grep -c "warn  enable_ebpf: true: TCP_REPAIR is not permitted" "$lab_dir/daemon.log"; }
fallbacks() { "$lab_build/socksplice" status --json --control "$lab_control" | jq -r '.fallbacks[]' | grep -c '^enable_ebpf: true: TCP_REPAIR'; }
lab_config
lab_daemon_start || exit 1
is "run: what is not asked for is not warned of" "$(warned) $(fallbacks)" "0 0"
lab_daemon_flush
lab_config 10.2.0.2:1080 "performance: { enable_ebpf: true }"
lab_daemon_start || exit 1
is "run: relayed" "$(in_client curl -gsS -m 10 "http://$lab_target4/page") $(lab_stat '.splice | [.handovers, .not_spliced_repair] | join(" ")')" "hello 0 1"
is "run: warned once" "$(warned)" 1
is "run: in status" "$(fallbacks)" 1
lab_daemon_flush
tap_done
