/* SPDX-License-Identifier: MIT */
#include "config_password.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

/* One byte more than a password may have, and the end of its line. */
#define CONFIG_PASSWORD_READ_BYTES (CONFIG_MAX_CREDENTIAL + 2)

/* The first line of `text`, which has `bytes`, into `out`; NULL, or why it is no password. */
static const char *config_first_line(const char *text, size_t bytes, char *out)
{
	const char *end = memchr(text, '\n', bytes);
	size_t len = end ? (size_t)(end - text) : bytes;

	if (len && text[len - 1] == '\r')
		len--;
	if (!len)
		return "its first line is empty; the password is expected there";
	if (len > CONFIG_MAX_CREDENTIAL)
		return "its first line is too long; at most 255 bytes are allowed";
	if (memchr(text, 0, len))
		return "its first line has a zero byte";
	memcpy(out, text, len);
	out[len] = 0;
	return NULL;
}

static int config_read_password(const char *name, struct config_upstream *upstream, struct config_error *error)
{
	/* not to wait for a writer, if it is a FIFO */
	int fd = open(upstream->password_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK), err = fd < 0 ? -errno : 0;
	char text[CONFIG_PASSWORD_READ_BYTES];
	const char *why = NULL;
	struct stat info;
	ssize_t got = 0;

	if (!err && fstat(fd, &info))
		err = -errno;
	if (!err && !S_ISREG(info.st_mode))
		why = "it is no plain file";
	if (!err && !why) {
		got = read(fd, text, sizeof(text));
		err = got < 0 ? -errno : 0;
	}
	if (!err && !why)
		why = config_first_line(text, got > 0 ? (size_t)got : 0, upstream->password);
	if (!err && !why && info.st_mode & (S_IRGRP | S_IROTH))
		log_warn("upstream %s: password-file %s may be read by others; chmod 600 it", upstream->name,
			 upstream->password_file);
	explicit_bzero(text, sizeof(text));
	if (fd >= 0)
		close(fd);
	if (!err && !why)
		return 0;
	snprintf(error->text, sizeof(error->text), "%s: upstreams: \"%s\": password-file %s: %s", name, upstream->name,
		 upstream->password_file, why ? why : strerror(-err));
	return err ? err : -EINVAL;
}

int config_read_passwords(const char *name, struct config *config, struct config_error *error)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < config->upstream_count; i++)
		if (config->upstreams[i].password_file[0])
			err = config_read_password(name, &config->upstreams[i], error);
	return err;
}
