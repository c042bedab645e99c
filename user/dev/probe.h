/* SPDX-License-Identifier: MIT */
/* What this kernel can do, found out by trying, not by its version. Nothing is left behind. */
#ifndef SOCKSPLICE_PROBE_H
#define SOCKSPLICE_PROBE_H

#include <stdbool.h>
#include <stdint.h>

/* Each returns 0, or -errno with the kernel's answer. */
int probe_uring(bool *defer_taskrun, bool *recv_bundle);
int probe_buffer_ring(void);
int probe_af_xdp(void);
int probe_bpf_program(void);
/* BTF of the running kernel. */
/* tc programs on links (kernel 6.6). 0 or -errno. */
int probe_tcx(void);
/* TAP devices can be made. 0 or -errno. */
int probe_tun(void);
int probe_btf(void);
/* Free huge pages of 2 MB. */
uint32_t probe_free_huge_pages(void);
bool probe_bpffs_mounted(void);
uint64_t probe_descriptor_limit(void);

#endif
