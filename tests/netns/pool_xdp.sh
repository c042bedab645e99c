#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# pool.sh with `hook: xdp`.
UPSTREAM_MODES=xdp exec "$(dirname "$0")/pool.sh"
