/* SPDX-License-Identifier: MIT */
/*
 * Questions to the kernel's routing and neighbour tables by rtnetlink(7).
 *
 * Each question has a socket of its own, opened in the network namespace of the moment: questions are asked at the
 * start and after a change, not for packets, and a socket that lives for one answer cannot get out of step with its
 * sequence numbers. The kernel answers within send(), so the receive that follows does not wait.
 *
 * The monitor is a plain descriptor, for a loop that polls it. It says that something changed and not what: the reader
 * asks again, which is right even when messages were lost.
 */
#include "route.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUTE_REQUEST_BYTES 256
#define ROUTE_ANSWER_BYTES 32768  /* the kernel fills dumps up to this much */
#define ROUTE_MONITOR_BYTES 16384 /* a link's message is the longest; a longer one counts as lost */
#define ROUTE_LOOPBACK_IFINDEX 1  /* lo of every namespace: net/core/dev.c insists on it */
#define ROUTE_SEQUENCE 1
#define ROUTE_NEIGHBOUR_VALID (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP)

/* --- asking ---------------------------------------------------------------- */

static struct nlmsghdr *route_request(void *buffer, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);

	request->nlmsg_type = type;
	request->nlmsg_flags = NLM_F_REQUEST | flags;
	request->nlmsg_seq = ROUTE_SEQUENCE;
	return request;
}

static uint8_t route_family(const struct addr *addr)
{
	return addr_is_ipv4(addr) ? AF_INET : AF_INET6;
}

static void route_put_addr(struct nlmsghdr *request, uint16_t type, const struct addr *addr)
{
	if (addr_is_ipv4(addr))
		mnl_attr_put(request, type, sizeof(addr->words[3]), &addr->words[3]);
	else
		mnl_attr_put(request, type, sizeof(addr->bytes), addr->bytes);
}

/* Hands the answers to `parse`, which returns MNL_CB_STOP when it has seen enough; 0 or -errno, the kernel's included.
 */
static int route_receive(struct mnl_socket *nl, mnl_cb_t parse, void *ctx)
{
	char buffer[ROUTE_ANSWER_BYTES];
	int more;

	do {
		ssize_t len = mnl_socket_recvfrom(nl, buffer, sizeof(buffer));

		if (len < 0)
			return -errno;
		more = mnl_cb_run(buffer, (size_t)len, ROUTE_SEQUENCE, mnl_socket_get_portid(nl), parse, ctx);
		if (more < 0)
			return -errno;
	} while (more > MNL_CB_STOP);
	return 0;
}

static int route_ask(const struct nlmsghdr *request, mnl_cb_t parse, void *ctx)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	int err;

	if (!nl)
		return -errno;
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) || mnl_socket_sendto(nl, request, request->nlmsg_len) < 0)
		err = -errno;
	else
		err = route_receive(nl, parse, ctx);
	mnl_socket_close(nl);
	return err;
}

/* --- answers --------------------------------------------------------------- */

static bool route_read_addr(const void *bytes, size_t len, struct addr *out)
{
	__be32 ip;

	if (len == sizeof(ip)) {
		memcpy(&ip, bytes, sizeof(ip));
		*out = addr_from_ipv4(ip);
	} else if (len == sizeof(out->bytes)) {
		memcpy(out->bytes, bytes, sizeof(out->bytes));
	} else {
		return false;
	}
	return true;
}

static bool route_read_attr_addr(const struct nlattr *attr, struct addr *out)
{
	return route_read_addr(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr), out);
}

static bool route_read_u32(const struct nlattr *attr, uint32_t *out)
{
	if (mnl_attr_validate(attr, MNL_TYPE_U32) < 0)
		return false;
	*out = mnl_attr_get_u32(attr);
	return true;
}

static int route_parse_metric(const struct nlattr *attr, void *ctx)
{
	struct route *out = ctx;

	if (mnl_attr_get_type(attr) == RTAX_MTU)
		route_read_u32(attr, &out->mtu);
	return MNL_CB_OK;
}

