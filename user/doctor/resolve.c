/* SPDX-License-Identifier: MIT */
/*
 * getaddrinfo() knows no limit of time, so it runs on a thread that may be left
 * behind. What both threads use is the question, which the last of them frees.
 */
#include "resolve.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct resolve_question {
	pthread_mutex_t lock;
	pthread_cond_t answered;
	char host[CONFIG_MAX_HOST + 1];
	int family; /* AF_UNSPEC: any */
	bool done, abandoned;
	int result;
	struct addr addr;
};

static void resolve_free(struct resolve_question *question)
{
	pthread_cond_destroy(&question->answered);
	pthread_mutex_destroy(&question->lock);
	free(question);
}

static int resolve_error(int gai)
{
	return gai == EAI_NONAME || gai == EAI_NODATA || gai == EAI_ADDRFAMILY ? -ENOENT : -EAGAIN;
}

static struct addr resolve_addr(const struct sockaddr *sockaddr)
{
	const struct sockaddr_in *sin = (const struct sockaddr_in *)sockaddr;
	const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)sockaddr;
	struct addr addr;

	if (sockaddr->sa_family == AF_INET)
		return addr_from_ipv4(sin->sin_addr.s_addr);
	memcpy(addr.bytes, &sin6->sin6_addr, sizeof(addr.bytes));
	return addr;
}

static void *resolve_run(void *ctx)
{
	struct resolve_question *question = ctx;
	struct addrinfo hints = {.ai_family = question->family, .ai_socktype = SOCK_STREAM}, *list = NULL;
	int gai = getaddrinfo(question->host, NULL, &hints, &list);
	bool abandoned;

	pthread_mutex_lock(&question->lock);
	question->result = gai ? resolve_error(gai) : 0;
	if (!gai) {
		question->addr = resolve_addr(list->ai_addr);
		freeaddrinfo(list);
	}
	question->done = true;
	abandoned = question->abandoned;
	pthread_cond_signal(&question->answered);
	pthread_mutex_unlock(&question->lock);
	if (abandoned)
		resolve_free(question);
	return NULL;
}

static struct resolve_question *resolve_new(const struct config_upstream *settings)
{
	struct resolve_question *question = calloc(1, sizeof(*question));
	pthread_condattr_t attr;

	if (!question)
		return NULL;
	pthread_mutex_init(&question->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&question->answered, &attr);
	pthread_condattr_destroy(&attr);
	memcpy(question->host, settings->host, sizeof(question->host));
	question->family = !settings->source_count               ? AF_UNSPEC
			   : addr_is_ipv4(&settings->sources[0]) ? AF_INET
								 : AF_INET6;
	return question;
}

static int resolve_wait(struct resolve_question *question, uint32_t timeout_ms, struct addr *out)
{
	struct timespec until;
	bool done;
	int result;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&question->lock);
	while (!question->done && !pthread_cond_timedwait(&question->answered, &question->lock, &until))
		;
	done = question->done;
	question->abandoned = !done;
	result = done ? question->result : -ETIMEDOUT;
	if (!result)
		*out = question->addr;
	pthread_mutex_unlock(&question->lock);
	if (done)
		resolve_free(question);
	return result;
}

int resolve_within(const struct config_upstream *settings, uint32_t timeout_ms, struct endpoint *out)
{
	struct resolve_question *question;
	pthread_t thread;

	*out = settings->server;
	if (!settings->host[0])
		return 0;
	question = resolve_new(settings);
	if (!question)
		return -EAGAIN;
	if (pthread_create(&thread, NULL, resolve_run, question)) {
		resolve_free(question);
		return -EAGAIN;
	}
	pthread_detach(thread);
	return resolve_wait(question, timeout_ms, &out->addr);
}
