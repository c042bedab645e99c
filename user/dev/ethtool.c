/* SPDX-License-Identifier: MIT */
#include "ethtool.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Linux 6.18 has 64; features of later kernels may be left out, ours are old. */
#define ETHTOOL_MAX_BLOCKS 8
#define ETHTOOL_MAX_NAMES (ETHTOOL_MAX_BLOCKS * 32)

static const struct {
	const char *name, *word;
} ethtool_known[ETHTOOL_FEATURE_COUNT] = {
#define X(id, feature, option) [ETHTOOL_##id] = {feature, option},
	ETHTOOL_FEATURES(X)
#undef X
};

const char *ethtool_feature_word(enum ethtool_feature feature)
{
	return ethtool_known[feature].word;
}

static int ethtool_ask(int fd, const char *ifname, void *command)
{
	struct ifreq ifr = {.ifr_data = command};

	memcpy(ifr.ifr_name, ifname, strnlen(ifname, IFNAMSIZ - 1));
	return ioctl(fd, SIOCETHTOOL, &ifr) ? -errno : 0;
}

/* How many names there are: the kernel writes as many as it has, whatever the caller has room for. */
static int ethtool_count_names(int fd, const char *ifname, uint32_t *count)
{
	struct {
		struct ethtool_sset_info info;
		uint32_t count;
	} ask = {.info = {.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1ull << ETH_SS_FEATURES}};
	int err = ethtool_ask(fd, ifname, &ask);

	*count = ask.count;
	if (!err && !ask.info.sset_mask)
		return -EOPNOTSUPP;
	return err || ask.count <= ETHTOOL_MAX_NAMES ? err : -E2BIG;
}

static int ethtool_read_names(int fd, const char *ifname, struct ethtool_gstrings **out)
{
	uint32_t count;
	int err = ethtool_count_names(fd, ifname, &count);
	struct ethtool_gstrings *names;

	if (err)
		return err;
	names = calloc(1, sizeof(*names) + (size_t)count * ETH_GSTRING_LEN);
	if (!names)
		return -ENOMEM;
	names->cmd = ETHTOOL_GSTRINGS;
	names->string_set = ETH_SS_FEATURES;
	names->len = count;
	err = ethtool_ask(fd, ifname, names);
	if (err)
		free(names);
	else
		*out = names;
	return err;
}

static void ethtool_note_bit(const char *name, const struct ethtool_get_features_block *block, uint32_t bit,
			     struct ethtool_state *out)
{
	for (int i = 0; i < ETHTOOL_FEATURE_COUNT; i++) {
		if (strncmp(name, ethtool_known[i].name, ETH_GSTRING_LEN))
			continue;
		out[i].known = true;
		out[i].on = block->active & bit;
		out[i].fixed = !(block->available & bit) || (block->never_changed & bit);
	}
}

static int ethtool_read_bits(int fd, const char *ifname, const struct ethtool_gstrings *names,
			     struct ethtool_state *out)
{
	struct {
		struct ethtool_gfeatures head;
		struct ethtool_get_features_block blocks[ETHTOOL_MAX_BLOCKS];
	} bits = {.head = {.cmd = ETHTOOL_GFEATURES, .size = ETHTOOL_MAX_BLOCKS}};
	int err = ethtool_ask(fd, ifname, &bits);

	for (uint32_t i = 0; !err && i < names->len && i / 32 < bits.head.size; i++)
		ethtool_note_bit((const char *)names->data + (size_t)i * ETH_GSTRING_LEN, &bits.blocks[i / 32],
				 1u << i % 32, out);
	return err;
}

int ethtool_read_features(const char *ifname, struct ethtool_state out[ETHTOOL_FEATURE_COUNT])
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err;
	struct ethtool_gstrings *names;

	memset(out, 0, sizeof(*out) * ETHTOOL_FEATURE_COUNT);
	if (fd < 0)
		return -errno;
	err = ethtool_read_names(fd, ifname, &names);
	if (!err) {
		err = ethtool_read_bits(fd, ifname, names, out);
		free(names);
	}
	close(fd);
	return err;
}
