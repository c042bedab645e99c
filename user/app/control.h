/* SPDX-License-Identifier: MIT */
/*
 * The control socket: a person's or a script's window into the running
 * daemon. One request of one line (`status`, `stats`, `flows`) per connection,
 * answered by one JSON text. Served on the main thread; only root may connect.
 */
#ifndef SOCKSPLICE_CONTROL_H
#define SOCKSPLICE_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "config.h"

struct worker;
struct control;

#define CONTROL_REQUEST_BYTES 64

enum control_request { CONTROL_STATUS, CONTROL_STATS, CONTROL_FLOWS, CONTROL_INVALID };

/* The request that a line (without its end) names. */
enum control_request control_parse(const char *line, size_t bytes);

/*
 * Binds the socket (mode 0600). A socket file that nobody listens on is replaced; -EADDRINUSE when a daemon does.
 * 0 or -errno with `error` for a person.
 */
int control_create(struct control **out, const struct config *config, char *error, uint32_t error_bytes);
/* Serves requests about `worker` until `stop_fd` is readable. Until then they wait. */
void control_serve(struct control *control, struct worker *worker, int stop_fd);
void control_destroy(struct control *control);

#endif
