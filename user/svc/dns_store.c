/* SPDX-License-Identifier: MIT */
/*
 * The file: a line that says what it is and for which ranges, then one line
 * per name (dnsmap_save()). While it is copied out slice by slice names come
 * and go, so two lines may contradict each other; the later one is refused when
 * it is read.
 *
 * One slice is on its way at a time: the data path fills `slice` while the
 * thread is at rest, and hands it over by `posted`.
 */
#include "dns_store.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

#define DNS_STORE_FILE "names"
#define DNS_STORE_MAGIC "socksplice-names 1"
#define DNS_STORE_SLICE_ENTRIES 512
#define DNS_STORE_SLICE_BYTES (DNS_STORE_SLICE_ENTRIES * (DNSMAP_LINE_BYTES + 1))
#define DNS_STORE_PATH_BYTES (sizeof(((struct config *)0)->state) + 16)

struct dns_store {
	char path[DNS_STORE_PATH_BYTES], temporary[DNS_STORE_PATH_BYTES],
		directory[sizeof(((struct config *)0)->state)];
	char ranges[2 * (INET6_ADDRSTRLEN + 8)];
	char *slice;
	int wake_fd;

	/* the data path's */
	bool saving;
	uint32_t cursor;

	/* shared, under `lock` */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t slice_bytes;
	bool posted, first, last, ending;
	bool thread_running;
	struct dns_store_counters counters;

	/* the thread's */
	int fd;
	int error; /* of the file being written */
};

static void dns_store_format_prefix(const struct config_prefix *prefix, char *out, size_t bytes)
{
	bool ipv4 = addr_is_ipv4(&prefix->addr);
	char text[INET6_ADDRSTRLEN];

	inet_ntop(ipv4 ? AF_INET : AF_INET6, ipv4 ? (const void *)&prefix->addr.words[3] : prefix->addr.bytes, text,
		  sizeof(text));
	snprintf(out, bytes, "%s/%d", text, prefix->bits - (ipv4 ? 96 : 0));
}

/* --- the thread --- */

static int dns_store_write(int fd, const char *data, size_t bytes)
{
	while (bytes) {
		ssize_t written = write(fd, data, bytes);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		data += written;
		bytes -= (size_t)written;
	}
	return 0;
}

