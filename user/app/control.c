/* SPDX-License-Identifier: MIT */
/*
 * Connections are few and short: each is accepted, read, answered and closed
 * before the next one, so there is no state to bound. Each has a time limit,
 * and a stop of the daemon cuts all of them off.
 */
#include "control.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "config_scalar.h"
#include "control_json.h"
#include "control_top.h"
#include "log.h"
#include "logsink.h"
#include "observe.h"
#include "record.h"
#include "reload.h"

#define CONTROL_TIMEOUT_MS 5000
#define CONTROL_FLOWS_PER_READ 256
#define CONTROL_OUT_BYTES 16384

struct control {
	struct config *config;
	const char *config_path;
	struct worker *worker;
	struct observe *observe;
	int listen_fd;
	bool ending;
	enum control_end end;
};

struct control_client {
	int fd, stop_fd;
	int64_t deadline_ms;
	/* an answer is made of many small pieces; a system call for each would be most of the work */
	char out[CONTROL_OUT_BYTES];
	size_t out_bytes;
};

static int64_t control_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until the client is ready; false: time is over, or the daemon stops. */
static bool control_wait(const struct control_client *client, short events)
{
	struct pollfd fds[2] = {{.fd = client->fd, .events = events}, {.fd = client->stop_fd, .events = POLLIN}};
	int64_t left_ms = client->deadline_ms - control_now_ms();

	return left_ms > 0 && poll(fds, 2, (int)left_ms) > 0 && !fds[1].revents;
}

enum control_request control_parse(const char *line, size_t bytes)
{
	static const char *const names[] = {
		[CONTROL_STATUS] = "status",
		[CONTROL_STATS] = "stats",
		[CONTROL_FLOWS] = "flows",
		[CONTROL_STOP] = "stop",
		[CONTROL_STOP_FLUSH] = "stop-flush",
		[CONTROL_TRACE] = "trace",
		[CONTROL_TRACE_READ] = "trace-read",
		[CONTROL_UPSTREAMS] = "upstreams",
		[CONTROL_TOP] = "top",
		[CONTROL_RELOAD] = "reload",
	};
	static const char trace_of[] = "trace ", top_of[] = "top ";

	if (bytes > sizeof(trace_of) - 1 && !memcmp(line, trace_of, sizeof(trace_of) - 1))
		return CONTROL_TRACE;
	if (bytes > sizeof(top_of) - 1 && !memcmp(line, top_of, sizeof(top_of) - 1))
		return CONTROL_TOP;
	for (int i = 0; i < CONTROL_INVALID; i++)
		if (bytes == strlen(names[i]) && !memcmp(line, names[i], bytes))
			return (enum control_request)i;
	return CONTROL_INVALID;
}

/* /run/socksplice does not survive a reboot. Only the last directory is made. */
static void control_make_directory(const char *path)
{
	char directory[sizeof(((struct config *)0)->control)];
	char *slash;

	snprintf(directory, sizeof(directory), "%s", path);
	slash = strrchr(directory, '/');
	if (!slash || slash == directory)
		return;
	*slash = 0;
	mkdir(directory, 0755);
}

/* Does a daemon answer there? A file left by a killed one is refused at once. */
static bool control_is_live(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool live = fd >= 0 && !connect(fd, (const struct sockaddr *)address, sizeof(*address));

	if (fd >= 0)
		close(fd);
	return live;
}

static int control_listen(const struct sockaddr_un *address, char *error, uint32_t error_bytes)
{
	int fd, err;
	mode_t mask;

	if (control_is_live(address)) {
		snprintf(error, error_bytes,
			 "a daemon already listens on %s; stop it, or give this one its own `control`",
			 address->sun_path);
		return -EADDRINUSE;
	}
	unlink(address->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mask = umask(0177);
	err = fd < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) || listen(fd, 16) ? -errno : 0;
	umask(mask);
	if (!err)
		return fd;
	snprintf(error, error_bytes, "control socket %s: %s", address->sun_path, strerror(-err));
	if (fd >= 0)
		close(fd);
	return err;
}

int control_create(struct control **out, struct config *config, const char *config_path, char *error,
		   uint32_t error_bytes)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct control *control = calloc(1, sizeof(*control));
	int fd;

	if (!control)
		return -ENOMEM;
	memcpy(address.sun_path, config->control, sizeof(address.sun_path));
	control_make_directory(config->control);
	fd = control_listen(&address, error, error_bytes);
	if (fd < 0) {
		free(control);
		return fd;
	}
	*control = (struct control){.config = config, .config_path = config_path, .listen_fd = fd};
	*out = control;
	return 0;
}

void control_destroy(struct control *control)
{
	if (!control)
		return;
	close(control->listen_fd);
	unlink(control->config->control);
	free(control);
}

