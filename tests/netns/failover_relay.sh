#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# failover.sh, relayed in user space.
UPSTREAM_MODES=relay exec "$(dirname "$0")/failover.sh"
