# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2034,SC2154 # variables of lab.sh, and of who sources this file
# What the tests of mapped DNS share: source it after lab.sh, tap.sh, splice_lab.sh and rules_lab.sh.

# dns_up: rules_up, and a name server beside the targets, which the gateway's own resolver asks, and so does the upstream
dns_up() {
	rules_up
	lab_end "$lab_last"
	ip -n "$lab_s" addr add 10.2.0.53/24 dev s0
	cat >"$lab_dir/zone" <<-END
		www.proxied.example 60 A 10.9.0.1
		www.proxied.example 60 AAAA fd09::1
		rejecting.example 60 A 10.9.0.1
		host.corp.example 300 A 10.9.0.2
		host.corp.example 30 AAAA fd09::2
		short.corp.example 1 A 10.9.0.3
		alias.corp.example 60 CNAME host.corp.example
		mail.corp.example 60 MX 10 host.corp.example
		big.corp.example 60 TXT *3000
		broken.corp.example 60 FAIL
		silent.corp.example 60 SILENT
		$(for i in $(seq 40); do echo "many.corp.example 60 A 10.8.0.$i"; done)
	END
	lab_spawn "$lab_s" python3 "$lab_root/tests/tools/names.py" 10.2.0.53 "$lab_dir/zone"
	dns_server=$lab_last
	lab_wait_port "$lab_s" 53 || exit 1
	echo "nameserver 10.2.0.53" >"$lab_dir/resolv.conf"
	echo "nameserver 198.18.0.1" >"$lab_dir/resolv.client"
	printf '127.0.0.1 localhost\n10.9.0.4 filed.corp.example\n' >"$lab_dir/hosts"
	dns_wrap "$lab_dir/resolving-daemon" resolv.conf "$lab_build/socksplice"
	dns_wrap "$lab_dir/resolving-microsocks" resolv.conf microsocks
	dns_wrap "$lab_dir/resolving-client" resolv.client
	lab_spawn "$lab_s" "$lab_dir/resolving-microsocks" -i :: -p 1080
	lab_wait_port "$lab_s" 1080 || exit 1
}

# dns_wrap FILE RESOLV-CONF COMMAND...: a program that runs another with a resolv.conf and a hosts file of this lab
dns_wrap() {
	local file=$1 conf=$2
	shift 2
	cat >"$file" <<-END
		#!/bin/sh
		exec unshare -m sh -c 'mount --bind "$lab_dir/$conf" /etc/resolv.conf && mount --bind "$lab_dir/hosts" /etc/hosts &&
			exec "\$@"' sh $* "\$@"
	END
	chmod +x "$file"
}

# dns_config FAMILY KEYS [RULES]: of the daemon, whose names are kept in $lab_dir/state
dns_config() {
	lab_config "${splice_upstream[$1]}" "dns: { $2 }
state: $lab_dir/state
$([ -z "${3:-}" ] || printf 'rules:\n%s\n' "$3")
tcp: { linger: 500ms }"
}

# dns_start MODE FAMILY KEYS [RULES]
dns_start() {
	splice_mode "$1"
	dns_config "$2" "$3" "${4:-}"
	lab_daemon_start "$lab_dir/resolving-daemon" || exit 1
}

# ask_dns ARGUMENTS...: dig in the client, one try
ask_dns() { in_client dig +tries=1 +time=3 "$@" 2>&1; }
# at ARGUMENTS: the same, of the gateway, only the data
at() { ask_dns @198.18.0.1 +short "$@"; }
# status ARGUMENTS: the answer's code, flags, and number of answers and authorities: "NOERROR qr rd ra 1 0"
status() {
	ask_dns "$@" | awk '/status:/ {sub(",", "", $6); code = $6}
		/^;; flags:/ {split($0, part, /[;:,]/); flags = part[4]; split($0, n, /[:,]/); answers = n[5]; authorities = n[7]}
		/communications error|no servers could be reached/ {code = "none"}
		END {gsub(/^ +| +$/, "", flags); print code, flags, answers + 0, authorities + 0}' | sed 's/ *$//'
}
dns_stat() { lab_stat ".dns.$1"; }
dns_stat_is() { [ "$(dns_stat "$1")" = "$2" ] || { echo "$1 is $(dns_stat "$1")"; return 1; }; }
