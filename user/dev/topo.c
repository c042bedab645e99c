/* SPDX-License-Identifier: MIT */
#include "topo.h"

#include <errno.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int topo_ioctl(int fd, const char *name, unsigned long request, struct ifreq *ifr)
{
	memset(ifr->ifr_name, 0, sizeof(ifr->ifr_name));
	memcpy(ifr->ifr_name, name, strnlen(name, IFNAMSIZ - 1));
	return ioctl(fd, request, ifr) ? -errno : 0;
}

static void topo_read_driver(int fd, struct topo_interface *out)
{
	static const char *const virtual_drivers[] = {"veth", "tun", "tap", "bridge", "virtio_net", "dummy", "ifb"};
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	struct ifreq ifr = {.ifr_data = (void *)&info};

	if (topo_ioctl(fd, out->name, SIOCETHTOOL, &ifr))
		return;
	memcpy(out->driver, info.driver, sizeof(out->driver));
	out->driver[sizeof(out->driver) - 1] = 0;
	for (size_t i = 0; i < sizeof(virtual_drivers) / sizeof(virtual_drivers[0]); i++)
		if (!strcmp(out->driver, virtual_drivers[i]))
			out->is_virtual = true;
}

/* Directories in /sys/class/net/NAME/queues tell the real counts; a sysfs of another namespace does not know NAME. */
static void topo_read_sysfs_queues(struct topo_interface *out)
{
	char path[64 + IFNAMSIZ];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/class/net/%s/queues", out->name);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		out->rx_queues += !strncmp(entry->d_name, "rx-", 3);
		out->tx_queues += !strncmp(entry->d_name, "tx-", 3);
	}
	closedir(dir);
}

static void topo_read_queues(int fd, struct topo_interface *out)
{
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
	struct ifreq ifr = {.ifr_data = (void *)&channels};

	if (!topo_ioctl(fd, out->name, SIOCETHTOOL, &ifr)) {
		out->rx_queues = channels.combined_count + channels.rx_count;
		out->tx_queues = channels.combined_count + channels.tx_count;
	}
	if (!out->rx_queues)
		topo_read_sysfs_queues(out);
	if (!out->rx_queues)
		out->rx_queues = out->tx_queues = 1;
}

static int topo_read_numa_node(const char *name)
{
	char path[64 + IFNAMSIZ];
	int node = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/net/%s/device/numa_node", name);
	file = fopen(path, "re");
	if (!file)
		return -1;
	if (fscanf(file, "%d", &node) != 1)
		node = -1;
	fclose(file);
	return node;
}

int topo_read_interface(const char *name, struct topo_interface *out)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err;
	struct ifreq ifr;

	if (fd < 0)
		return -errno;
	memset(out, 0, sizeof(*out));
	memcpy(out->name, name, strnlen(name, IFNAMSIZ - 1));
	err = topo_ioctl(fd, name, SIOCGIFINDEX, &ifr);
	out->ifindex = ifr.ifr_ifindex;
	if (!err)
		err = topo_ioctl(fd, name, SIOCGIFHWADDR, &ifr);
	memcpy(out->mac, ifr.ifr_hwaddr.sa_data, sizeof(out->mac));
	if (!err)
		err = topo_ioctl(fd, name, SIOCGIFMTU, &ifr);
	out->mtu = (uint32_t)ifr.ifr_mtu;
	if (!err)
		err = topo_ioctl(fd, name, SIOCGIFFLAGS, &ifr);
	out->up = ifr.ifr_flags & IFF_UP;
	if (!err) {
		topo_read_driver(fd, out);
		topo_read_queues(fd, out);
		out->numa_node = topo_read_numa_node(name);
	}
	close(fd);
	return err;
}

bool topo_link_up(const char *name)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr;
	bool up;

	if (fd < 0)
		return false;
	up = !topo_ioctl(fd, name, SIOCGIFFLAGS, &ifr) && (ifr.ifr_flags & IFF_UP) && (ifr.ifr_flags & IFF_RUNNING);
	close(fd);
	return up;
}

bool topo_prefers_tc(const struct topo_interface *topo)
{
	return topo->is_virtual && strcmp(topo->driver, "virtio_net") != 0;
}

static bool topo_convert(const struct sockaddr *sa, struct addr *out)
{
	if (!sa)
		return false;
	if (sa->sa_family == AF_INET) {
		*out = addr_from_ipv4(((const struct sockaddr_in *)sa)->sin_addr.s_addr);
		return true;
	}
	if (sa->sa_family == AF_INET6) {
		memcpy(out->bytes, &((const struct sockaddr_in6 *)sa)->sin6_addr, sizeof(out->bytes));
		return true;
	}
	return false;
}

int topo_read_local_addrs(struct addr *addrs, uint32_t max)
{
	struct ifaddrs *list, *ifa;
	uint32_t count = 0;

	if (getifaddrs(&list))
		return -errno;
	for (ifa = list; ifa && count < max; ifa = ifa->ifa_next) {
		count += topo_convert(ifa->ifa_addr, &addrs[count]);
		/* packets to a network's broadcast address are for the gateway too */
		if (count < max && (ifa->ifa_flags & IFF_BROADCAST) && ifa->ifa_addr &&
		    ifa->ifa_addr->sa_family == AF_INET)
			count += topo_convert(ifa->ifa_broadaddr, &addrs[count]);
	}
	freeifaddrs(list);
	return (int)count;
}

static bool topo_is_link_local(const struct addr *a)
{
	return a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

void topo_read_own_addrs(const char *name, struct addr out[2])
{
	struct ifaddrs *list, *ifa;
	struct addr addr;

	memset(out, 0, 2 * sizeof(*out));
	if (getifaddrs(&list))
		return;
	for (ifa = list; ifa; ifa = ifa->ifa_next) {
		struct addr *at;

		if (strcmp(ifa->ifa_name, name) != 0 || !topo_convert(ifa->ifa_addr, &addr))
			continue;
		at = &out[!addr_is_ipv4(&addr)];
		if (!(at->words[0] | at->words[1] | at->words[2] | at->words[3]) || topo_is_link_local(at))
			*at = addr;
	}
	freeifaddrs(list);
}
