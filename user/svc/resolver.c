/* SPDX-License-Identifier: MIT */
/*
 * The thread owns the c-ares channel; two small rings under one lock carry
 * questions to it and answers back, an eventfd in each direction tells of
 * them. A channel lives as long as something is being asked, so that a changed
 * resolv.conf counts for the next question.
 */
#include "resolver.h"

#include <ares.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The second try waits twice as long. */
#define RESOLVER_TIMEOUT_MS 2000
#define RESOLVER_TRIES 2

struct resolver {
	pthread_t thread;
	bool running;
	int ask_fd, answer_fd; /* eventfds */
	pthread_mutex_t lock;
	/* under the lock */
	bool ending;
	char questions[RESOLVER_MAX_PENDING][CONFIG_MAX_HOST + 1];
	uint32_t question_head, question_count;
	struct resolver_answer answers[RESOLVER_MAX_PENDING];
	uint32_t answer_head, answer_count;
	/* the thread's own */
	ares_channel channel;
	bool has_channel;
	uint32_t asking;
};

struct resolver_question {
	struct resolver *resolver;
	char host[CONFIG_MAX_HOST + 1];
};

/* --- the thread --- */

static void resolver_answer(struct resolver *resolver, const struct resolver_answer *answer)
{
	pthread_mutex_lock(&resolver->lock);
	/* never full: what was asked is counted in question_count + asking + answer_count */
	if (resolver->answer_count < RESOLVER_MAX_PENDING)
		resolver->answers[(resolver->answer_head + resolver->answer_count++) % RESOLVER_MAX_PENDING] = *answer;
	pthread_mutex_unlock(&resolver->lock);
	eventfd_write(resolver->answer_fd, 1);
}

static void resolver_add_address(struct resolver_answer *answer, const struct ares_addrinfo_node *node)
{
	struct addr *addr = &answer->addrs[answer->count];

	if (answer->count == RESOLVER_MAX_ADDRS)
		return;
	if (node->ai_family == AF_INET)
		*addr = addr_from_ipv4(((const struct sockaddr_in *)(const void *)node->ai_addr)->sin_addr.s_addr);
	else if (node->ai_family == AF_INET6)
		memcpy(addr->bytes, &((const struct sockaddr_in6 *)(const void *)node->ai_addr)->sin6_addr, 16);
	else
		return;
	if (node->ai_ttl >= 0 && (uint32_t)node->ai_ttl < answer->ttl_s)
		answer->ttl_s = (uint32_t)node->ai_ttl;
	answer->count++;
}

static void resolver_done(void *arg, int status, int timeouts, struct ares_addrinfo *result)
{
	struct resolver_question *question = arg;
	struct resolver_answer answer = {.ttl_s = UINT32_MAX};

	(void)timeouts;
	strcpy(answer.host, question->host);
	if (status == ARES_SUCCESS)
		for (const struct ares_addrinfo_node *node = result->nodes; node; node = node->ai_next)
			resolver_add_address(&answer, node);
	if (status != ARES_SUCCESS)
		answer.error = ares_strerror(status);
	else if (!answer.count)
		answer.error = "the name has no address";
	question->resolver->asking--;
	if (status != ARES_EDESTRUCTION)
		resolver_answer(question->resolver, &answer);
	ares_freeaddrinfo(result);
	free(question);
}

static void resolver_refuse(struct resolver *resolver, const char *host, const char *why)
{
	struct resolver_answer answer = {.error = why};

	strcpy(answer.host, host);
	resolver_answer(resolver, &answer);
}

