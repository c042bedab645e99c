/* SPDX-License-Identifier: MIT */
#include "doctor.h"

#include <jansson.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "bpfload.h"
#include "probe.h"
#include "repair.h"
#include "topo.h"
#include "umem.h"

#define DOCTOR_TEXT_BYTES 256

/* One finding: `need` findings that fail mean that the gateway cannot run. */
static bool doctor_note(json_t *list, const char *what, bool good, bool need, const char *text)
{
	json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "what", what, "verdict",
					      good   ? "ok"
					      : need ? "missing"
						     : "fallback",
					      "text", text));
	return good || !need;
}

static bool doctor_check(json_t *list, const char *what, int err, bool need, const char *good, const char *bad)
{
	char text[DOCTOR_TEXT_BYTES];

	if (err)
		snprintf(text, sizeof(text), "%s (%s)", bad, strerror(-err));
	else
		snprintf(text, sizeof(text), "%s", good);
	return doctor_note(list, what, !err, need, text);
}

static bool doctor_machine(json_t *list)
{
	bool defer_taskrun, recv_bundle, fine;
	char text[DOCTOR_TEXT_BYTES];
	uint32_t pages = probe_free_huge_pages();
	struct utsname kernel;
	int err;

	uname(&kernel);
	doctor_note(list, "kernel", true, false, kernel.release);
	fine = doctor_check(list, "BPF programs", probe_bpf_program(), true, "the XDP and tc programs load",
			    "the XDP and tc programs do not load; root, or CAP_BPF and CAP_NET_ADMIN, is needed");
	fine &= doctor_check(list, "AF_XDP", probe_af_xdp(), true, "sockets can be made",
			     "no AF_XDP sockets; CONFIG_XDP_SOCKETS and CAP_NET_RAW are needed");
	err = probe_uring(&defer_taskrun, &recv_bundle);
	fine &= doctor_check(list, "io_uring", err, true, "available",
			     "not available; see the sysctl kernel.io_uring_disabled");
	if (!err) {
		fine &= doctor_check(list, "io_uring buffer rings", probe_buffer_ring(), true, "available",
				     "not available; kernel 5.19 or newer is needed");
		doctor_note(list, "io_uring deferred work", defer_taskrun, false,
			    defer_taskrun ? "available" : "not before kernel 6.1: more wake-ups");
		doctor_note(list, "io_uring receive bundles", recv_bundle, false,
			    recv_bundle ? "available" : "not before kernel 6.10: recvmsg is used, slower downloads");
	}
	doctor_check(list, "TCP_REPAIR", repair_probe(), false, "permitted: connections can be handed to the kernel",
		     "not permitted, CAP_NET_ADMIN is needed: every connection is relayed in user space");
	doctor_check(list, "TAP", probe_tun(), false,
		     "/dev/net/tun is there: virtual interfaces keep their large packets",
		     "no /dev/net/tun; virtual interfaces need `hook: xdp`");
	doctor_check(list, "tcx", probe_tcx(), false, "tc programs are attached by links",
		     "not before kernel 6.6: tc programs are attached as clsact filters");
	doctor_check(list, "BTF", probe_btf(), false, "/sys/kernel/btf/vmlinux is there",
		     "no BTF; this build does not need it");
	snprintf(text, sizeof(text), "%u free of 2 MB%s", pages,
		 pages < 32 ? "; 32 or more serve the packet memory better: sysctl vm.nr_hugepages=64" : "");
	doctor_note(list, "huge pages", pages >= 32, false, text);
	doctor_note(list, "bpffs", probe_bpffs_mounted(), false,
		    probe_bpffs_mounted() ? "mounted at /sys/fs/bpf"
					  : "not mounted at /sys/fs/bpf; `run` mounts it, so that spliced "
					    "connections outlive the daemon");
	snprintf(text, sizeof(text), "%llu: so many connections at once, less a few",
		 (unsigned long long)probe_descriptor_limit());
	doctor_note(list, "descriptors", probe_descriptor_limit() >= 4096, false, text);
	return fine;
}

