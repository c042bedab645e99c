/* SPDX-License-Identifier: MIT */
/*
 * Rates are differences between two readings of `stats`; the daemon keeps
 * nothing for it. Which flows and clients are the busiest the daemon says
 * (`top`): sending all of them each second would be the busiest flow of all.
 *
 * The terminal is left in its usual mode but for two things: keys are read
 * without waiting for Enter, and not shown. Both are restored at the end.
 */
#include "top.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"
#include "status.h"

#define TOP_COLUMNS 80
#define TOP_LINES 24
/* Lines that are always there: verdict, two tiers with a head, drops, two heads of lists, a blank before each. */
#define TOP_FIXED_LINES 11
#define TOP_REASONS 64

/* Home; then each line clears its rest; at the end all below. */
#define TOP_HOME "\033[H"
#define TOP_CLEAR_LINE "\033[K"
#define TOP_CLEAR_BELOW "\033[J"
#define TOP_CLEAR_ALL "\033[2J"

struct top {
	const struct top_options *options;
	const char *control_path;
	bool live;
	unsigned int columns, lines;
	json_t *status, *stats, *before, *busiest;
	uint64_t stats_ns, before_ns;
};

static volatile sig_atomic_t top_ended;
static struct termios top_terminal;

bool top_parse_interval(const char *text, uint32_t *out_ms)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || !(seconds >= 0.1 && seconds <= 60))
		return false;
	*out_ms = (uint32_t)(seconds * 1000);
	return true;
}

static uint64_t top_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

