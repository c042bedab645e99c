#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# failover.sh with `hook: xdp`.
UPSTREAM_MODES=xdp exec "$(dirname "$0")/failover.sh"