static int route_parse_route_attr(const struct nlattr *attr, void *ctx)
{
	size_t len = mnl_attr_get_payload_len(attr);
	const struct rtvia *via;
	struct route *out = ctx;
	uint32_t ifindex;

	switch (mnl_attr_get_type(attr)) {
	case RTA_OIF:
		if (route_read_u32(attr, &ifindex))
			out->ifindex = (int)ifindex;
		break;
	case RTA_GATEWAY:
		out->has_gateway = route_read_attr_addr(attr, &out->gateway);
		break;
	case RTA_VIA:
		via = mnl_attr_get_payload(attr);
		if (len > sizeof(*via))
			out->has_gateway = route_read_addr(via->rtvia_addr, len - sizeof(*via), &out->gateway);
		break;
	case RTA_PREFSRC:
		route_read_attr_addr(attr, &out->source);
		break;
	case RTA_METRICS:
		mnl_attr_parse_nested(attr, route_parse_metric, out);
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

/* A failing type mostly comes as an error message instead; as an answer it is the same to the caller. */
static int route_type_error(uint8_t type)
{
	switch (type) {
	case RTN_UNICAST:
	case RTN_LOCAL:
		return 0;
	case RTN_UNREACHABLE:
		return EHOSTUNREACH;
	case RTN_BLACKHOLE:
		return EINVAL;
	case RTN_PROHIBIT:
	case RTN_BROADCAST: /* what connect() says to these two */
	case RTN_MULTICAST:
		return EACCES;
	default:
		return ENETUNREACH;
	}
}

static int route_parse_route(const struct nlmsghdr *answer, void *ctx)
{
	const struct rtmsg *rt = mnl_nlmsg_get_payload(answer);
	struct route *out = ctx;

	if (answer->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(answer) < sizeof(*rt))
		return MNL_CB_OK;
	errno = route_type_error(rt->rtm_type);
	if (errno)
		return MNL_CB_ERROR;
	mnl_attr_parse(answer, sizeof(*rt), route_parse_route_attr, out);
	out->local = rt->rtm_type == RTN_LOCAL || out->ifindex == ROUTE_LOOPBACK_IFINDEX;
	return MNL_CB_STOP;
}

int route_lookup(const struct addr *dst, const struct addr *src, uint32_t mark, int oif, struct route *out)
{
	char buffer[ROUTE_REQUEST_BYTES];
	struct nlmsghdr *request = route_request(buffer, RTM_GETROUTE, 0);
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(request, sizeof(*rt));
	uint8_t bits = addr_is_ipv4(dst) ? 32 : 128;
	int err;

	if (src && route_family(src) != route_family(dst))
		return -EINVAL;
	rt->rtm_family = route_family(dst);
	rt->rtm_dst_len = bits;
	route_put_addr(request, RTA_DST, dst);
	if (src) {
		rt->rtm_src_len = bits;
		route_put_addr(request, RTA_SRC, src);
	}
	if (mark)
		mnl_attr_put_u32(request, RTA_MARK, mark);
	if (oif)
		mnl_attr_put_u32(request, RTA_OIF, (uint32_t)oif);
	memset(out, 0, sizeof(*out));
	err = route_ask(request, route_parse_route, out);
	/* a source that was given is not repeated by IPv4, and IPv6 tells what it would have chosen */
	if (!err && src)
		out->source = *src;
	return err;
}

/* --- neighbours ------------------------------------------------------------ */

struct route_neighbour_search {
	int ifindex;
	struct addr addr;
	struct neighbour *out;
	bool found;
};

struct route_neighbour_attrs {
	struct addr addr;
	const uint8_t *mac;
};

static int route_parse_neighbour_attr(const struct nlattr *attr, void *ctx)
{
	struct route_neighbour_attrs *attrs = ctx;

	if (mnl_attr_get_type(attr) == NDA_DST)
		route_read_attr_addr(attr, &attrs->addr);
	/* other lengths are not Ethernet */
	if (mnl_attr_get_type(attr) == NDA_LLADDR && mnl_attr_get_payload_len(attr) == 6)
		attrs->mac = mnl_attr_get_payload(attr);
	return MNL_CB_OK;
}

/* For the one entry asked for and for a dump alike: takes the entry that was searched, passes over the others. */
static int route_parse_neighbour(const struct nlmsghdr *answer, void *ctx)
{
	const struct ndmsg *nd = mnl_nlmsg_get_payload(answer);
	struct route_neighbour_search *search = ctx;
	struct route_neighbour_attrs attrs = {0};

	if (answer->nlmsg_type != RTM_NEWNEIGH || mnl_nlmsg_get_payload_len(answer) < sizeof(*nd) ||
	    nd->ndm_ifindex != search->ifindex)
		return MNL_CB_OK;
	mnl_attr_parse(answer, sizeof(*nd), route_parse_neighbour_attr, &attrs);
	if (!addr_equal(&attrs.addr, &search->addr))
		return MNL_CB_OK;
	search->found = true;
	if (attrs.mac)
		memcpy(search->out->mac, attrs.mac, sizeof(search->out->mac));
	search->out->valid = attrs.mac && (nd->ndm_state & ROUTE_NEIGHBOUR_VALID);
	return MNL_CB_STOP;
}

static int route_ask_neighbour(struct route_neighbour_search *search, bool dump)
{
	char buffer[ROUTE_REQUEST_BYTES];
	struct nlmsghdr *request = route_request(buffer, RTM_GETNEIGH, dump ? NLM_F_DUMP : 0);
	struct ndmsg *nd = mnl_nlmsg_put_extra_header(request, sizeof(*nd));

	nd->ndm_family = route_family(&search->addr);
	if (dump) {
		mnl_attr_put_u32(request, NDA_IFINDEX, (uint32_t)search->ifindex);
	} else {
		nd->ndm_ifindex = search->ifindex;
		route_put_addr(request, NDA_DST, &search->addr);
	}
	return route_ask(request, route_parse_neighbour, search);
}

int route_neighbour(int ifindex, const struct addr *addr, struct neighbour *out)
{
	struct route_neighbour_search search = {.ifindex = ifindex, .addr = *addr, .out = out};
	int err;

	memset(out, 0, sizeof(*out));
	err = route_ask_neighbour(&search, false);
	/* kernels before 5.0 know only the dump */
	if (err == -EOPNOTSUPP || err == -EINVAL)
		err = route_ask_neighbour(&search, true);
	if (err)
		return err;
	return search.found ? 0 : -ENOENT;
}

/* --- changes --------------------------------------------------------------- */

int route_open_monitor(void)
{
	static const int groups[] = {RTNLGRP_LINK,       RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
				     RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,  RTNLGRP_NEIGH};
	struct sockaddr_nl address = {.nl_family = AF_NETLINK};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE), err;

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)))
		goto fail;
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i], sizeof(groups[i])))
			goto fail;
	return fd;
