/* SPDX-License-Identifier: MIT */
#include "run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "log.h"
#include "worker.h"

#define RUN_ERROR_BYTES 512
/* A line that repeats, whatever causes it, is written this often per second at most. */
#define RUN_LINES_PER_SECOND 20

static FILE *run_log_file;

static void run_log(enum log_level level, const char *line)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	static time_t second;
	static unsigned int in_second;
	struct timespec now;
	struct tm local;
	char stamp[32];

	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec != second) {
		if (in_second > RUN_LINES_PER_SECOND)
			fprintf(run_log_file, "... %u lines left out\n", in_second - RUN_LINES_PER_SECOND);
		second = now.tv_sec;
		in_second = 0;
	}
	/* start-up says much in its first second; only warnings of traffic need the limit */
	if (++in_second > RUN_LINES_PER_SECOND && level <= LOG_LEVEL_WARN)
		return;
	localtime_r(&now.tv_sec, &local);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &local);
	fprintf(run_log_file, "%s.%03ld %-5s %s\n", stamp, now.tv_nsec / 1000000, names[level], line);
	fflush(run_log_file);
}

static int run_open_log(const struct config *config)
{
	run_log_file = stderr;
	if (strcmp(config->log_file, "stderr")) {
		run_log_file = fopen(config->log_file, "ae");
		if (!run_log_file) {
			fprintf(stderr, "socksplice: log file %s: %s\n", config->log_file, strerror(errno));
			return -errno;
		}
	}
	log_set_sink(run_log, (enum log_level)config->log_level);
	return 0;
}

/* Each proxied connection needs a descriptor; packet memory of unprivileged kernels counts as locked. */
static void run_raise_limits(void)
{
	struct rlimit files, locked = {RLIM_INFINITY, RLIM_INFINITY};

	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
		log_info("descriptors: up to %llu, one per proxied connection", (unsigned long long)files.rlim_max);
	}
	if (setrlimit(RLIMIT_MEMLOCK, &locked))
		log_debug("cannot raise RLIMIT_MEMLOCK: %s", strerror(errno));
}

/* Blocked in all threads, read from a descriptor in one. `second` 0: none. */
static int run_signal_fd(int first, int second)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, first);
	if (second)
		sigaddset(&set, second);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static void run_log_ready(const struct config *config, const struct worker *worker)
{
	for (uint32_t i = 0; i < worker_port_count(worker); i++) {
		const struct worker_port *port = worker_port(worker, i);

		if (port->hook == CONFIG_HOOK_TC)
			log_info("interface %s: hook tc (%s), packets for user space %s", port->name, port->hook_reason,
				 port->reason);
		else
			log_info("interface %s: hook xdp (%s), XDP %s, AF_XDP %s, %u queue(s): %s", port->name,
				 port->hook_reason, port->xdp, port->xsk, port->queues, port->reason);
	}
	if (config->on_down == CONFIG_ON_DOWN_PASS)
		log_warn("on-down: pass: while no daemon runs, what should be proxied goes out directly");
	log_info("ready: TCP and UDP go to upstream %s", config->upstreams[0].name);
}

/* From a control socket on: nothing is touched while another daemon has it. */
static int run_worker(struct config *config, struct control *control, int stop_fd, int reload_fd)
{
	char error[RUN_ERROR_BYTES] = "";
	struct worker *worker;
	bool flush;

	if (worker_create(&worker, config, error, sizeof(error))) {
		log_error("%s", error);
		return 1;
	}
	if (worker_start(worker, error, sizeof(error))) {
		log_error("%s", error);
		worker_destroy(worker);
		return 1;
	}
	run_log_ready(config, worker);
	sd_notify(0, "READY=1");
	flush = control_serve(control, worker, stop_fd, reload_fd) == CONTROL_END_FLUSH;
	sd_notify(0, "STOPPING=1");
	log_info(flush ? "stopping: all connections are reset, programs and pins are removed"
		       : "stopping: relayed connections are reset, spliced ones live on");
	worker_stop(worker, flush);
	worker_destroy(worker);
	return 0;
}

int run_daemon(struct config *config, const char *config_path)
{
	char error[RUN_ERROR_BYTES] = "";
	struct control *control;
	int stop_fd, reload_fd, code = 1;

	if (run_open_log(config))
		return 1;
	signal(SIGPIPE, SIG_IGN);
	stop_fd = run_signal_fd(SIGTERM, SIGINT);
	reload_fd = run_signal_fd(SIGHUP, 0);
	if (stop_fd < 0 || reload_fd < 0) {
		log_error("signalfd: %s", strerror(errno));
		return 1;
	}
	run_raise_limits();
	if (control_create(&control, config, config_path, error, sizeof(error))) {
		log_error("%s", error);
	} else {
		code = run_worker(config, control, stop_fd, reload_fd);
		control_destroy(control);
	}
	close(stop_fd);
	close(reload_fd);
	return code;
}
