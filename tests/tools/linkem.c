/* SPDX-License-Identifier: MIT */
/*
 * An imperfect link: carries frames between two interfaces of this namespace
 * and loses, delays, reorders, duplicates or corrupts some, since this
 * kernel may have no netem.
 *
 *   linkem IF_A IF_B [NAME=VALUE]...
 *
 * Names: loss, dup, corrupt, reorder (percent of frames), delay (milliseconds), queue (frames), seed.
 *
 * Each direction is treated alike. A reordered frame is held back for one more millisecond. Runs until it is killed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_FRAME 2048
#define HOLD_BACK_NS 1000000

struct held {
	uint64_t due_ns, order;
	int to;
	uint32_t len;
	uint8_t data[MAX_FRAME];
};

static double loss, dup_share, corrupt, reorder;
static uint64_t delay_ns;
static uint32_t queue_max = 20000;
static struct held **heap; /* by due time, then order of arrival */
static uint32_t heap_count;
static uint64_t next_order;
static uint64_t random_state = 1;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* xorshift64*: the same seed gives the same losses */
static double chance(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (double)((random_state * 0x2545f4914f6cdd1dull) >> 11) / 9007199254740992.0 * 100.0;
}

static int earlier(const struct held *a, const struct held *b)
{
	return a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->order < b->order);
}

static void heap_push(struct held *frame)
{
	uint32_t i = heap_count++;

	for (; i && earlier(frame, heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = frame;
}

static struct held *heap_pop(void)
{
	struct held *first = heap[0], *last = heap[--heap_count];
	uint32_t i = 0, child;

	while ((child = 2 * i + 1) < heap_count) {
		if (child + 1 < heap_count && earlier(heap[child + 1], heap[child]))
			child++;
		if (!earlier(heap[child], last))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return first;
}

static int open_port(const char *name)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	struct packet_mreq promiscuous = {.mr_type = PACKET_MR_PROMISC};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL)), bytes = 8 << 20, on = 1;

	address.sll_ifindex = promiscuous.mr_ifindex = (int)if_nametoindex(name);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
	setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof(promiscuous));
	setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		fprintf(stderr, "linkem: %s: %s\n", name, strerror(errno));
		exit(1);
	}
	return fd;
}

static void hold(const uint8_t *data, uint32_t len, int to)
{
	struct held *frame;

	if (heap_count >= queue_max || !(frame = malloc(sizeof(*frame))))
		return;
	frame->due_ns = now_ns() + delay_ns + (chance() < reorder ? HOLD_BACK_NS : 0);
	frame->order = next_order++;
	frame->to = to;
	frame->len = len;
	memcpy(frame->data, data, len);
	if (chance() < corrupt)
		frame->data[len - 1 - (uint32_t)(chance() / 100 * (len / 2))] ^= 0x10;
	heap_push(frame);
}

static void take(int from, int to)
{
	uint8_t data[MAX_FRAME];
	ssize_t len;

	while ((len = recv(from, data, sizeof(data), 0)) > 0) {
		if (chance() < loss)
			continue;
		hold(data, (uint32_t)len, to);
		if (chance() < dup_share)
			hold(data, (uint32_t)len, to);
	}
}

static void release_due(int timer)
{
	struct itimerspec next = {0};
	uint64_t now = now_ns();

	while (heap_count && heap[0]->due_ns <= now) {
		struct held *frame = heap_pop();

		/* a full interface loses the frame, as a link does */
		if (send(frame->to, frame->data, frame->len, 0) < 0 && errno != ENOBUFS && errno != EAGAIN)
			fprintf(stderr, "linkem: send: %s\n", strerror(errno));
		free(frame);
	}
	if (heap_count) {
		next.it_value.tv_sec = (time_t)(heap[0]->due_ns / 1000000000);
		next.it_value.tv_nsec = (long)(heap[0]->due_ns % 1000000000);
	}
	timerfd_settime(timer, TFD_TIMER_ABSTIME, &next, NULL);
}

static void option(const char *text)
{
	double value = strchr(text, '=') ? atof(strchr(text, '=') + 1) : 0;

	if (!strncmp(text, "loss=", 5))
		loss = value;
	else if (!strncmp(text, "dup=", 4))
		dup_share = value;
	else if (!strncmp(text, "corrupt=", 8))
		corrupt = value;
	else if (!strncmp(text, "reorder=", 8))
		reorder = value;
	else if (!strncmp(text, "delay=", 6))
		delay_ns = (uint64_t)(value * 1e6);
	else if (!strncmp(text, "queue=", 6))
		queue_max = (uint32_t)value;
	else if (!strncmp(text, "seed=", 5))
		random_state = (uint64_t)value + 1;
	else
		exit(fprintf(stderr, "linkem: unknown option %s\n", text));
}

int main(int argc, char **argv)
{
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	struct pollfd fds[3] = {{.events = POLLIN}, {.events = POLLIN}, {.fd = timer, .events = POLLIN}};

	if (argc < 3)
		return fprintf(stderr, "linkem: two interfaces are needed\n");
	for (int i = 3; i < argc; i++)
		option(argv[i]);
	heap = calloc(queue_max + 1, sizeof(*heap));
	fds[0].fd = open_port(argv[1]);
	fds[1].fd = open_port(argv[2]);
	for (;;) {
		poll(fds, 3, -1);
		take(fds[0].fd, fds[1].fd);
		take(fds[1].fd, fds[0].fd);
		release_due(timer);
	}
}
