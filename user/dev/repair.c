/* SPDX-License-Identifier: MIT */
#include "repair.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int repair_set(int fd, int option, int value)
{
	return setsockopt(fd, IPPROTO_TCP, option, &value, sizeof(value)) ? -errno : 0;
}

int repair_freeze(int fd)
{
	return repair_set(fd, TCP_REPAIR, TCP_REPAIR_ON);
}

uint8_t repair_tcp_state(int fd)
{
	struct tcp_info info = {0};
	socklen_t bytes = sizeof(info.tcpi_state); /* the first field; the rest costs time */

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) ? 0 : info.tcpi_state;
}

ssize_t repair_peek(int fd, void *data, size_t bytes)
{
	int err = repair_set(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
	ssize_t got = err ? -1 : recv(fd, data, bytes, MSG_PEEK | MSG_DONTWAIT);

	if (err)
		return err;
	return got < 0 ? -errno : got;
}

int repair_thaw(int fd, bool announce)
{
	repair_set(fd, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
	return repair_set(fd, TCP_REPAIR, announce ? TCP_REPAIR_OFF : TCP_REPAIR_OFF_NO_WP);
}

int repair_probe(void)
{
	int fd, err;

	/* for tests of what happens in a container that does not permit it */
	if (getenv("SOCKSPLICE_NO_REPAIR"))
		return -EPERM;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	err = repair_set(fd, TCP_REPAIR, TCP_REPAIR_ON);
	close(fd);
	return err;
}