__attribute__((format(printf, 2, 3))) static void top_line(const struct top *top, const char *fmt, ...)
{
	char line[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (strlen(line) > top->columns)
		line[top->columns] = 0;
	printf("%s%s\n", line, top->live ? TOP_CLEAR_LINE : "");
}

/* --- asking --- */

static int top_ask(struct top *top)
{
	char request[32];
	int code;

	json_decref(top->before);
	top->before = top->stats;
	top->before_ns = top->stats_ns;
	top->stats = NULL;
	code = ctl_ask("stats", top->control_path, &top->stats);
	top->stats_ns = top_now_ns();
	if (code)
		return code;
	json_decref(top->status);
	top->status = NULL;
	code = ctl_ask("status", top->control_path, &top->status);
	if (code)
		return code;
	json_decref(top->busiest);
	top->busiest = NULL;
	snprintf(request, sizeof(request), "top %u", top->options->count);
	return ctl_ask(request, top->control_path, &top->busiest);
}

static double top_rate(const struct top *top, const char *group, const char *key)
{
	json_int_t now = ctl_int(json_object_get(top->stats, group), key);
	json_int_t then = ctl_int(json_object_get(top->before, group), key);

	return (double)(now - then) * 1e9 / (double)(top->stats_ns - top->before_ns);
}

/* --- the screen --- */

static void top_tier(const struct top *top, const char *name, double packets, double up, double down, double opened,
		     json_int_t flows)
{
	char text[4][STATUS_NUMBER_BYTES];

	top_line(top, "%-10s %10s %12s %12s %14s %12lld", name, status_number(packets, text[0]),
		 status_number(up, text[1]), status_number(down, text[2]), status_number(opened, text[3]),
		 (long long)flows);
}

static void top_print_tiers(const struct top *top)
{
	const json_t *splice = json_object_get(top->stats, "splice"), *flows = json_object_get(top->status, "flows");

	top_line(top, "%-10s %10s %12s %12s %14s %12s", "TIER", "PACKETS/s", "UP bit/s", "DOWN bit/s", "ESTABLISHED/s",
		 "CONNECTIONS");
	top_tier(top, "spliced", top_rate(top, "bpf", "spliced_xdp") + top_rate(top, "bpf", "spliced_tc"),
		 (double)ctl_int(splice, "rate_up") * 8, (double)ctl_int(splice, "rate_down") * 8,
		 top_rate(top, "splice", "spliced"), ctl_int(flows, "spliced"));
	top_tier(top, "relayed", top_rate(top, "stack", "packets_in") + top_rate(top, "stack", "packets_out"),
		 top_rate(top, "stack", "bytes_from_clients") * 8, top_rate(top, "stack", "bytes_to_clients") * 8,
		 top_rate(top, "stack", "flows_established"), ctl_int(flows, "established"));
}

struct top_reason {
	char name[64];
	double rate;
};

static int top_by_rate(const void *a, const void *b)
{
	double rate_a = ((const struct top_reason *)a)->rate, rate_b = ((const struct top_reason *)b)->rate;

	return (rate_a < rate_b) - (rate_a > rate_b);
}

/* Counters of a group whose name begins with `prefix` and that have grown. */
static size_t top_gather(const struct top *top, const char *group, const char *prefix, const char *shown,
			 struct top_reason *reasons, size_t count)
{
	json_t *object = json_object_get(top->stats, group), *value;
	const char *key;

	json_object_foreach(object, key, value)
	{
		double rate = strncmp(key, prefix, strlen(prefix)) ? 0 : top_rate(top, group, key);

		if (rate <= 0 || count == TOP_REASONS)
			continue;
		snprintf(reasons[count].name, sizeof(reasons[count].name), "%s%s", shown, key + strlen(prefix));
		reasons[count++].rate = rate;
	}
	return count;
}

static void top_print_reasons(const struct top *top, const char *title, struct top_reason *reasons, size_t count)
{
	char line[256], number[STATUS_NUMBER_BYTES];
	int used = snprintf(line, sizeof(line), "%-10s", title);

	qsort(reasons, count, sizeof(*reasons), top_by_rate);
	if (!count)
		snprintf(line + used, sizeof(line) - (size_t)used, " none");
	for (size_t i = 0; i < count && used < (int)top->columns; i++)
		used += snprintf(line + used, sizeof(line) - (size_t)used, "%s %s %s", i ? "," : "", reasons[i].name,
				 status_number(reasons[i].rate, number));
	top_line(top, "%s", line);
}

static void top_print_drops(const struct top *top)
{
	struct top_reason reasons[TOP_REASONS];
	size_t count = top_gather(top, "bpf", "drop_", "", reasons, 0);

	count = top_gather(top, "drops", "", "stack ", reasons, count);
	top_print_reasons(top, "DROPS/s", reasons, count);
	count = top_gather(top, "bridge", "dial_", "dial ", reasons, 0);
	count = top_gather(top, "bridge", "reply_", "reply ", reasons, count);
	count = top_gather(top, "bridge", "handshake_", "handshake ", reasons, count);
	count = top_gather(top, "splice", "not_spliced_", "not spliced ", reasons, count);
	top_print_reasons(top, "REFUSALS/s", reasons, count);
}

static void top_print_flows(const struct top *top, size_t max)
{
	const json_t *list = json_object_get(top->busiest, "flows");
	/* what the wider screen has more goes to the two addresses */
	int width = top->columns > TOP_COLUMNS ? (int)(top->columns - TOP_COLUMNS) / 2 + 21 : 21;
	char up[STATUS_NUMBER_BYTES], down[STATUS_NUMBER_BYTES], age[STATUS_NUMBER_BYTES];

	top_line(top, "%-*s %-*s %-7s %8s %8s %8s", width, "BUSIEST CONNECTIONS", width, "TO", "TIER", "UP", "DOWN",
		 "AGE");
	for (size_t i = 0; i < json_array_size(list) && i < max; i++) {
		const json_t *flow = json_array_get(list, i);

		top_line(top, "%-*.*s %-*.*s %-7s %8s %8s %8s", width, width, ctl_string(flow, "client"), width, width,
			 ctl_string(flow, "destination"), ctl_string(flow, "tier"),
			 status_number((double)ctl_int(flow, "rate_from_client") * 8, up),
			 status_number((double)ctl_int(flow, "rate_to_client") * 8, down),
			 status_age((uint64_t)ctl_int(flow, "age_ms") / 1000, age));
	}
}

static void top_print_clients(const struct top *top, size_t max)
{
	const json_t *list = json_object_get(top->busiest, "clients");
	char up[STATUS_NUMBER_BYTES], down[STATUS_NUMBER_BYTES];

	top_line(top, "%-40s %12s %8s %8s", "BUSIEST CLIENTS", "CONNECTIONS", "UP", "DOWN");
	for (size_t i = 0; i < json_array_size(list) && i < max; i++) {
		const json_t *client = json_array_get(list, i);

		top_line(top, "%-40s %12lld %8s %8s", ctl_string(client, "client"), (long long)ctl_int(client, "flows"),
			 status_number((double)ctl_int(client, "rate_from_client") * 8, up),
			 status_number((double)ctl_int(client, "rate_to_client") * 8, down));
	}
}

static void top_print(const struct top *top)
{
	const char *state = ctl_string(top->status, "state"), *reason = ctl_string(top->status, "reason");
	size_t rows = top->options->count, flows = rows, clients = rows;

	if (top->live) {
		size_t room = top->lines > TOP_FIXED_LINES + 2 ? top->lines - TOP_FIXED_LINES : 2;

		clients = room / 3 < rows ? room / 3 : rows;
		flows = room - clients < rows ? room - clients : rows;
		fputs(TOP_HOME, stdout);
	}
	top_line(top, "%s%s%s", !strcmp(state, "failed") ? "not working" : state, *reason ? ": " : "", reason);
	top_line(top, "over %.1f s%s", (double)(top->stats_ns - top->before_ns) / 1e9, top->live ? "; q ends" : "");
	top_print_tiers(top);
	top_print_drops(top);
	top_line(top, "%s", "");
	top_print_flows(top, flows);
	top_line(top, "%s", "");
	top_print_clients(top, clients);
	if (top->live)
		fputs(TOP_CLEAR_BELOW, stdout);
	fflush(stdout);
}

/* --- the terminal --- */

static void top_on_signal(int number)
{
	(void)number;
	top_ended = 1;
}

static bool top_enter(void)
{
	const struct sigaction action = {.sa_handler = top_on_signal};
	struct termios quiet;

	if (tcgetattr(STDIN_FILENO, &top_terminal))
		return false;
	quiet = top_terminal;
	quiet.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	if (tcsetattr(STDIN_FILENO, TCSANOW, &quiet))
		return false;
	fputs(TOP_CLEAR_ALL, stdout);
	return true;
}

static void top_leave(void)
{
	tcsetattr(STDIN_FILENO, TCSANOW, &top_terminal);
}

static void top_measure(struct top *top)
{
	struct winsize size;

	top->columns = TOP_COLUMNS;
	top->lines = TOP_LINES;
	if (top->live && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col && size.ws_row) {
		top->columns = size.ws_col < 250 ? size.ws_col : 250;
		top->lines = size.ws_row;
	}
}

/* Waits for the next round; false: it was the last. */
static bool top_wait(const struct top *top)
{
	uint64_t until_ns = top->stats_ns + (uint64_t)top->options->interval_ms * 1000000;
	struct pollfd keys = {.fd = top->live ? STDIN_FILENO : -1, .events = POLLIN};
	uint64_t now_ns;
	char key;

	while (!top_ended && (now_ns = top_now_ns()) < until_ns) {
		int ready = poll(&keys, 1, (int)((until_ns - now_ns) / 1000000) + 1);

		if (ready > 0 && (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q'))
			return false;
	}
	return !top_ended;
}

static void top_release(struct top *top)
{
	json_decref(top->status);
	json_decref(top->stats);
	json_decref(top->before);
	json_decref(top->busiest);
}

static int top_print_json(struct top *top)
{
	int code = 0;

	if (top_wait(top))
		code = top_ask(top);
	if (!code) {
		json_dumpf(top->busiest, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	top_release(top);
	return code;
}

int top_run(const char *control_path, const struct top_options *options)
{
	struct top top = {.options = options, .control_path = control_path};
	bool more = true;
	int code;

	/* the first reading only serves to compare with */
	code = top_ask(&top);
	if (!code && options->as_json)
		return top_print_json(&top);
	top.live = !code && !options->once && isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) && top_enter();
	while (!code && more) {
		more = top_wait(&top);
		if (more)
			code = top_ask(&top);
		if (more && !code) {
			top_measure(&top);
			top_print(&top);
			more = top.live;
		}
	}
	if (top.live)
		top_leave();
	top_release(&top);
	return code;
}
