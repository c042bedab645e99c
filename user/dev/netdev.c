/* SPDX-License-Identifier: MIT */
#include "netdev.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <string.h>

/* linux/netdev.h, which Debian 12's headers have not got */
#define NETDEV_GENL_NAME "netdev"
#define NETDEV_GENL_VERSION 1
#define NETDEV_CMD_GET_DEVICE 1
#define NETDEV_ATTR_IFINDEX 1
#define NETDEV_ATTR_XDP_FEATURES 3

struct netdev_wanted {
	uint16_t attr;
	uint64_t value;
	int found;
};

static int netdev_on_attr(const struct nlattr *attr, void *ctx)
{
	struct netdev_wanted *wanted = ctx;
	size_t bytes = mnl_attr_get_payload_len(attr);

	if (mnl_attr_get_type(attr) != wanted->attr || bytes > sizeof(wanted->value))
		return MNL_CB_OK;
	wanted->value = 0;
	if (bytes == sizeof(uint16_t))
		wanted->value = mnl_attr_get_u16(attr);
	else if (bytes == sizeof(uint64_t))
		memcpy(&wanted->value, mnl_attr_get_payload(attr), sizeof(wanted->value));
	wanted->found = 1;
	return MNL_CB_OK;
}

static int netdev_on_message(const struct nlmsghdr *nlh, void *ctx)
{
	mnl_attr_parse(nlh, sizeof(struct genlmsghdr), netdev_on_attr, ctx);
	return MNL_CB_OK;
}

/* Sends a request that was put into `buffer` and reads one attribute of the answer. */
static int netdev_ask(struct mnl_socket *socket, struct nlmsghdr *nlh, char *buffer, size_t buffer_bytes,
		      struct netdev_wanted *wanted)
{
	uint32_t seq = nlh->nlmsg_seq;
	int got;

	if (mnl_socket_sendto(socket, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	do {
		got = (int)mnl_socket_recvfrom(socket, buffer, buffer_bytes);
		if (got < 0)
			return -errno;
		got = mnl_cb_run(buffer, (size_t)got, seq, mnl_socket_get_portid(socket), netdev_on_message, wanted);
	} while (got > MNL_CB_STOP);
	if (got < 0)
		return -errno;
	return wanted->found ? 0 : -ENODATA;
}

static struct nlmsghdr *netdev_request(char *buffer, uint16_t family, uint8_t command, uint8_t version)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct genlmsghdr *genl = mnl_nlmsg_put_extra_header(nlh, sizeof(*genl));

	nlh->nlmsg_type = family;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	nlh->nlmsg_seq = command + 1u;
	genl->cmd = command;
	genl->version = version;
	return nlh;
}

int netdev_xdp_features(int ifindex, uint64_t *features)
{
	struct netdev_wanted family = {.attr = CTRL_ATTR_FAMILY_ID}, wanted = {.attr = NETDEV_ATTR_XDP_FEATURES};
	struct mnl_socket *socket = mnl_socket_open(NETLINK_GENERIC);
	char buffer[16384];
	struct nlmsghdr *nlh;
	int err;

	if (!socket)
		return -errno;
	err = mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) ? -errno : 0;
	if (!err) {
		nlh = netdev_request(buffer, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
		mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, NETDEV_GENL_NAME);
		err = netdev_ask(socket, nlh, buffer, sizeof(buffer), &family);
	}
	if (!err) {
		nlh = netdev_request(buffer, (uint16_t)family.value, NETDEV_CMD_GET_DEVICE, NETDEV_GENL_VERSION);
		mnl_attr_put_u32(nlh, NETDEV_ATTR_IFINDEX, (uint32_t)ifindex);
		err = netdev_ask(socket, nlh, buffer, sizeof(buffer), &wanted);
	}
	mnl_socket_close(socket);
	*features = err ? 0 : wanted.value;
	return err;
}
