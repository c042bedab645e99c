#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# pool.sh, relayed in user space.
UPSTREAM_MODES=relay exec "$(dirname "$0")/pool.sh"
