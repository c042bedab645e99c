#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
SPLICE_MODES="xdp" exec "$(dirname "$0")/dns.sh"
