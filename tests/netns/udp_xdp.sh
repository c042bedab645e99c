#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
UDP_MODES="xdp" exec "$(dirname "$0")/udp.sh"