fail:
	err = -errno;
	close(fd);
	return err;
}

static bool route_neighbour_has_mac(const struct nlmsghdr *message)
{
	const struct ndmsg *nd = mnl_nlmsg_get_payload(message);
	struct route_neighbour_attrs attrs = {0};

	/* bridges report their forwarding tables (AF_BRIDGE) to the same group */
	if (mnl_nlmsg_get_payload_len(message) < sizeof(*nd) ||
	    (nd->ndm_family != AF_INET && nd->ndm_family != AF_INET6))
		return false;
	if (message->nlmsg_type == RTM_DELNEIGH)
		return true;
	mnl_attr_parse(message, sizeof(*nd), route_parse_neighbour_attr, &attrs);
	return attrs.mac;
}

static void route_note_change(const struct nlmsghdr *message, struct route_changes *out)
{
	switch (message->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		out->links = true;
		break;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		out->addresses = true;
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		out->routes = true;
		break;
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		if (route_neighbour_has_mac(message))
			out->neighbours = true;
		break;
	default:
		break;
	}
}

void route_drain_monitor(int fd, struct route_changes *out)
{
	static const struct route_changes everything = {true, true, true, true};
	union {
		struct nlmsghdr header; /* for its alignment */
		char bytes[ROUTE_MONITOR_BYTES];
	} buffer;

	memset(out, 0, sizeof(*out));
	for (;;) {
		/* MSG_TRUNC: the length of the whole message, also of the part that found no room */
		ssize_t len = recv(fd, &buffer, sizeof(buffer), MSG_TRUNC);
		int left = (int)len;

		if (len < 0 && errno != ENOBUFS)
			return;
		if (len < 0 || (size_t)len > sizeof(buffer)) {
			*out = everything;
			continue; /* the next read goes on behind the gap */
		}
		for (const struct nlmsghdr *message = &buffer.header; mnl_nlmsg_ok(message, left);
		     message = mnl_nlmsg_next(message, &left))
			route_note_change(message, out);
	}
}