static int control_send(const struct control_client *client, const char *data, size_t bytes)
{
	while (bytes) {
		ssize_t sent;

		if (!control_wait(client, POLLOUT))
			return -1;
		sent = send(client->fd, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno != EAGAIN)
			return -1;
		if (sent > 0) {
			data += sent;
			bytes -= (size_t)sent;
		}
	}
	return 0;
}

static int control_flush(struct control_client *client)
{
	size_t bytes = client->out_bytes;

	client->out_bytes = 0;
	return control_send(client, client->out, bytes);
}

/* For jansson: 0, or -1 when the client does not take it. */
static int control_write(const char *data, size_t bytes, void *ctx)
{
	struct control_client *client = ctx;

	if (client->out_bytes + bytes > sizeof(client->out) && control_flush(client))
		return -1;
	if (bytes > sizeof(client->out))
		return control_send(client, data, bytes);
	memcpy(client->out + client->out_bytes, data, bytes);
	client->out_bytes += bytes;
	return 0;
}

static void control_answer(struct control_client *client, json_t *json)
{
	if (json && !json_dump_callback(json, control_write, client, JSON_COMPACT))
		control_write("\n", 1, client);
	json_decref(json);
}

static void control_answer_error(struct control_client *client, const char *text)
{
	control_answer(client, json_pack("{s:s}", "error", text));
}

/* `status` and `stats` */
static void control_answer_report(struct control *control, struct control_client *client, enum control_request request)
{
	struct observe_report *report = malloc(sizeof(*report));

	if (!report)
		return;
	observe_read(control->observe, report);
	if (!report->facts.answers)
		control_answer_error(client, "not working: the data path does not answer");
	else
		control_answer(client, request == CONTROL_STATUS
					       ? control_json_status(control->config, control->worker, report)
					       : control_json_stats(control->worker, &report->stats));
	free(report);
}

static void control_answer_upstreams(struct control *control, struct control_client *client)
{
	struct worker_upstream *rows = calloc(UPSTREAMS_SLOTS, sizeof(*rows));
	int count = rows ? worker_read_upstreams(control->worker, rows) : -ENOMEM;

	if (count < 0)
		control_answer_error(client, "the data path does not answer");
	else
		control_answer(client, control_json_upstreams(rows, (uint32_t)count));
	free(rows);
}

/* One element after the other: memory does not grow with the number of flows. */
static int control_write_flows(struct control_client *client, const struct worker_flow_row *rows, int count,
			       const char **separator)
{
	uint64_t now_ns = (uint64_t)control_now_ms() * 1000000;
	int err = 0;

	for (int i = 0; i < count && !err; i++) {
		json_t *flow = control_json_flow(&rows[i], now_ns);

		err = !flow || control_write(*separator, 1, client) ||
		      json_dump_callback(flow, control_write, client, JSON_COMPACT);
		json_decref(flow);
		*separator = ",";
	}
	return err;
}

static void control_answer_flows(struct control *control, struct control_client *client)
{
	struct worker_flow_row *rows = calloc(CONTROL_FLOWS_PER_READ, sizeof(*rows));
	const char *separator = "[";
	uint32_t cursor = 0;
	int count = 0, err = rows ? 0 : -1;

	while (!err && (count = worker_read_flows(control->worker, &cursor, rows, CONTROL_FLOWS_PER_READ)) > 0)
		err = control_write_flows(client, rows, count, &separator);
	if (count < 0)
		control_answer_error(client, "the data path does not answer");
	else if (!err && *separator == '[')
		control_write("[]\n", 3, client);
	else if (!err)
		control_write("]\n", 2, client);
	free(rows);
}

static void control_answer_stop(struct control *control, struct control_client *client, bool flush)
{
	control->ending = true;
	control->end = flush ? CONTROL_END_FLUSH : CONTROL_END_STOP;
	control_answer(client, json_pack("{s:b, s:b}", "stopping", 1, "flush", flush));
}

/* `line` is the request without its end: "trace" or "trace ADDRESS". */
static void control_answer_trace(struct control *control, struct control_client *client, const char *line, size_t bytes)
{
	char text[CONTROL_REQUEST_BYTES];
	struct addr addr, *wanted = NULL;
	__be32 ip;

	if (bytes > sizeof("trace")) {
		snprintf(text, sizeof(text), "%.*s", (int)(bytes - sizeof("trace")), line + sizeof("trace"));
		if (inet_pton(AF_INET, text, &ip) == 1) {
			addr = addr_from_ipv4(ip);
		} else if (inet_pton(AF_INET6, text, addr.bytes) != 1) {
			control_answer_error(client, "trace: the client's address is expected, IPv4 or IPv6");
			return;
		}
		wanted = &addr;
	}
	if (worker_trace_arm(control->worker, wanted))
		control_answer_error(client, "the data path does not answer");
	else
		control_answer(client, json_pack("{s:b}", "waiting", 1));
}

