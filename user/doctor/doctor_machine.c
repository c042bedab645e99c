/* SPDX-License-Identifier: MIT */
/* What this kernel can do and what it may use, found out by trying; the fallback where it cannot. */
#include <errno.h>
#include <numa.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "csum.h"
#include "doctor_priv.h"
#include "findings.h"
#include "netdev.h"
#include "pin.h"
#include "probe.h"
#include "repair.h"
#include "topo.h"
#include "umem.h"

#define DOCTOR_LOOPBACK_IFINDEX 1
#define DOCTOR_HUGE_PAGE_BYTES (2ull << 20)
#define DOCTOR_MIN_KERNEL_MAJOR 6
#define DOCTOR_MIN_KERNEL_MINOR 1
/* Below, a busy gateway runs out of descriptors for relayed connections. */
#define DOCTOR_FEW_DESCRIPTORS 65536

/* One thing that was tried: its verdict when it failed, and both texts; the kernel's answer is added. */
static void doctor_tried(json_t *list, const char *what, int err, enum findings_verdict bad, const char *good_text,
			 const char *bad_text, const char *remedy)
{
	if (err)
		findings_add(list, bad, what, remedy, "%s (%s)", bad_text, strerror(-err));
	else
		findings_add(list, FINDINGS_OK, what, NULL, "%s", good_text);
}

static void doctor_kernel(json_t *list)
{
	unsigned int major = 0, minor = 0;
	struct utsname kernel;
	bool old;

	uname(&kernel);
	if (sscanf(kernel.release, "%u.%u", &major, &minor) != 2)
		return;
	old = major < DOCTOR_MIN_KERNEL_MAJOR || (major == DOCTOR_MIN_KERNEL_MAJOR && minor < DOCTOR_MIN_KERNEL_MINOR);
	findings_add(list, old ? FINDINGS_PROBLEM : FINDINGS_OK, "kernel", old ? "run kernel 6.1 or newer" : NULL,
		     "%s%s", kernel.release, old ? ": older than what this program is tested with" : "");
}

