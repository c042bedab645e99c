/* SPDX-License-Identifier: MIT */
#include "pin.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "log.h"

#ifndef BPF_FS_MAGIC
#define BPF_FS_MAGIC 0xcafe4a11
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define PIN_USUAL_MOUNT "/sys/fs/bpf"

static bool pin_on_bpffs(const char *path)
{
	struct statfs info;

	return !statfs(path, &info) && (unsigned long)info.f_type == BPF_FS_MAGIC;
}

/* Every distribution mounts it there at boot; a bare machine or a container may not have done so. */
static void pin_mount_usual(const char *directory)
{
	if (strncmp(directory, PIN_USUAL_MOUNT "/", sizeof(PIN_USUAL_MOUNT)) || pin_on_bpffs(PIN_USUAL_MOUNT))
		return;
	if (mount("bpf", PIN_USUAL_MOUNT, "bpf", 0, "mode=0700"))
		log_warn("mounting a bpffs on %s: %s", PIN_USUAL_MOUNT, strerror(errno));
	else
		log_info("mounted a bpffs on %s", PIN_USUAL_MOUNT);
}

/* The directory and those above it, as far as they lie on the bpffs. */
static int pin_make_directories(const char *directory)
{
	char path[PIN_PATH_BYTES];

	snprintf(path, sizeof(path), "%s", directory);
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(path, 0700) && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
}

int pin_open(const char *directory, char *error, uint32_t error_bytes)
{
	int fd, err;

	pin_mount_usual(directory);
	err = pin_make_directories(directory);
	if (err) {
		snprintf(error, error_bytes, "bpf-pin: making %s: %s; is a bpffs mounted there? mount -t bpf bpf %s",
			 directory, strerror(-err), PIN_USUAL_MOUNT);
		return err;
	}
	if (!pin_on_bpffs(directory)) {
		rmdir(directory);
		snprintf(error, error_bytes,
			 "bpf-pin: %s is not on a bpffs; mount one: mount -t bpf bpf %s, or name a directory on one",
			 directory, PIN_USUAL_MOUNT);
		return -EOPNOTSUPP;
	}
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		err = -errno;
		snprintf(error, error_bytes, "bpf-pin: %s: %s", directory, strerror(-err));
		return err;
	}
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		close(fd);
		snprintf(error, error_bytes,
			 "bpf-pin: %s is used by another running daemon; stop it, or give each its own bpf-pin",
			 directory);
		return -EBUSY;
	}
	return fd;
}

int pin_probe(const char *directory, bool *will_mount)
{
	char path[PIN_PATH_BYTES];
	struct stat info;

	*will_mount = false;
	if (snprintf(path, sizeof(path), "%s", directory) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	/* what is to be made lies where the nearest directory lies that is there */
	while (stat(path, &info)) {
		char *slash = strrchr(path, '/');

		if (errno != ENOENT || !slash)
			return -errno;
		slash[slash == path] = 0;
	}
	if (pin_on_bpffs(path))
		return 0;
	*will_mount = !strncmp(directory, PIN_USUAL_MOUNT "/", sizeof(PIN_USUAL_MOUNT));
	return -EOPNOTSUPP;
}

void pin_path(const char *directory, const char *name, char *out)
{
	snprintf(out, PIN_PATH_BYTES, "%s/%s", directory, name);
}

int pin_get(const char *directory, const char *name)
{
	char path[PIN_PATH_BYTES];
	int fd;

	pin_path(directory, name, path);
	fd = bpf_obj_get(path);
	return fd < 0 ? -errno : fd;
}

int pin_put(const char *directory, const char *name, int fd)
{
	char path[PIN_PATH_BYTES];

	pin_path(directory, name, path);
	unlink(path);
	return bpf_obj_pin(fd, path) ? -errno : 0;
}

void pin_remove(const char *directory, const char *name)
{
	char path[PIN_PATH_BYTES];

	pin_path(directory, name, path);
	unlink(path);
}

void pin_list(const char *directory, void (*each)(void *ctx, const char *name), void *ctx)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			each(ctx, entry->d_name);
	closedir(dir);
}

void pin_remove_directory(const char *directory)
{
	rmdir(directory);
}

uint64_t pin_netns_cookie(void)
{
	uint64_t cookie = 0;
	socklen_t bytes = sizeof(cookie);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &bytes))
		cookie = 0;
	close(fd);
	return cookie;
}
