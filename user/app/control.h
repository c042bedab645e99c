/* SPDX-License-Identifier: MIT */
/*
 * The control socket: a person's or a script's window into the running
 * daemon. One request of one line per connection (`status`, `stats`, `flows`,
 * `stop`, `stop-flush`, `trace` [ADDRESS], `trace-read`, `top` [N],
 * `upstreams`, `reload`), answered by one JSON text. Served on the main
 * thread; only root may connect.
 */
#ifndef SOCKSPLICE_CONTROL_H
#define SOCKSPLICE_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "config.h"

struct observe;
struct worker;
struct control;

#define CONTROL_REQUEST_BYTES 64

enum control_request {
	CONTROL_STATUS,
	CONTROL_STATS,
	CONTROL_FLOWS,
	CONTROL_STOP,
	CONTROL_STOP_FLUSH,
	CONTROL_TRACE, /* may be followed by a blank and an address */
	CONTROL_TRACE_READ,
	CONTROL_UPSTREAMS,
	CONTROL_TOP, /* may be followed by a blank and a number */
	CONTROL_RELOAD,
	CONTROL_INVALID
};

/* The request that a line (without its end) names. */
enum control_request control_parse(const char *line, size_t bytes);

enum control_end { CONTROL_END_SIGNAL, CONTROL_END_STOP, CONTROL_END_FLUSH };

/*
 * Binds the socket (mode 0600). A socket file that nobody listens on is replaced; -EADDRINUSE when a daemon does.
 * 0 or -errno with `error` for a person.
 */
int control_create(struct control **out, struct config *config, const char *config_path, char *error,
		   uint32_t error_bytes);
/*
 * Serves requests about `worker` until `stop_fd` is readable, or a request asks for the end. Until then they wait. A
 * signal that `reload_fd` (a signalfd) brings reads `config_path` again, as the request does, and opens the log and
 * `log.flows` again.
 */
enum control_end control_serve(struct control *control, struct worker *worker, struct observe *observe, int stop_fd,
			       int reload_fd);
void control_destroy(struct control *control);

#endif
