/* SPDX-License-Identifier: MIT */
/*
 * Kernel interface constants that are newer than Debian 12's headers (6.1).
 * Each is probed at run time before it is relied on.
 */
#ifndef SOCKSPLICE_COMPAT_H
#define SOCKSPLICE_COMPAT_H

/* io_uring: one completion for many provided buffers (6.10); the feature bit tells. */
#ifndef IORING_RECVSEND_BUNDLE
#define IORING_RECVSEND_BUNDLE (1U << 4)
#endif
#ifndef IORING_FEAT_RECVSEND_BUNDLE
#define IORING_FEAT_RECVSEND_BUNDLE (1U << 14)
#endif

/* AF_XDP: packets that one sendto() may send in copy mode (6.17); 32 without it. */
#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9
#endif

/* tc programs on links (6.6); enum bpf_attach_type of newer headers: BPF_TCX_INGRESS, BPF_TCX_EGRESS. */
#define BPF_TCX_INGRESS_ATTACH 46
#define BPF_TCX_EGRESS_ATTACH 47

#endif