static void resolver_begin(struct resolver *resolver, const char *host)
{
	const struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct resolver_question *question = malloc(sizeof(*question));
	int status = ARES_ENOMEM;

	if (question && !resolver->has_channel) {
		/* by itself it would wait for more than a minute */
		struct ares_options options = {.timeout = RESOLVER_TIMEOUT_MS, .tries = RESOLVER_TRIES};

		status = ares_init_options(&resolver->channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
		resolver->has_channel = status == ARES_SUCCESS;
	}
	if (!question || !resolver->has_channel) {
		free(question);
		resolver_refuse(resolver, host, ares_strerror(status));
		return;
	}
	question->resolver = resolver;
	strcpy(question->host, host);
	resolver->asking++;
	ares_getaddrinfo(resolver->channel, host, NULL, &hints, resolver_done, question);
}

/* Takes what was asked; false: the end. */
static bool resolver_take_questions(struct resolver *resolver)
{
	char host[CONFIG_MAX_HOST + 1];
	eventfd_t count;
	bool more = true, ending;

	eventfd_read(resolver->ask_fd, &count);
	do {
		pthread_mutex_lock(&resolver->lock);
		ending = resolver->ending;
		more = !ending && resolver->question_count;
		if (more) {
			strcpy(host, resolver->questions[resolver->question_head]);
			resolver->question_head = (resolver->question_head + 1) % RESOLVER_MAX_PENDING;
			resolver->question_count--;
		}
		pthread_mutex_unlock(&resolver->lock);
		if (more)
			resolver_begin(resolver, host);
	} while (more);
	return !ending;
}

/* Sleeps until a question, a name server or a time-out. */
static void resolver_sleep(struct resolver *resolver)
{
	ares_socket_t sockets[ARES_GETSOCK_MAXNUM];
	struct pollfd fds[ARES_GETSOCK_MAXNUM + 1] = {{.fd = resolver->ask_fd, .events = POLLIN}};
	struct timeval most = {.tv_sec = 60}, timeout, *until;
	int bits = resolver->has_channel ? ares_getsock(resolver->channel, sockets, ARES_GETSOCK_MAXNUM) : 0;
	nfds_t count = 1;
	int wait_ms = -1;

	for (int i = 0; i < ARES_GETSOCK_MAXNUM; i++) {
		short events = (short)((ARES_GETSOCK_READABLE(bits, i) ? POLLIN : 0) |
				       (ARES_GETSOCK_WRITABLE(bits, i) ? POLLOUT : 0));

		if (events)
			fds[count++] = (struct pollfd){.fd = sockets[i], .events = events};
	}
	if (resolver->has_channel) {
		until = ares_timeout(resolver->channel, &most, &timeout);
		wait_ms = (int)(until->tv_sec * 1000 + until->tv_usec / 1000 + 1);
	}
	poll(fds, count, wait_ms);
	for (nfds_t i = 1; i < count; i++)
		if (fds[i].revents)
			ares_process_fd(resolver->channel, fds[i].revents & ~POLLOUT ? fds[i].fd : ARES_SOCKET_BAD,
					fds[i].revents & POLLOUT ? fds[i].fd : ARES_SOCKET_BAD);
	if (resolver->has_channel)
		ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

static void *resolver_run(void *arg)
{
	struct resolver *resolver = arg;

	pthread_setname_np(pthread_self(), "socksplice-dns");
	while (resolver_take_questions(resolver)) {
		if (resolver->has_channel && !resolver->asking) {
			ares_destroy(resolver->channel);
			resolver->has_channel = false;
		}
		resolver_sleep(resolver);
	}
	if (resolver->has_channel)
		ares_destroy(resolver->channel);
	return NULL;
}

/* --- whoever asks --- */

int resolver_create(struct resolver **out)
{
	struct resolver *resolver = calloc(1, sizeof(*resolver));
	int err;

	if (!resolver)
		return -ENOMEM;
	pthread_mutex_init(&resolver->lock, NULL);
	resolver->ask_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	resolver->answer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = resolver->ask_fd < 0 || resolver->answer_fd < 0 ? -errno : 0;
	if (!err && ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		err = -ENOMEM;
	if (!err)
		err = -pthread_create(&resolver->thread, NULL, resolver_run, resolver);
	resolver->running = !err;
	if (err) {
		resolver_destroy(resolver);
		return err;
	}
	*out = resolver;
	return 0;
}

void resolver_destroy(struct resolver *resolver)
{
	if (!resolver)
		return;
	if (resolver->running) {
		pthread_mutex_lock(&resolver->lock);
		resolver->ending = true;
		pthread_mutex_unlock(&resolver->lock);
		eventfd_write(resolver->ask_fd, 1);
		pthread_join(resolver->thread, NULL);
		ares_library_cleanup();
	}
	if (resolver->ask_fd >= 0)
		close(resolver->ask_fd);
	if (resolver->answer_fd >= 0)
		close(resolver->answer_fd);
	pthread_mutex_destroy(&resolver->lock);
	free(resolver);
}

int resolver_fd(const struct resolver *resolver)
{
	return resolver->answer_fd;
}

bool resolver_ask(struct resolver *resolver, const char *host)
{
	bool room;

	pthread_mutex_lock(&resolver->lock);
	room = resolver->question_count + resolver->answer_count < RESOLVER_MAX_PENDING / 2;
	if (room) {
		uint32_t at = (resolver->question_head + resolver->question_count++) % RESOLVER_MAX_PENDING;

		strncpy(resolver->questions[at], host, CONFIG_MAX_HOST);
		resolver->questions[at][CONFIG_MAX_HOST] = 0;
	}
	pthread_mutex_unlock(&resolver->lock);
	if (room)
		eventfd_write(resolver->ask_fd, 1);
	return room;
}

bool resolver_take(struct resolver *resolver, struct resolver_answer *out)
{
	bool has;

	pthread_mutex_lock(&resolver->lock);
	has = resolver->answer_count;
	if (has) {
		*out = resolver->answers[resolver->answer_head];
		resolver->answer_head = (resolver->answer_head + 1) % RESOLVER_MAX_PENDING;
		resolver->answer_count--;
	} else {
		eventfd_t count;

		eventfd_read(resolver->answer_fd, &count);
	}
	pthread_mutex_unlock(&resolver->lock);
	return has;
}
