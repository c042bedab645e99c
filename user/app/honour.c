/* SPDX-License-Identifier: MIT */
#include "honour.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "attached.h"
#include "csum.h"
#include "hook.h"
#include "log.h"
#include "netdev.h"
#include "pin.h"
#include "probe.h"
#include "repair.h"
#include "topo.h"

#define HONOUR_MAX_ADDRS 1024

static struct honour_report honour_report;

struct honour_search {
	const struct config *config;
	const struct config_marks *marks;
	struct honour_report *out;
};

/* Where the file sets `key` of that mapping or list element; NULL: it does not. */
static const struct config_mark *honour_mark(const struct honour_search *search, const char *key, const void *base)
{
	return config_marks_find(search->marks, key, (size_t)((const char *)base - (const char *)search->config));
}

__attribute__((format(printf, 4, 5))) static void
honour_lack(const struct honour_search *search, const struct config_mark *mark, bool prevents, const char *fmt, ...)
{
	struct honour_lack *lack;
	va_list args;

	if (search->out->count == HONOUR_MAX)
		return;
	lack = &search->out->lacks[search->out->count++];
	lack->line = mark->line;
	lack->column = mark->column;
	lack->prevents = prevents;
	va_start(args, fmt);
	vsnprintf(lack->text, sizeof(lack->text), fmt, args);
	va_end(args);
}

/* --- what the daemon starts without --- */

static void honour_splicing(const struct honour_search *search)
{
	const struct config *config = search->config;
	const struct config_mark *ebpf = honour_mark(search, "enable_ebpf", &config->performance);
	const struct config_mark *relay = honour_mark(search, "relay", &config->tcp);
	bool wanted = ebpf && config->performance.enable_ebpf && config->tcp.relay != CONFIG_RELAY_USERSPACE;
	bool only = relay && config->tcp.relay == CONFIG_RELAY_SPLICE;
	int err = wanted || only ? repair_probe() : 0;

	if (err && wanted)
		honour_lack(search, ebpf, false,
			    "enable_ebpf: true: TCP_REPAIR is not permitted (%s), so every connection is relayed in "
			    "user space",
			    strerror(-err));
	if (err && only)
		honour_lack(search, relay, false,
			    "relay: splice: TCP_REPAIR is not permitted (%s), so every connection is refused",
			    strerror(-err));
}

static void honour_simd(const struct honour_search *search)
{
	const struct config_mark *mark = honour_mark(search, "enable_simd", &search->config->performance);
	const struct csum_variant *variants;

	if (mark && search->config->performance.enable_simd && csum_variants(&variants) < 2)
		honour_lack(search, mark, false,
			    "enable_simd: true: there is no vector routine for this processor; checksums are scalar");
}

/* --- what the daemon does not start without --- */

static void honour_programs(const struct honour_search *search)
{
	const struct config_mark *mark = honour_mark(search, "enable_ebpf", &search->config->performance);
	int err;

	if (!mark || !search->config->performance.enable_ebpf)
		return;
	err = probe_bpf_program();
	if (err)
		honour_lack(search, mark, true, "enable_ebpf: true: the BPF programs do not load (%s)", strerror(-err));
}

static void honour_uring(const struct honour_search *search)
{
	const struct config_mark *mark = honour_mark(search, "enable_io_uring", &search->config->performance);
	bool defer_taskrun, recv_bundle;
	int err = mark ? probe_uring(&defer_taskrun, &recv_bundle) : 0;

	if (err)
		honour_lack(search, mark, true,
			    "enable_io_uring: true: io_uring is not available (%s); see the sysctl "
			    "kernel.io_uring_disabled",
			    strerror(-err));
}

static void honour_pin(const struct honour_search *search)
{
	const struct config_mark *mark = honour_mark(search, "bpf-pin", search->config);
	bool will_mount;
	int err = mark ? pin_probe(search->config->bpf_pin, &will_mount) : 0;

	if (err && !will_mount)
		honour_lack(search, mark, true, "bpf-pin: %s is not on a bpffs (%s)", search->config->bpf_pin,
			    strerror(-err));
}

static void honour_uplink(const struct honour_search *search)
{
	const struct config_mark *mark = honour_mark(search, "uplink", search->config);
	const char *name = search->config->uplink;

	if (mark && name[0] && !if_nametoindex(name))
		honour_lack(search, mark, true, "uplink: %s: %s", name, strerror(errno));
}