static void control_answer_trace_read(struct control *control, struct control_client *client)
{
	struct trace *trace = calloc(1, sizeof(*trace));

	if (trace && !worker_trace_read(control->worker, trace))
		control_answer(client, control_json_trace(trace));
	else
		control_answer_error(client, "the data path does not answer");
	free(trace);
}

/* `line` is the request without its end: "top" or "top N". */
static void control_answer_top(struct control *control, struct control_client *client, const char *line, size_t bytes)
{
	uint32_t count = CONTROL_TOP_DEFAULT;
	json_t *answer;

	if (bytes > sizeof("top")) {
		char text[CONTROL_REQUEST_BYTES];

		snprintf(text, sizeof(text), "%.*s", (int)(bytes - sizeof("top")), line + sizeof("top"));
		if (!config_scalar_uint(text, &count) || !count || count > CONTROL_TOP_MAX) {
			control_answer_error(client, "top: a number from 1 to 100 is expected");
			return;
		}
	}
	if (control_top(control->worker, count, &answer))
		control_answer_error(client, "the data path does not answer");
	else
		control_answer(client, answer);
}

/* The files of the log may have been rotated. */
static void control_reopen(struct control *control)
{
	struct record *record = worker_record(control->worker);
	int err = logsink_reopen();

	if (err)
		log_warn("log.file: cannot open %s again: %s", control->config->log_file, strerror(-err));
	if (record)
		record_reopen(record);
}

static void control_answer_reload(struct control *control, struct control_client *client)
{
	control_reopen(control);
	control_answer(client, reload_apply(control->config, control->config_path, control->worker));
}

static void control_handle(struct control *control, struct control_client *client)
{
	char line[CONTROL_REQUEST_BYTES];
	size_t have = 0;
	char *end = NULL;
	enum control_request request;

	while (!end && have < sizeof(line)) {
		ssize_t got;

		if (!control_wait(client, POLLIN))
			return;
		got = recv(client->fd, line + have, sizeof(line) - have, MSG_DONTWAIT);
		if (got <= 0)
			return;
		end = memchr(line + have, '\n', (size_t)got);
		have += (size_t)got;
	}
	request = end ? control_parse(line, (size_t)(end - line)) : CONTROL_INVALID;
	if (request == CONTROL_INVALID)
		control_answer_error(client, "unknown request; status, stats, flows, top, upstreams, stop, reload and "
					     "trace are known");
	else if (request == CONTROL_FLOWS)
		control_answer_flows(control, client);
	else if (request == CONTROL_STOP || request == CONTROL_STOP_FLUSH)
		control_answer_stop(control, client, request == CONTROL_STOP_FLUSH);
	else if (request == CONTROL_TRACE)
		control_answer_trace(control, client, line, (size_t)(end - line));
	else if (request == CONTROL_RELOAD)
		control_answer_reload(control, client);
	else if (request == CONTROL_TRACE_READ)
		control_answer_trace_read(control, client);
	else if (request == CONTROL_TOP)
		control_answer_top(control, client, line, (size_t)(end - line));
	else if (request == CONTROL_UPSTREAMS)
		control_answer_upstreams(control, client);
	else
		control_answer_report(control, client, request);
}

static void control_reload_by_signal(struct control *control, int reload_fd)
{
	struct signalfd_siginfo info;

	if (read(reload_fd, &info, sizeof(info)) != sizeof(info))
		return;
	control_reopen(control);
	json_decref(reload_apply(control->config, control->config_path, control->worker));
}

enum control_end control_serve(struct control *control, struct worker *worker, struct observe *observe, int stop_fd,
			       int reload_fd)
{
	struct pollfd fds[3] = {{.fd = control->listen_fd, .events = POLLIN},
				{.fd = stop_fd, .events = POLLIN},
				{.fd = reload_fd, .events = POLLIN}};

	control->worker = worker;
	control->observe = observe;
	while (!control->ending) {
		struct control_client client = {.stop_fd = stop_fd};

		if (poll(fds, 3, -1) < 0 && errno != EINTR) {
			log_error("control: poll: %s", strerror(errno));
			return CONTROL_END_SIGNAL;
		}
		if (fds[1].revents)
			return CONTROL_END_SIGNAL;
		if (fds[2].revents)
			control_reload_by_signal(control, reload_fd);
		if (!fds[0].revents)
			continue;
		client.fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (client.fd < 0) {
			const struct timespec pause = {.tv_nsec = 100000000};

			/* out of descriptors: the connection stays in the queue, and must not keep us busy */
			if (errno == EMFILE || errno == ENFILE)
				nanosleep(&pause, NULL);
			continue;
		}
		client.deadline_ms = control_now_ms() + CONTROL_TIMEOUT_MS;
		control_handle(control, &client);
		control_flush(&client);
		close(client.fd);
	}
	return control->end;
}
