/* SPDX-License-Identifier: MIT */
/*
 * Two rings under one lock, questions to the thread and answers from it. What
 * is on its way anywhere is counted in `pending` and bounded by it, so the ring
 * of answers always has room. The asker never waits for more than the few
 * instructions that the thread holds the lock.
 *
 * Addresses are asked by ares_getaddrinfo(), which knows the hosts file; for
 * other types the name server's answer is passed on as it came. When
 * resolv.conf changes the channel is made anew.
 */
#include "dns_direct.h"

#include <arpa/nameser.h>
#include <ares.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

#define DNS_DIRECT_RESOLV_CONF "/etc/resolv.conf"
#define DNS_DIRECT_TIMEOUT_MS 2000
#define DNS_DIRECT_TRIES 2
/* The file is looked at when there is something to do, and this often at most. */
#define DNS_DIRECT_CHECK_S 2

struct dns_direct {
	pthread_t thread;
	pthread_mutex_t lock;
	int wake_fd; /* the asker's */
	int work_fd; /* the thread's */
	bool thread_running, ending;

	/* under `lock` */
	struct dns_direct_question questions[DNS_DIRECT_PENDING];
	struct dns_direct_answer answers[DNS_DIRECT_PENDING];
	uint32_t question_first, question_count, answer_first, answer_count;
	uint32_t pending;

	/* the thread's */
	ares_channel channel;
	bool has_channel;
	struct timespec conf_mtime;
	time_t conf_checked;
};

/* One question on its way. */
struct dns_direct_job {
	struct dns_direct *direct;
	struct dns_direct_answer answer;
};

static void dns_direct_finish(struct dns_direct_job *job)
{
	struct dns_direct *direct = job->direct;

	pthread_mutex_lock(&direct->lock);
	direct->answers[(direct->answer_first + direct->answer_count++) % DNS_DIRECT_PENDING] = job->answer;
	pthread_mutex_unlock(&direct->lock);
	free(job);
	eventfd_write(direct->wake_fd, 1);
}

static enum dns_rcode dns_direct_rcode(int status)
{
	switch (status) {
	case ARES_SUCCESS:
	case ARES_ENODATA:
		return DNS_NOERROR;
	case ARES_ENOTFOUND:
		return DNS_NXDOMAIN;
	case ARES_EREFUSED:
		return DNS_REFUSED;
	default:
		return DNS_SERVFAIL;
	}
}

static void dns_direct_take_addrs(struct dns_direct_answer *answer, const struct ares_addrinfo_node *node)
{
	uint32_t ttl = UINT32_MAX;

	for (; node && answer->count < DNS_DIRECT_ADDRS; node = node->ai_next) {
		struct addr *addr = &answer->addrs[answer->count];

		if (node->ai_family == AF_INET)
			*addr = addr_from_ipv4(((const struct sockaddr_in *)(void *)node->ai_addr)->sin_addr.s_addr);
		else if (node->ai_family == AF_INET6)
			memcpy(addr, &((const struct sockaddr_in6 *)(void *)node->ai_addr)->sin6_addr, sizeof(*addr));
		else
			continue;
		answer->count++;
		ttl = MIN(ttl, (uint32_t)(node->ai_ttl > 0 ? node->ai_ttl : 0));
	}
	answer->ttl = ttl;
}

static void dns_direct_got_addrs(void *arg, int status, int timeouts, struct ares_addrinfo *result)
{
	struct dns_direct_job *job = arg;

	(void)timeouts;
	job->answer.rcode = (uint8_t)dns_direct_rcode(status);
	if (result) {
		dns_direct_take_addrs(&job->answer, result->nodes);
		ares_freeaddrinfo(result);
	}
	dns_direct_finish(job);
}

static void dns_direct_got_message(void *arg, int status, int timeouts, unsigned char *message, int bytes)
{
	struct dns_direct_job *job = arg;

	(void)timeouts;
	job->answer.rcode = (uint8_t)dns_direct_rcode(status);
	if (message && bytes > 0)
		job->answer.message = malloc((size_t)bytes);
	if (job->answer.message) {
		memcpy(job->answer.message, message, (size_t)bytes);
		job->answer.message_bytes = (size_t)bytes;
	}
	dns_direct_finish(job);
}