/* The name is on disk when its directory is. */
static int dns_store_sync_directory(const struct dns_store *store)
{
	int fd = open(store->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 || fsync(fd) ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return err;
}

static int dns_store_finish(struct dns_store *store)
{
	int err = fsync(store->fd) ? -errno : 0;

	if (close(store->fd) && !err)
		err = -errno;
	store->fd = -1;
	if (!err && rename(store->temporary, store->path))
		err = -errno;
	return err ? err : dns_store_sync_directory(store);
}

/* What the slice says to do; an error is told once per file. */
static void dns_store_put(struct dns_store *store, bool first, bool last, size_t bytes)
{
	if (first) {
		if (store->fd >= 0)
			close(store->fd);
		store->fd = open(store->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		store->error = store->fd < 0 ? -errno : 0;
	}
	if (!store->error)
		store->error = dns_store_write(store->fd, store->slice, bytes);
	if (!last)
		return;
	if (!store->error)
		store->error = dns_store_finish(store);
	if (!store->error)
		return;
	log_warn("saving names to %s: %s", store->path, strerror(-store->error));
	if (store->fd >= 0)
		close(store->fd);
	store->fd = -1;
}

static void *dns_store_run(void *arg)
{
	struct dns_store *store = arg;

	pthread_setname_np(pthread_self(), "socksplice-name");
	pthread_mutex_lock(&store->lock);
	for (;;) {
		while (!store->posted && !store->ending)
			pthread_cond_wait(&store->changed, &store->lock);
		if (!store->posted)
			break;
		pthread_mutex_unlock(&store->lock);
		/* nobody touches the slice while it is posted */
		dns_store_put(store, store->first, store->last, store->slice_bytes);
		pthread_mutex_lock(&store->lock);
		store->counters.saved += store->last && !store->error;
		store->counters.errors += store->last && store->error;
		store->posted = false;
		pthread_cond_signal(&store->changed);
		eventfd_write(store->wake_fd, 1);
	}
	pthread_mutex_unlock(&store->lock);
	return NULL;
}

/* --- its beginning and end --- */

static int dns_store_make_directory(const struct dns_store *store, char *error, uint32_t error_bytes)
{
	int err = mkdir(store->directory, 0700) && errno != EEXIST ? -errno : 0;

	if (!err && access(store->directory, W_OK | X_OK))
		err = -errno;
	if (err)
		snprintf(error, error_bytes,
			 "state: %s: %s; a directory that the daemon may write to is needed there, for the names that "
			 "`dns` has given addresses",
			 store->directory, strerror(-err));
	return err;
}

int dns_store_create(struct dns_store **out, const struct config *config, int wake_fd, char *error,
		     uint32_t error_bytes)
{
	struct dns_store *store = calloc(1, sizeof(*store));
	char mapped[INET6_ADDRSTRLEN + 8], mapped6[INET6_ADDRSTRLEN + 8];
	int err;

	if (!store)
		return -ENOMEM;
	store->fd = -1;
	store->wake_fd = wake_fd;
	snprintf(store->directory, sizeof(store->directory), "%s", config->state);
	snprintf(store->path, sizeof(store->path), "%s/" DNS_STORE_FILE, config->state);
	snprintf(store->temporary, sizeof(store->temporary), "%s/" DNS_STORE_FILE ".new", config->state);
	dns_store_format_prefix(&config->dns.mapped, mapped, sizeof(mapped));
	dns_store_format_prefix(&config->dns.mapped6, mapped6, sizeof(mapped6));
	snprintf(store->ranges, sizeof(store->ranges), "%s %s", mapped, mapped6);
	pthread_mutex_init(&store->lock, NULL);
	pthread_cond_init(&store->changed, NULL);
	err = dns_store_make_directory(store, error, error_bytes);
	store->slice = malloc(DNS_STORE_SLICE_BYTES);
	if (!err && !store->slice)
		err = -ENOMEM;
	if (!err)
		err = -pthread_create(&store->thread, NULL, dns_store_run, store);
	if (err) {
		dns_store_destroy(store);
		return err;
	}
	store->thread_running = true;
	*out = store;
	return 0;
}

void dns_store_destroy(struct dns_store *store)
{
	if (!store)
		return;
	if (store->thread_running) {
		pthread_mutex_lock(&store->lock);
		store->ending = true;
		pthread_cond_signal(&store->changed);
		pthread_mutex_unlock(&store->lock);
		pthread_join(store->thread, NULL);
	}
	if (store->fd >= 0)
		close(store->fd);
	pthread_cond_destroy(&store->changed);
	pthread_mutex_destroy(&store->lock);
	free(store->slice);
	free(store);
}

/* --- saving --- */

static size_t dns_store_fill(struct dns_store *store, const struct dnsmap *map, bool *more)
{
	size_t bytes = 0;

	if (!store->cursor)
		bytes = (size_t)snprintf(store->slice, DNS_STORE_SLICE_BYTES, DNS_STORE_MAGIC " %s %u\n", store->ranges,
					 dnsmap_next_number(map));
	return bytes + dnsmap_save(map, &store->cursor, DNS_STORE_SLICE_ENTRIES, store->slice + bytes,
				   DNS_STORE_SLICE_BYTES - bytes, more);
}

void dns_store_save_some(struct dns_store *store, const struct dnsmap *map, bool start)
{
	bool more = false;

	pthread_mutex_lock(&store->lock);
	if (!store->posted && (store->saving || start)) {
		if (!store->saving)
			store->cursor = 0;
		store->first = !store->cursor;
		store->slice_bytes = dns_store_fill(store, map, &more);
		store->last = !more;
		store->saving = more;
		store->posted = true;
		pthread_cond_signal(&store->changed);
	}
	pthread_mutex_unlock(&store->lock);
}

bool dns_store_is_saving(const struct dns_store *store)
{
	return store->saving;
}

/* Until the thread is at rest; what became of its file. */
static int dns_store_wait(struct dns_store *store)
{
	int err;

	pthread_mutex_lock(&store->lock);
	while (store->posted)
		pthread_cond_wait(&store->changed, &store->lock);
	err = store->error;
	pthread_mutex_unlock(&store->lock);
	return err;
}

int dns_store_save_all(struct dns_store *store, const struct dnsmap *map)
{
	/* one that was begun is begun again */
	dns_store_wait(store);
	store->saving = false;
	dns_store_save_some(store, map, true);
	while (store->saving) {
		dns_store_wait(store);
		dns_store_save_some(store, map, false);
	}
	return dns_store_wait(store);
}

/* --- loading --- */

/* The first line: *next, or false: another file, or for other ranges. */
static bool dns_store_read_header(const struct dns_store *store, const char *line, uint32_t *next)
{
	char wanted[sizeof(DNS_STORE_MAGIC) + sizeof(store->ranges) + 2];
	size_t bytes = (size_t)snprintf(wanted, sizeof(wanted), DNS_STORE_MAGIC " %s ", store->ranges);
	unsigned long value;
	char *end;

	if (strncmp(line, wanted, bytes) != 0 || line[bytes] < '0' || line[bytes] > '9')
		return false;
	value = strtoul(line + bytes, &end, 10);
	if (*end || value > UINT32_MAX)
		return false;
	*next = (uint32_t)value;
	return true;
}

/* A line without its end; false at the end of the file. One that is too long, or lacks its end, is empty: a bad one. */
static bool dns_store_read_line(FILE *file, char *line, size_t bytes)
{
	size_t length = 0;
	int c = fgetc(file);

	if (c == EOF)
		return false;
	for (; c != EOF && c != '\n'; c = fgetc(file)) {
		if (length < bytes)
			line[length] = (char)c;
		length++;
	}
	line[c == '\n' && length < bytes ? length : 0] = 0;
	return true;
}

void dns_store_load(struct dns_store *store, struct dnsmap *map)
{
	char line[DNSMAP_LINE_BYTES + 64];
	FILE *file = fopen(store->path, "re");
	uint32_t next = 1;

	if (!file) {
		if (errno != ENOENT)
			log_warn("%s: %s; names that were given addresses before are lost", store->path,
				 strerror(errno));
		return;
	}
	if (!dns_store_read_line(file, line, sizeof(line)) || !dns_store_read_header(store, line, &next)) {
		log_warn("%s: not a file of names for %s; it will be replaced", store->path, store->ranges);
		fclose(file);
		return;
	}
	while (dns_store_read_line(file, line, sizeof(line))) {
		if (dnsmap_load(map, line))
			store->counters.loaded++;
		else
			store->counters.lines_refused++;
	}
	fclose(file);
	dnsmap_load_end(map, next);
	log_info("%llu names of an earlier daemon have their addresses again",
		 (unsigned long long)store->counters.loaded);
	if (store->counters.lines_refused)
		log_warn("%s: %llu lines made no sense and were left out", store->path,
			 (unsigned long long)store->counters.lines_refused);
}

void dns_store_counters(struct dns_store *store, struct dns_store_counters *out)
{
	pthread_mutex_lock(&store->lock);
	*out = store->counters;
	pthread_mutex_unlock(&store->lock);
}
