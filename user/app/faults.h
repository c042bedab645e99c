/* SPDX-License-Identifier: MIT */
/* Losses that a test asks for by the environment; none otherwise. */
#ifndef SOCKSPLICE_FAULTS_H
#define SOCKSPLICE_FAULTS_H

#include <stdint.h>

#include "bridge.h"

/*
 * SOCKSPLICE_FAULTS=first_ack=10,report=10,early_data=10,synack=10,crafted=10,seconds=60: of a thousand each. Words
 * that are not known are reported and ignored.
 */
void faults_read(struct bridge_faults *faults, uint64_t now_ns);

#endif
