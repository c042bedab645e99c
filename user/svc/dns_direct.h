/* SPDX-License-Identifier: MIT */
/*
 * Names that go direct, answered by the host's resolver (hosts file, name
 * servers of resolv.conf) through c-ares, on a thread of its own: c-ares reads
 * files, allocates, and opens and closes sockets as it likes, and none of that
 * may hold up packets.
 */
#ifndef SOCKSPLICE_DNS_DIRECT_H
#define SOCKSPLICE_DNS_DIRECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "dns.h"

/* Questions on their way, and answers that wait to be taken. */
#define DNS_DIRECT_PENDING 1024
/* Addresses of one answer; more are left out. */
#define DNS_DIRECT_ADDRS 16

struct dns_direct;

struct dns_direct_question {
	uint32_t slot; /* the asker's word, as is the generation: they come back with the answer */
	uint16_t generation;
	uint16_t type;
	char name[DNS_TEXT_BYTES];
};

struct dns_direct_answer {
	uint32_t slot;
	uint16_t generation;
	uint8_t rcode;
	uint8_t count;
	uint32_t ttl;                        /* least of the addresses, seconds */
	struct addr addrs[DNS_DIRECT_ADDRS]; /* of A and AAAA */
	uint8_t *message; /* other types: what the name server said; to be freed. NULL: rcode alone */
	size_t message_bytes;
};

/* `wake_fd`: an eventfd, written to when answers wait. 0 or -errno. */
int dns_direct_create(struct dns_direct **out, int wake_fd);
/* Also right for NULL. Ends the thread; what it was asked is not answered. */
void dns_direct_destroy(struct dns_direct *direct);
/* The name as dns_name_text() makes it. Never waits. false: too many are on their way. */
bool dns_direct_ask(struct dns_direct *direct, const struct dns_direct_question *question);
/* One answer; false: none is there. */
bool dns_direct_take(struct dns_direct *direct, struct dns_direct_answer *out);

#endif