/* Never called without room: `pending` bounds it. */
static void dns_direct_start(struct dns_direct *direct, const struct dns_direct_question *question)
{
	struct dns_direct_job *job = calloc(1, sizeof(*job));
	struct ares_addrinfo_hints hints = {.ai_flags = ARES_AI_NOSORT};

	if (!job) {
		struct dns_direct_answer answer = {
			.slot = question->slot, .generation = question->generation, .rcode = DNS_SERVFAIL};

		pthread_mutex_lock(&direct->lock);
		direct->answers[(direct->answer_first + direct->answer_count++) % DNS_DIRECT_PENDING] = answer;
		pthread_mutex_unlock(&direct->lock);
		eventfd_write(direct->wake_fd, 1);
		return;
	}
	job->direct = direct;
	job->answer.slot = question->slot;
	job->answer.generation = question->generation;
	job->answer.rcode = DNS_SERVFAIL;
	if (!direct->has_channel) {
		dns_direct_finish(job);
	} else if (question->type == DNS_TYPE_A || question->type == DNS_TYPE_AAAA) {
		hints.ai_family = question->type == DNS_TYPE_A ? AF_INET : AF_INET6;
		ares_getaddrinfo(direct->channel, question->name, NULL, &hints, dns_direct_got_addrs, job);
	} else {
		ares_query(direct->channel, question->name, C_IN, question->type, dns_direct_got_message, job);
	}
}

static bool dns_direct_next(struct dns_direct *direct, struct dns_direct_question *out)
{
	bool any;

	pthread_mutex_lock(&direct->lock);
	any = direct->question_count && !direct->ending;
	if (any) {
		*out = direct->questions[direct->question_first];
		direct->question_first = (direct->question_first + 1) % DNS_DIRECT_PENDING;
		direct->question_count--;
	}
	pthread_mutex_unlock(&direct->lock);
	return any;
}

/* --- c-ares --- */

static void dns_direct_open_channel(struct dns_direct *direct)
{
	/* names are asked as they are: no search list */
	struct ares_options options = {
		.flags = ARES_FLAG_EDNS | ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
		.timeout = DNS_DIRECT_TIMEOUT_MS,
		.tries = DNS_DIRECT_TRIES,
		.ednspsz = DNS_EDNS_BYTES,
		.ndomains = 0,
	};
	int status = ares_init_options(&direct->channel, &options,
				       ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ |
					       ARES_OPT_DOMAINS);

	direct->has_channel = status == ARES_SUCCESS;
	if (!direct->has_channel)
		log_warn("names that go direct cannot be resolved: %s", ares_strerror(status));
}

static void dns_direct_check_conf(struct dns_direct *direct)
{
	struct timespec now;
	struct stat conf;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (direct->has_channel && now.tv_sec - direct->conf_checked < DNS_DIRECT_CHECK_S)
		return;
	direct->conf_checked = now.tv_sec;
	if (stat(DNS_DIRECT_RESOLV_CONF, &conf))
		memset(&conf, 0, sizeof(conf));
	if (direct->has_channel && conf.st_mtim.tv_sec == direct->conf_mtime.tv_sec &&
	    conf.st_mtim.tv_nsec == direct->conf_mtime.tv_nsec)
		return;
	direct->conf_mtime = conf.st_mtim;
	/* what the old servers were asked is answered SERVFAIL, and will be asked again */
	if (direct->has_channel)
		ares_destroy(direct->channel);
	dns_direct_open_channel(direct);
}