/* The path that `hook: auto` and `xsk: auto` take on this interface. */
static const char *doctor_path(const struct topo_interface *topo, const char **why)
{
	if (topo_prefers_tc(topo)) {
		*why = "a virtual device: its packets come from local senders as 64 KB with a partial checksum. tc "
		       "takes "
		       "them whole; native XDP (hook: xdp) would turn the peer's segmentation offload off";
		return "hook tc: spliced by tc, packets for user space by a TAP device";
	}
	if (!umem_frame_bytes_for(topo->mtu)) {
		*why = "the MTU is too large for single-buffer XDP; lower it to 3822 or less, or use `hook: tc`";
		return "none";
	}
	*why = "a hardware driver: zero-copy is tried first, then copy, then generic XDP; `status` tells the result";
	return "hook xdp: spliced by XDP, packets for user space by AF_XDP, zero-copy where the driver has it";
}

static bool doctor_interface(json_t *list, const char *name)
{
	static const char *const modes[] = {"none", "native", "generic"};
	struct topo_interface topo;
	const char *path, *why;
	int err = topo_read_interface(name, &topo);

	if (err) {
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:s}", "name", name, "path", "none", "why", strerror(-err)));
		return false;
	}
	path = doctor_path(&topo, &why);
	json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:i, s:i, s:i, s:i, s:s, s:s, s:s}", "name", topo.name,
					      "driver", topo.driver[0] ? topo.driver : "unknown", "up", topo.up, "mtu",
					      (int)topo.mtu, "rx_queues", (int)topo.rx_queues, "tx_queues",
					      (int)topo.tx_queues, "numa_node", topo.numa_node, "xdp_attached",
					      modes[bpfload_mode(topo.ifindex)], "path", path, "why", why));
	return strcmp(path, "none");
}

static bool doctor_interfaces(json_t *list, const struct config *config)
{
	struct if_nameindex *all, *entry;
	bool fine = true;

	for (uint32_t i = 0; config && i < config->interface_count; i++)
		fine &= doctor_interface(list, config->interfaces[i].name);
	if (config)
		return fine;
	all = if_nameindex();
	for (entry = all; entry && entry->if_index; entry++)
		if (strcmp(entry->if_name, "lo"))
			doctor_interface(list, entry->if_name);
	if_freenameindex(all);
	return true;
}

static void doctor_print(const json_t *report)
{
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(report, "machine"), i, item) printf(
		"%-9s %-26s %s\n", json_string_value(json_object_get(item, "verdict")),
		json_string_value(json_object_get(item, "what")), json_string_value(json_object_get(item, "text")));
	json_array_foreach(json_object_get(report, "interfaces"), i, item)
	{
		printf("interface %s: %s\n", json_string_value(json_object_get(item, "name")),
		       json_string_value(json_object_get(item, "path")));
		printf("          %s\n", json_string_value(json_object_get(item, "why")));
		if (json_object_get(item, "driver"))
			printf("          driver %s, %s, MTU %d, %d receive queue(s), XDP attached now: %s\n",
			       json_string_value(json_object_get(item, "driver")),
			       json_is_true(json_object_get(item, "up")) ? "up" : "down",
			       (int)json_integer_value(json_object_get(item, "mtu")),
			       (int)json_integer_value(json_object_get(item, "rx_queues")),
			       json_string_value(json_object_get(item, "xdp_attached")));
	}
	printf("%s\n", json_is_true(json_object_get(report, "can_run")) ? "The gateway can run here."
									: "The gateway cannot run here; see above.");
}

int doctor_run(const struct config *config, bool as_json)
{
	json_t *machine = json_array(), *interfaces = json_array(), *report;
	bool fine = doctor_machine(machine);

	fine &= doctor_interfaces(interfaces, config);
	report = json_pack("{s:o, s:o, s:b}", "machine", machine, "interfaces", interfaces, "can_run", fine);
	if (as_json) {
		json_dumpf(report, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		doctor_print(report);
	}
	json_decref(report);
	return fine ? 0 : 1;
}
