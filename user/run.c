/* SPDX-License-Identifier: MIT */
#include "run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "control.h"
#include "honour.h"
#include "log.h"
#include "logsink.h"
#include "metrics.h"
#include "observe.h"
#include "worker.h"

#define RUN_ERROR_BYTES 512

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
	if (config->upstream_count == 1)
		log_info("ready: TCP and UDP go to upstream %s", config->upstreams[0].name);
	else
		log_info("ready: TCP and UDP go to %u upstreams, by weight", config->upstream_count);
}

/* What looks at the worker, and ends before it. `metrics` listens already, if it is wanted. */
static int run_serve(const struct config *config, struct control *control, struct worker *worker,
		     struct metrics *metrics, int stop_fd, int reload_fd)
{
	struct observe *observe;
	bool flush;
	int err = observe_create(&observe, worker);

	if (err) {
		log_error("the thread that watches the daemon: %s", strerror(-err));
		return err;
	}
	err = metrics_serve(metrics, worker, observe);
	if (err) {
		log_error("metrics: cannot serve: %s", strerror(-err));
		observe_destroy(observe);
		return err;
	}
	run_log_ready(config, worker);
	sd_notify(0, "READY=1");
	flush = control_serve(control, worker, observe, stop_fd, reload_fd) == CONTROL_END_FLUSH;
	sd_notify(0, "STOPPING=1");
	log_info(flush ? "stopping: all connections are reset, programs and pins are removed"
		       : "stopping: relayed connections are reset, spliced ones live on");
	metrics_stop(metrics);
	observe_destroy(observe);
	worker_stop(worker, flush);
	return 0;
}

/* From a control socket on: nothing is touched while another daemon has it. */
static int run_worker(struct config *config, struct control *control, struct metrics *metrics, int stop_fd,
		      int reload_fd)
{
	char error[RUN_ERROR_BYTES] = "";
	struct worker *worker;
	int err;

	if (worker_create(&worker, config, error, sizeof(error))) {
		log_error("%s", error);
		return 1;
	}
	err = worker_start(worker, error, sizeof(error));
	if (err)
		log_error("%s", error);
	else
		err = run_serve(config, control, worker, metrics, stop_fd, reload_fd);
	worker_destroy(worker);
	return err ? 1 : 0;
}

int run_daemon(struct config *config, const char *config_path)
{
	char error[RUN_ERROR_BYTES] = "";
	struct control *control;
	struct metrics *metrics;
	int stop_fd, reload_fd, code = 1;

	if (logsink_open(config))
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
		honour_warn();
		if (metrics_listen(&metrics, config, error, sizeof(error)))
			log_error("%s", error);
		else
			code = run_worker(config, control, metrics, stop_fd, reload_fd);
		metrics_destroy(metrics);
		control_destroy(control);
	}
	close(stop_fd);
	close(reload_fd);
	return code;
}