/* Waits for questions, sockets and time-outs of c-ares. */
static void dns_direct_wait(struct dns_direct *direct)
{
	ares_socket_t sockets[ARES_GETSOCK_MAXNUM];
	struct pollfd fds[ARES_GETSOCK_MAXNUM + 1] = {{.fd = direct->work_fd, .events = POLLIN}};
	struct timeval longest = {.tv_sec = 3600}, until;
	const struct timeval *wait = &longest;
	uint32_t count = 1;
	int bits = 0;

	if (direct->has_channel) {
		bits = ares_getsock(direct->channel, sockets, ARES_GETSOCK_MAXNUM);
		wait = ares_timeout(direct->channel, &longest, &until);
	}
	for (int i = 0; i < ARES_GETSOCK_MAXNUM; i++) {
		/* ARES_GETSOCK_WRITABLE() would shift a signed 1 by 31 places */
		short events = (short)(((uint32_t)bits >> i & 1 ? POLLIN : 0) |
				       ((uint32_t)bits >> (i + ARES_GETSOCK_MAXNUM) & 1 ? POLLOUT : 0));

		if (events)
			fds[count++] = (struct pollfd){.fd = sockets[i], .events = events};
	}
	if (poll(fds, count, (int)(wait->tv_sec * 1000 + (wait->tv_usec + 999) / 1000)) < 0 || !direct->has_channel)
		return;
	for (uint32_t i = 1; i < count; i++) {
		bool in = fds[i].revents & (POLLIN | POLLERR | POLLHUP), out = fds[i].revents & (POLLOUT | POLLERR);

		if (in || out)
			ares_process_fd(direct->channel, in ? fds[i].fd : ARES_SOCKET_BAD,
					out ? fds[i].fd : ARES_SOCKET_BAD);
	}
	/* time-outs */
	ares_process_fd(direct->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

static bool dns_direct_is_ending(struct dns_direct *direct)
{
	bool ending;

	pthread_mutex_lock(&direct->lock);
	ending = direct->ending;
	pthread_mutex_unlock(&direct->lock);
	return ending;
}

static void *dns_direct_run(void *arg)
{
	struct dns_direct *direct = arg;
	struct dns_direct_question question;
	eventfd_t count;

	pthread_setname_np(pthread_self(), "socksplice-dns");
	while (!dns_direct_is_ending(direct)) {
		eventfd_read(direct->work_fd, &count);
		while (dns_direct_next(direct, &question)) {
			dns_direct_check_conf(direct);
			dns_direct_start(direct, &question);
		}
		dns_direct_wait(direct);
	}
	if (direct->has_channel)
		ares_destroy(direct->channel);
	return NULL;
}

/* --- the asker's side --- */

int dns_direct_create(struct dns_direct **out, int wake_fd)
{
	struct dns_direct *direct = calloc(1, sizeof(*direct));
	int err;

	if (!direct)
		return -ENOMEM;
	pthread_mutex_init(&direct->lock, NULL);
	direct->wake_fd = wake_fd;
	direct->work_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = direct->work_fd < 0 ? -errno : 0;
	if (!err && ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		err = -ENOMEM;
	if (!err)
		err = -pthread_create(&direct->thread, NULL, dns_direct_run, direct);
	if (err) {
		dns_direct_destroy(direct);
		return err;
	}
	direct->thread_running = true;
	*out = direct;
	return 0;
}

void dns_direct_destroy(struct dns_direct *direct)
{
	struct dns_direct_answer answer;

	if (!direct)
		return;
	if (direct->thread_running) {
		pthread_mutex_lock(&direct->lock);
		direct->ending = true;
		pthread_mutex_unlock(&direct->lock);
		eventfd_write(direct->work_fd, 1);
		pthread_join(direct->thread, NULL);
	}
	while (dns_direct_take(direct, &answer))
		free(answer.message);
	if (direct->work_fd >= 0)
		close(direct->work_fd);
	pthread_mutex_destroy(&direct->lock);
	free(direct);
}

bool dns_direct_ask(struct dns_direct *direct, const struct dns_direct_question *question)
{
	bool room;

	pthread_mutex_lock(&direct->lock);
	room = direct->pending < DNS_DIRECT_PENDING;
	if (room) {
		direct->pending++;
		direct->questions[(direct->question_first + direct->question_count++) % DNS_DIRECT_PENDING] = *question;
	}
	pthread_mutex_unlock(&direct->lock);
	if (room)
		eventfd_write(direct->work_fd, 1);
	return room;
}

bool dns_direct_take(struct dns_direct *direct, struct dns_direct_answer *out)
{
	bool any;

	pthread_mutex_lock(&direct->lock);
	any = direct->answer_count;
	if (any) {
		*out = direct->answers[direct->answer_first];
		direct->answer_first = (direct->answer_first + 1) % DNS_DIRECT_PENDING;
		direct->answer_count--;
		direct->pending--;
	}
	pthread_mutex_unlock(&direct->lock);
	return any;
}
