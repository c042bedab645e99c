/* SPDX-License-Identifier: MIT */
#include "attached.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bpfload_priv.h"
#include "compat.h"

/* What a filter's attributes tell; of another kind than bpf (u32, flower) the options mean something else. */
struct attached_filter {
	bool is_bpf;
	uint32_t id;
};

/* The names of our programs begin so; bpf/socksplice_xdp.bpf.c, bpf/socksplice_tc.bpf.c. */
#define ATTACHED_OWN_PREFIX "socksplice"

struct attached_collector {
	struct attached_program *out;
	uint32_t count;
	enum attached_where where;
};

const char *attached_where_name(enum attached_where where)
{
	static const char *const names[] = {[ATTACHED_XDP] = "XDP",
					    [ATTACHED_TCX_INGRESS] = "tcx ingress",
					    [ATTACHED_TCX_EGRESS] = "tcx egress",
					    [ATTACHED_CLSACT_INGRESS] = "clsact ingress",
					    [ATTACHED_CLSACT_EGRESS] = "clsact egress"};

	return names[where];
}

static void attached_add(struct attached_collector *collector, uint32_t id, uint16_t priority)
{
	struct attached_program *program;
	struct bpf_prog_info info;
	int fd;

	if (collector->count == ATTACHED_MAX)
		return;
	program = &collector->out[collector->count++];
	*program = (struct attached_program){.where = collector->where, .id = id, .priority = priority, .name = "?"};
	fd = bpfload_program_info(id, &info, NULL, 0);
	if (fd < 0)
		return;
	close(fd);
	memcpy(program->name, info.name, sizeof(program->name) - 1);
	program->ours = !strncmp(program->name, ATTACHED_OWN_PREFIX, sizeof(ATTACHED_OWN_PREFIX) - 1);
}

/* Kernels before 6.6 do not know the attach type: no tcx, no programs there. */
static void attached_add_tcx(struct attached_collector *collector, int ifindex, int type)
{
	uint32_t ids[ATTACHED_MAX];
	LIBBPF_OPTS(bpf_prog_query_opts, query, .prog_ids = ids, .prog_cnt = ATTACHED_MAX);

	if (bpf_prog_query_opts(ifindex, (enum bpf_attach_type)type, &query))
		return;
	for (uint32_t i = 0; i < query.prog_cnt; i++)
		attached_add(collector, ids[i], 0);
}

static int attached_on_option(const struct nlattr *attr, void *ctx)
{
	uint32_t *id = ctx;

	if (mnl_attr_get_type(attr) == TCA_BPF_ID && mnl_attr_get_payload_len(attr) == sizeof(*id))
		*id = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static int attached_on_attr(const struct nlattr *attr, void *ctx)
{
	struct attached_filter *found = ctx;

	if (mnl_attr_get_type(attr) == TCA_KIND)
		found->is_bpf = !strcmp(mnl_attr_get_str(attr), "bpf");
	else if (mnl_attr_get_type(attr) == TCA_OPTIONS && found->is_bpf)
		mnl_attr_parse_nested(attr, attached_on_option, &found->id);
	return MNL_CB_OK;
}

static int attached_on_filter(const struct nlmsghdr *nlh, void *ctx)
{
	const struct tcmsg *tc = mnl_nlmsg_get_payload(nlh);
	struct attached_filter found = {0};

	mnl_attr_parse(nlh, sizeof(*tc), attached_on_attr, &found);
	if (found.id)
		attached_add(ctx, found.id, (uint16_t)(TC_H_MAJ(tc->tcm_info) >> 16));
	return MNL_CB_OK;
}

static int attached_add_clsact(struct attached_collector *collector, struct mnl_socket *socket, int ifindex,
			       uint32_t parent)
{
	char buffer[16384];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct tcmsg *tc;
	int got;

	nlh->nlmsg_type = RTM_GETTFILTER;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = parent;
	tc = mnl_nlmsg_put_extra_header(nlh, sizeof(*tc));
	tc->tcm_ifindex = ifindex;
	tc->tcm_parent = parent;
	if (mnl_socket_sendto(socket, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	do {
		got = (int)mnl_socket_recvfrom(socket, buffer, sizeof(buffer));
		if (got < 0)
			return -errno;
		got = mnl_cb_run(buffer, (size_t)got, parent, mnl_socket_get_portid(socket), attached_on_filter,
				 collector);
	} while (got > MNL_CB_STOP);
	/* no clsact there: nothing, and no error */
	return got < 0 && errno != EINVAL && errno != ENOENT ? -errno : 0;
}

int attached_list(int ifindex, struct attached_program out[ATTACHED_MAX])
{
	struct attached_collector collector = {.out = out};
	struct mnl_socket *socket;
	enum xdp_mode mode;
	uint32_t id = bpfload_attached_id(ifindex, &mode);
	int err;

	collector.where = ATTACHED_XDP;
	if (id)
		attached_add(&collector, id, 0);
	collector.where = ATTACHED_TCX_INGRESS;
	attached_add_tcx(&collector, ifindex, BPF_TCX_INGRESS_ATTACH);
	collector.where = ATTACHED_TCX_EGRESS;
	attached_add_tcx(&collector, ifindex, BPF_TCX_EGRESS_ATTACH);
	socket = mnl_socket_open(NETLINK_ROUTE);
	if (!socket)
		return -errno;
	err = mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) ? -errno : 0;
	collector.where = ATTACHED_CLSACT_INGRESS;
	if (!err)
		err = attached_add_clsact(&collector, socket, ifindex, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS));
	collector.where = ATTACHED_CLSACT_EGRESS;
	if (!err)
		err = attached_add_clsact(&collector, socket, ifindex, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS));
	mnl_socket_close(socket);
	return err ? err : (int)collector.count;
}
