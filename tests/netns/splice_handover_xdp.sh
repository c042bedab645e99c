#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
SPLICE_MODES="xdp xdp-nogro" exec "$(dirname "$0")/splice_handover.sh"
