/* SPDX-License-Identifier: MIT */
/* The directory on a bpffs that keeps maps and links alive while no daemon runs. */
#ifndef SOCKSPLICE_PIN_H
#define SOCKSPLICE_PIN_H

#include <stdbool.h>
#include <stdint.h>

#define PIN_PATH_BYTES 4096

/*
 * Makes the directory and locks it for this process; /sys/fs/bpf is mounted if it should hold it and is not. Returns
 * a descriptor that is to be kept open (the lock ends with it), or -errno with a message for a person: -EBUSY another
 * daemon uses it, -EOPNOTSUPP it is not on a bpffs.
 */
int pin_open(const char *directory, char *error, uint32_t error_bytes);
/*
 * Would pin_open() find a bpffs? Changes nothing. 0, -EOPNOTSUPP when the directory is not to be on one (*will_mount:
 * pin_open() is going to mount it there), or -errno.
 */
int pin_probe(const char *directory, bool *will_mount);
/* DIRECTORY/NAME into `out` (PIN_PATH_BYTES). */
void pin_path(const char *directory, const char *name, char *out);
/* Descriptor of what is pinned there, or -errno: -ENOENT nothing. */
int pin_get(const char *directory, const char *name);
/* Pins an object, replacing what had the name. 0 or -errno. */
int pin_put(const char *directory, const char *name, int fd);
void pin_remove(const char *directory, const char *name);
/* Calls `each` with the name of everything that is pinned there. */
void pin_list(const char *directory, void (*each)(void *ctx, const char *name), void *ctx);
/* Removes the directory if it is empty. */
void pin_remove_directory(const char *directory);
/* Identity of the network namespace that this process is in; 0: unknown (kernel before 5.14). */
uint64_t pin_netns_cookie(void);

#endif