static void honour_sources(const struct honour_search *search, const struct config_upstream *upstream)
{
	static struct addr own[HONOUR_MAX_ADDRS];
	const struct config_mark *mark = honour_mark(search, "sources", upstream);
	int count = mark ? topo_read_local_addrs(own, HONOUR_MAX_ADDRS) : 0;

	for (uint32_t i = 0; count > 0 && i < upstream->source_count; i++) {
		const struct addr *wanted = &upstream->sources[i];
		bool ipv4 = addr_is_ipv4(wanted), found = false;
		char text[INET6_ADDRSTRLEN];

		for (int j = 0; !found && j < count; j++)
			found = addr_equal(&own[j], wanted);
		if (!found)
			honour_lack(search, mark, true, "sources: %s is no address of this machine",
				    inet_ntop(ipv4 ? AF_INET : AF_INET6, wanted->bytes + (ipv4 ? 12 : 0), text,
					      sizeof(text)));
	}
}

static void honour_hook(const struct honour_search *search, const struct config_interface *interface,
			const struct topo_interface *topo)
{
	const struct config_mark *mark = honour_mark(search, "hook", interface);
	int err = 0;

	if (!mark || interface->hook == CONFIG_HOOK_AUTO)
		return;
	if (!hook_fits_mtu(interface->hook, topo->mtu))
		honour_lack(search, mark, true, "hook: xdp: %s has an MTU of %u, and XDP can take %u", interface->name,
			    topo->mtu, hook_largest_xdp_mtu());
	err = interface->hook == CONFIG_HOOK_TC ? probe_tun() : probe_af_xdp();
	if (err)
		honour_lack(search, mark, true, "hook: %s: no %s can be made (%s)", hook_name(interface->hook),
			    interface->hook == CONFIG_HOOK_TC ? "TAP device" : "AF_XDP socket", strerror(-err));
}

static void honour_xsk(const struct honour_search *search, const struct config_interface *interface,
		       const struct topo_interface *topo)
{
	const struct config_mark *mark = honour_mark(search, "xsk", interface);
	uint64_t features;

	/* a kernel that does not tell may yet do it */
	if (!mark || netdev_xdp_features(topo->ifindex, &features) || hook_honours_xsk(interface->xsk, features))
		return;
	honour_lack(search, mark, true, "xsk: %s: the driver of %s (%s) has no %s",
		    interface->xsk == CONFIG_XSK_ZEROCOPY ? "zerocopy" : "copy", interface->name,
		    topo->driver[0] ? topo->driver : "unknown",
		    interface->xsk == CONFIG_XSK_ZEROCOPY ? "zero-copy AF_XDP" : "native XDP");
}

static void honour_attach(const struct honour_search *search, const struct config_interface *interface,
			  const struct topo_interface *topo)
{
	const struct config_mark *mark = honour_mark(search, "attach", interface);
	struct attached_program programs[ATTACHED_MAX];
	int count;

	if (!mark || interface->attach != CONFIG_ATTACH_EXTERNAL)
		return;
	count = attached_list(topo->ifindex, programs);
	for (int i = 0; i < count; i++)
		if (programs[i].where == ATTACHED_XDP && programs[i].ours)
			return;
	honour_lack(search, mark, true, "attach: external: our XDP program is not attached to %s", interface->name);
}

static void honour_interface(const struct honour_search *search, const struct config_interface *interface)
{
	const struct config_mark *mark = honour_mark(search, "name", interface);
	struct topo_interface topo;
	int err = topo_read_interface(interface->name, &topo);

	if (err && mark)
		honour_lack(search, mark, true, "name: %s: %s", interface->name, strerror(-err));
	if (err)
		return;
	honour_hook(search, interface, &topo);
	honour_xsk(search, interface, &topo);
	honour_attach(search, interface, &topo);
}

void honour_check(const struct config *config, const struct config_marks *marks, bool prevents,
		  struct honour_report *out)
{
	struct honour_search search = {.config = config, .marks = marks, .out = out};

	out->count = 0;
	honour_splicing(&search);
	honour_simd(&search);
	if (!prevents)
		return;
	for (uint32_t i = 0; i < config->interface_count; i++)
		honour_interface(&search, &config->interfaces[i]);
	honour_uplink(&search);
	honour_pin(&search);
	for (uint32_t i = 0; i < config->upstream_count; i++)
		honour_sources(&search, &config->upstreams[i]);
	honour_programs(&search);
	honour_uring(&search);
}

void honour_keep(const struct honour_report *report)
{
	honour_report = *report;
}

const struct honour_report *honour_kept(void)
{
	return &honour_report;
}

void honour_warn(void)
{
	for (uint32_t i = 0; i < honour_report.count; i++)
		log_warn("%s (line %u of the configuration)", honour_report.lacks[i].text, honour_report.lacks[i].line);
}
