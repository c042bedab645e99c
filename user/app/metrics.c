/* SPDX-License-Identifier: MIT */
#include "metrics.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "addr_text.h"
#include "log.h"
#include "metrics_text.h"

/* Of one connection: request line and headers, none of which we need. */
#define METRICS_REQUEST_BYTES 8192

struct metrics {
	struct worker *worker;
	struct observe *observe;
	struct MHD_Daemon *daemon;
	int fd;
	struct observe_report report; /* of the serving thread, read at report.now_ns; 0: never */
};

static uint64_t metrics_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static const struct observe_report *metrics_report(struct metrics *metrics)
{
	if (!metrics->report.now_ns || metrics_now_ns() - metrics->report.now_ns > METRICS_MAX_AGE_NS)
		observe_read(metrics->observe, &metrics->report);
	return &metrics->report;
}

/* `text` is released by malloc's free. */
static enum MHD_Result metrics_answer(struct MHD_Connection *connection, unsigned int code, const char *type,
				      char *text, size_t bytes, bool allow)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(bytes, text, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result result;

	if (!response) {
		free(text);
		return MHD_NO;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (allow)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	result = MHD_queue_response(connection, code, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result metrics_say(struct MHD_Connection *connection, unsigned int code, const char *text, bool allow)
{
	char *copy = strdup(text);

	return copy ? metrics_answer(connection, code, "text/plain; charset=utf-8", copy, strlen(copy), allow) : MHD_NO;
}

static enum MHD_Result metrics_answer_text(struct metrics *metrics, struct MHD_Connection *connection)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *stream = open_memstream(&text, &bytes);

	if (!stream)
		return MHD_NO;
	metrics_text(stream, metrics->worker, metrics_report(metrics));
	if (fclose(stream)) {
		free(text);
		return MHD_NO;
	}
	return metrics_answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, bytes, false);
}

static enum MHD_Result metrics_answer_health(struct metrics *metrics, struct MHD_Connection *connection)
{
	const struct health_verdict *health = &metrics_report(metrics)->health;
	char text[HEALTH_TEXT_BYTES + 32];

	snprintf(text, sizeof(text), "%s%s%s\n", health_state_name(health->state), health->text[0] ? ": " : "",
		 health->text);
	return metrics_say(connection, health->state == HEALTH_FAILED ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK,
			   text, false);
}

static enum MHD_Result metrics_request(void *ctx, struct MHD_Connection *connection, const char *url,
				       const char *method, const char *version, const char *upload,
				       size_t *upload_bytes, void **state)
{
	bool text = !strcmp(url, "/metrics"), health = !strcmp(url, "/healthz");
	struct metrics *metrics = ctx;

	(void)version;
	(void)upload;
	(void)upload_bytes;
	if (!text && !health)
		return metrics_say(connection, MHD_HTTP_NOT_FOUND, "/metrics and /healthz are here\n", false);
	if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD))
		return metrics_say(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD are allowed\n", true);
	/* the first call comes with the headers; an answer then would end the connection */
	if (!*state) {
		*state = metrics;
		return MHD_YES;
	}
	return text ? metrics_answer_text(metrics, connection) : metrics_answer_health(metrics, connection);
}

static void metrics_log(void *ctx, const char *fmt, va_list args)
{
	char line[256];

	(void)ctx;
	vsnprintf(line, sizeof(line), fmt, args);
	line[strcspn(line, "\n")] = 0;
	log_debug("metrics: %s", line);
}

static int metrics_bind(const struct endpoint *endpoint)
{
	bool ipv4 = addr_is_ipv4(&endpoint->addr);
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = endpoint->port};
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = endpoint->port};
	const struct sockaddr *address = ipv4 ? (const struct sockaddr *)&sin : (const struct sockaddr *)&sin6;
	int fd = socket(ipv4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, err;

	if (fd < 0)
		return -errno;
	sin.sin_addr.s_addr = endpoint->addr.words[3];
	memcpy(&sin6.sin6_addr, endpoint->addr.bytes, sizeof(sin6.sin6_addr));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (!ipv4)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (!bind(fd, address, ipv4 ? sizeof(sin) : sizeof(sin6)) && !listen(fd, METRICS_CONNECTIONS))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

int metrics_listen(struct metrics **out, const struct config *config, char *error, uint32_t error_bytes)
{
	char text[ADDR_TEXT_BYTES];
	struct metrics *metrics;
	int fd;

	*out = NULL;
	if (!config->metrics.port)
		return 0;
	fd = metrics_bind(&config->metrics);
	if (fd < 0) {
		addr_text_endpoint(&config->metrics, text);
		snprintf(error, error_bytes, "metrics: cannot listen on %s: %s", text, strerror(-fd));
		return fd;
	}
	metrics = calloc(1, sizeof(*metrics));
	if (!metrics) {
		close(fd);
		snprintf(error, error_bytes, "metrics: no memory");
		return -ENOMEM;
	}
	metrics->fd = fd;
	*out = metrics;
	return 0;
}

int metrics_serve(struct metrics *metrics, struct worker *worker, struct observe *observe)
{
	if (!metrics)
		return 0;
	metrics->worker = worker;
	metrics->observe = observe;
	metrics->daemon = MHD_start_daemon(
		MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, metrics_request,
		metrics, MHD_OPTION_EXTERNAL_LOGGER, metrics_log, NULL, MHD_OPTION_LISTEN_SOCKET, metrics->fd,
		MHD_OPTION_CONNECTION_LIMIT, METRICS_CONNECTIONS, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		METRICS_CONNECTIONS_PER_CLIENT, MHD_OPTION_CONNECTION_TIMEOUT, METRICS_IDLE_SECONDS,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)METRICS_REQUEST_BYTES, MHD_OPTION_END);
	if (!metrics->daemon)
		return errno ? -errno : -EIO;
	metrics->fd = -1; /* MHD closes it */
	return 0;
}

void metrics_stop(struct metrics *metrics)
{
	if (!metrics || !metrics->daemon)
		return;
	MHD_stop_daemon(metrics->daemon);
	metrics->daemon = NULL;
}

void metrics_destroy(struct metrics *metrics)
{
	if (!metrics)
		return;
	metrics_stop(metrics);
	if (metrics->fd >= 0)
		close(metrics->fd);
	free(metrics);
}