static void doctor_bpf(json_t *list, const struct config *config, const struct doctor_needs *needs)
{
	bool relay_only = config && (config->tcp.relay == CONFIG_RELAY_USERSPACE || !config->performance.enable_ebpf);
	bool splice_only = config && config->tcp.relay == CONFIG_RELAY_SPLICE;
	uint64_t features;

	doctor_tried(list, "BPF programs", probe_bpf_program(), FINDINGS_PREVENTS, "the XDP and tc programs load",
		     "the XDP and tc programs do not load",
		     "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
	doctor_tried(list, "tcx", probe_tcx(), FINDINGS_NOTE,
		     "tc programs are attached by links, which are replaced without a gap",
		     "no links for tc programs before kernel 6.6: clsact filters are used", "kernel 6.6 or newer");
	doctor_tried(list, "XDP features",
		     netdev_xdp_features(DOCTOR_LOOPBACK_IFINDEX, &features) == -ENOENT ? -ENOENT : 0, FINDINGS_NOTE,
		     "the kernel tells what drivers can do",
		     "the kernel does not tell what drivers can do (before 6.3): it is tried out, and XDP never sends "
		     "out of virtual devices",
		     "kernel 6.3 or newer");
	doctor_tried(list, "BTF", probe_btf(), FINDINGS_OK, "/sys/kernel/btf/vmlinux is there",
		     "no BTF; this build does not need it", NULL);
	doctor_tried(list, "AF_XDP", probe_af_xdp(), needs->af_xdp ? FINDINGS_PREVENTS : FINDINGS_OK,
		     needs->af_xdp ? "sockets can be made" : "sockets can be made; no interface needs them",
		     needs->af_xdp ? "no AF_XDP sockets" : "no AF_XDP sockets; no interface needs them",
		     "CONFIG_XDP_SOCKETS in the kernel, CAP_NET_RAW; or `hook: tc`");
	doctor_tried(list, "TAP", probe_tun(), needs->tap ? FINDINGS_PREVENTS : FINDINGS_OK,
		     needs->tap ? "/dev/net/tun is there" : "/dev/net/tun is there; no interface needs it",
		     needs->tap ? "no TAP device can be made" : "no TAP device can be made; no interface needs one",
		     "modprobe tun; or `hook: xdp`");
	doctor_tried(list, "TCP_REPAIR", repair_probe(),
		     relay_only    ? FINDINGS_OK
		     : splice_only ? FINDINGS_PROBLEM
				   : FINDINGS_NOTE,
		     relay_only ? "permitted; this configuration does not use it"
				: "permitted: connections can be handed to the kernel",
		     splice_only ? "not permitted, and with `relay: splice` every connection is refused"
				 : "not permitted: every connection is relayed in user space",
		     "CAP_NET_ADMIN in the network namespace's user namespace");
}

static void doctor_uring(json_t *list)
{
	bool defer_taskrun, recv_bundle;
	int err = probe_uring(&defer_taskrun, &recv_bundle);

	doctor_tried(list, "io_uring", err, FINDINGS_PREVENTS, "available", "not available",
		     "sysctl -w kernel.io_uring_disabled=0; in a container, a seccomp profile that permits it");
	if (err)
		return;
	doctor_tried(list, "io_uring buffer rings", probe_buffer_ring(), FINDINGS_PREVENTS, "available",
		     "not available", "kernel 5.19 or newer");
	findings_add(list, defer_taskrun ? FINDINGS_OK : FINDINGS_NOTE, "io_uring deferred work",
		     defer_taskrun ? NULL : "kernel 6.1 or newer", "%s",
		     defer_taskrun ? "available" : "not available: more wake-ups");
	findings_add(list, recv_bundle ? FINDINGS_OK : FINDINGS_NOTE, "io_uring receive bundles",
		     recv_bundle ? NULL : "kernel 6.10 or newer", "%s",
		     recv_bundle ? "available" : "not available: recvmsg is used, relayed downloads are slower");
}

static void doctor_simd(json_t *list, const struct config *config)
{
	const struct csum_variant *variants;
	size_t count = csum_variants(&variants);
	bool wanted = !config || config->performance.enable_simd;

	if (count > 1 || !wanted)
		findings_add(list, FINDINGS_OK, "checksums", NULL, "%s", variants[wanted ? count - 1 : 0].name);
	else
		findings_add(list, FINDINGS_NOTE, "checksums", NULL,
			     "%s: there is no vector routine for this processor", variants[0].name);
}

/* --- memory and limits --- */

/* The frames of the packet memory: larger ones when an interface needs them. */
static uint32_t doctor_frame_bytes(const struct config *config)
{
	uint32_t frame_bytes = 2048;
	struct topo_interface topo;

	for (uint32_t i = 0; config && i < config->interface_count; i++)
		if (!topo_read_interface(config->interfaces[i].name, &topo) && umem_frame_bytes_for(topo.mtu) != 2048)
			frame_bytes = 4096;
	return frame_bytes;
}

static void doctor_huge_pages(json_t *list, const struct config *config)
{
	uint64_t frames = config ? config->performance.memory_pool_size : 32768;
	uint64_t bytes = frames * doctor_frame_bytes(config);
	uint32_t wanted = (uint32_t)((bytes + DOCTOR_HUGE_PAGE_BYTES - 1) / DOCTOR_HUGE_PAGE_BYTES);
	uint32_t pages = probe_free_huge_pages();
	char remedy[64];

	snprintf(remedy, sizeof(remedy), "sysctl -w vm.nr_hugepages=%u", wanted);
	findings_add(list, pages >= wanted ? FINDINGS_OK : FINDINGS_NOTE, "huge pages", pages >= wanted ? NULL : remedy,
		     "%u of 2 MB free, %u hold the packet memory%s", pages, wanted,
		     pages >= wanted ? "" : ": normal pages are used, relaying is a little slower");
}

static void doctor_numa(json_t *list, const struct config *config)
{
	int nodes = numa_available() < 0 ? 1 : numa_max_node() + 1, first = -1;
	struct topo_interface topo;

	for (uint32_t i = 0; config && i < config->interface_count; i++) {
		if (topo_read_interface(config->interfaces[i].name, &topo) || topo.numa_node < 0)
			continue;
		if (first >= 0 && topo.numa_node != first) {
			findings_add(
				list, FINDINGS_NOTE, "NUMA",
				"put the cards on one node, or run a daemon for each interface",
				"interfaces are on nodes %d and %d: packets of one cross to the memory of the other",
				first, topo.numa_node);
			return;
		}
		first = topo.numa_node;
	}
	findings_add(list, FINDINGS_OK, "NUMA", NULL,
		     nodes > 1 ? "%d nodes; packet memory is on that of the first "
				 "interface"
			       : "%d node",
		     nodes);
}

static void doctor_limits(json_t *list)
{
	const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
	uint64_t descriptors = probe_descriptor_limit();
	struct rlimit locked;

	findings_add(list, descriptors >= DOCTOR_FEW_DESCRIPTORS ? FINDINGS_OK : FINDINGS_NOTE, "RLIMIT_NOFILE",
		     descriptors >= DOCTOR_FEW_DESCRIPTORS ? NULL : "LimitNOFILE=1048576 in the unit, or ulimit -Hn",
		     "%llu: so many relayed connections at once, less a few (spliced ones need none)",
		     (unsigned long long)descriptors);
	/* the daemon does the same; it counts for this process only */
	if (!setrlimit(RLIMIT_MEMLOCK, &unlimited))
		findings_add(list, FINDINGS_OK, "RLIMIT_MEMLOCK", NULL, "unlimited, or can be made so");
	else if (!getrlimit(RLIMIT_MEMLOCK, &locked))
		findings_add(list, FINDINGS_NOTE, "RLIMIT_MEMLOCK",
			     "LimitMEMLOCK=infinity in the unit, or CAP_SYS_RESOURCE, or CAP_IPC_LOCK",
			     "%llu bytes and cannot be raised: packet memory and io_uring may need more",
			     (unsigned long long)locked.rlim_max);
}

static void doctor_bpffs(json_t *list, const struct config *config)
{
	const char *directory = config ? config->bpf_pin : "/sys/fs/bpf/socksplice";
	bool will_mount;
	int err = pin_probe(directory, &will_mount);

	if (!err)
		findings_add(list, FINDINGS_OK, "bpf-pin", NULL, "%s is on a bpffs", directory);
	else if (will_mount)
		findings_add(list, FINDINGS_OK, "bpf-pin", NULL, "no bpffs at /sys/fs/bpf; `run` mounts it");
	else
		findings_add(list, FINDINGS_PREVENTS, "bpf-pin",
			     "mount -t bpf bpf /sys/fs/bpf, and a directory below it as `bpf-pin`",
			     "%s is not on a bpffs (%s)", directory, strerror(-err));
}

json_t *doctor_machine(const struct config *config, const struct doctor_needs *needs)
{
	json_t *list = json_array();

	doctor_kernel(list);
	doctor_bpf(list, config, needs);
	doctor_uring(list);
	doctor_huge_pages(list, config);
	doctor_numa(list, config);
	doctor_simd(list, config);
	doctor_limits(list);
	doctor_bpffs(list, config);
	return list;
}
