/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Queries come up like any packet that user space must see: the programs
 * recognise them (dns.bpf.h), and the packet stack delivers datagrams and
 * terminates TCP. So there is no socket, no address and no route to be set up
 * and taken away again, `listen` and `hijack` are one path, an answer comes
 * from the very address that was asked, and while no daemon runs queries meet
 * `on-down` like all that would be proxied.
 *
 * What becomes of a query is decided by its name (domains.h):
 *
 *   proxy    A and AAAA: the fake addresses of the name (dnsmap.h), for DNS_SERVICE_TTL; other types: nothing, with an
 *            SOA (RFC 2308), never asked anywhere
 *   direct   the host's resolver is asked (dns_direct.h); addresses that it gives may be reached directly by who asked
 *   reject   NXDOMAIN: unlike REFUSED it does not make clients ask another server
 *   drop     no answer
 *
 * and before that: PTR of a fake address tells its name, localhost is answered
 * here (RFC 6761 6.3), names that no host can have do not exist.
 *
 * Only direct names wait for anybody. Their queries stand in `pending`, bounded
 * in all and by a share per client; the slot's number and generation go with
 * the question and come back with the answer.
 *
 * The map is saved in the background: DNS_SERVICE_SAVE_DELAY_NS after a change,
 * and not more often than every DNS_SERVICE_SAVE_GAP_NS. What a crash loses is
 * what was asked in that time; its addresses are not given to other names for
 * long (dnsmap.c).
 */
#include "dns_service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "dns_service_priv.h"
#include "log.h"
#include "parse.h"
#include "siphash.h"

/* Of fake addresses, and of what is said not to exist. */
#define DNS_SERVICE_TTL 60
/* Longest time that a client may remember a direct name: then it asks again, which renews its way there. */
#define DNS_SERVICE_DIRECT_TTL 3600
/* Clients use an address for longer than they should. */
#define DNS_SERVICE_DIRECT_EXTRA_S 60
#define DNS_SERVICE_SAVE_DELAY_NS 500000000ull
#define DNS_SERVICE_SAVE_GAP_NS 5000000000ull
#define SECOND_NS 1000000000ull
#define DNS_SERVICE_PENDING_NONE UINT32_MAX

/* --- sending --- */

static size_t dns_service_limit(const struct dns_asker *asker, const struct dns_query *query)
{
	return asker->tcp ? DNS_TCP_BYTES : dns_udp_limit(query);
}

/* What dns_answer_begin() may write to. */
static uint8_t *dns_service_buffer(struct dns_service *service)
{
	return service->answer + DNS_ANSWER_OFFSET;
}

static void dns_service_send(struct dns_service *service, const struct dns_asker *asker, size_t bytes)
{
	const struct iovec payload = {dns_service_buffer(service), bytes};

	if (asker->tcp)
		dns_tcp_answer(service, asker, bytes);
	else if (!stack_send_datagram(service->stack, asker->port, &asker->link, &payload))
		service->counters.not_sent++;
}

static void dns_service_finish(struct dns_service *service, const struct dns_asker *asker, struct dns_answer *answer)
{
	size_t bytes = dns_answer_end(answer);

	service->counters.answers_truncated += answer->truncated;
	dns_service_send(service, asker, bytes);
}

static void dns_service_begin(struct dns_service *service, const struct dns_asker *asker, const struct dns_query *query,
			      enum dns_rcode rcode, struct dns_answer *answer)
{
	dns_answer_begin(answer, query, rcode, dns_service_buffer(service), dns_service_limit(asker, query));
}

static void dns_service_say(struct dns_service *service, const struct dns_asker *asker, const struct dns_query *query,
			    enum dns_rcode rcode)
{
	struct dns_answer answer;

	dns_service_begin(service, asker, query, rcode, &answer);
	dns_service_finish(service, asker, &answer);
}

/* Nothing is there, or no such name: and that may be remembered. */
static void dns_service_say_nothing(struct dns_service *service, const struct dns_asker *asker,
				    const struct dns_query *query, enum dns_rcode rcode)
{
	struct dns_answer answer;

	dns_service_begin(service, asker, query, rcode, &answer);
	dns_answer_soa(&answer, DNS_SERVICE_TTL);
	dns_service_finish(service, asker, &answer);
}

/* --- names that are proxied --- */

static void dns_service_answer_mapped(struct dns_service *service, const struct dns_asker *asker,
				      const struct dns_query *query, const char *name)
{
	struct addr ipv4, ipv6;
	struct dns_answer answer;
	uint32_t entry;

	/* of ANY a part is enough (RFC 8482 4.1) */
	if (query->type != DNS_TYPE_A && query->type != DNS_TYPE_AAAA && query->type != DNS_TYPE_ANY) {
		service->counters.answers_empty++;
		dns_service_say_nothing(service, asker, query, DNS_NOERROR);
		return;
	}
	entry = dnsmap_give(service->map, name);
	if (entry == DNSMAP_NONE) {
		service->counters.map_full++;
		dns_service_say(service, asker, query, DNS_SERVFAIL);
		return;
	}
	dnsmap_addrs(service->map, entry, &ipv4, &ipv6);
	service->counters.answers_mapped++;
	dns_service_begin(service, asker, query, DNS_NOERROR, &answer);
	dns_answer_addr(&answer, query->type == DNS_TYPE_AAAA ? &ipv6 : &ipv4, DNS_SERVICE_TTL);
	dns_service_finish(service, asker, &answer);
}

static void dns_service_answer_reverse(struct dns_service *service, const struct dns_asker *asker,
				       const struct dns_query *query, const struct addr *addr)
{
	uint32_t entry = dnsmap_find(service->map, addr);
	uint16_t name_bytes = 0;
	uint8_t name[DNS_NAME_BYTES];
	struct dns_answer answer;

	if (entry != DNSMAP_NONE)
		name_bytes = dns_name_from_text(dnsmap_name(service->map, entry), name);
	if (!name_bytes) {
		service->counters.answers_nothing++;
		dns_service_say_nothing(service, asker, query, DNS_NXDOMAIN);
		return;
	}
	service->counters.answers_reverse++;
	dns_service_begin(service, asker, query, DNS_NOERROR, &answer);
	dns_answer_ptr(&answer, name, name_bytes, DNS_SERVICE_TTL);
	dns_service_finish(service, asker, &answer);
}

static bool dns_service_is_localhost(const char *name)
{
	static const char localhost[] = "localhost";
	size_t bytes = strlen(name), own = sizeof(localhost) - 1;

	return bytes >= own && !strcmp(name + bytes - own, localhost) && (bytes == own || name[bytes - own - 1] == '.');
}

static void dns_service_answer_localhost(struct dns_service *service, const struct dns_asker *asker,
					 const struct dns_query *query)
{
	const struct addr ipv4 = addr_from_ipv4(be32(0x7f000001)), ipv6 = {.bytes = {[15] = 1}};
	struct dns_answer answer;

	service->counters.answers_local++;
	if (query->type != DNS_TYPE_A && query->type != DNS_TYPE_AAAA) {
		dns_service_say_nothing(service, asker, query, DNS_NOERROR);
		return;
	}
	dns_service_begin(service, asker, query, DNS_NOERROR, &answer);
	dns_answer_addr(&answer, query->type == DNS_TYPE_A ? &ipv4 : &ipv6, DNS_SERVICE_TTL);
	dns_service_finish(service, asker, &answer);
}

/* --- names that go direct --- */

static uint16_t *dns_service_share(struct dns_service *service, const struct addr *client)
{
	uint64_t words[2];

	memcpy(words, client, sizeof(words));
	return &service->share[siphash_words(service->share_secret, words, 2) % DNS_SHARES];
}

static void dns_service_ask_direct(struct dns_service *service, const struct dns_asker *asker,
				   const struct dns_query *query, const char *name)
{
	uint32_t slot = service->pending_free;
	uint16_t *share = dns_service_share(service, &asker->client);
	struct dns_direct_question question = {.slot = slot, .type = query->type};
	struct dns_pending *pending;

	if (slot != DNS_SERVICE_PENDING_NONE && *share < DNS_SHARE) {
		pending = &service->pending[slot];
		question.generation = ++pending->generation;
		memcpy(question.name, name, strlen(name) + 1);
		if (dns_direct_ask(service->direct, &question)) {
			service->pending_free = pending->next_free;
			service->pending_count++;
			++*share;
			pending->in_use = true;
			pending->asker = *asker;
			pending->query = *query;
			service->counters.direct_asked++;
			if (asker->tcp)
				dns_tcp_pending(service, asker);
			return;
		}
	}
	service->counters.direct_limited++;
	dns_service_say(service, asker, query, DNS_SERVFAIL);
}

/* The way first, then the answer. */
static void dns_service_allow(struct dns_service *service, const struct dns_asker *asker,
			      const struct dns_direct_answer *result, uint32_t ttl)
{
	uint64_t until_ns = service->now_ns + (ttl + (uint64_t)DNS_SERVICE_DIRECT_EXTRA_S) * SECOND_NS;

	for (uint32_t i = 0; i < result->count; i++) {
		int err = directmap_add(&service->directmap, asker->client_mac, &result->addrs[i], until_ns);

		if (err)
			log_warn("an address of a direct name cannot be entered: %s", strerror(-err));
		else
			service->counters.direct_addrs++;
	}
}

static void dns_service_direct_addrs(struct dns_service *service, const struct dns_pending *pending,
				     const struct dns_direct_answer *result)
{
	uint32_t ttl = MIN(result->ttl, (uint32_t)DNS_SERVICE_DIRECT_TTL);
	struct dns_answer answer;

	dns_service_allow(service, &pending->asker, result, ttl);
	dns_service_begin(service, &pending->asker, &pending->query, (enum dns_rcode)result->rcode, &answer);
	for (uint32_t i = 0; i < result->count; i++)
		dns_answer_addr(&answer, &result->addrs[i], ttl);
	dns_service_finish(service, &pending->asker, &answer);
}

static void dns_service_direct_message(struct dns_service *service, const struct dns_pending *pending,
				       const struct dns_direct_answer *result)
{
	uint8_t *buffer = dns_service_buffer(service);
	size_t bytes = dns_answer_forward(&pending->query, result->message, result->message_bytes, buffer,
					  dns_service_limit(&pending->asker, &pending->query));

	if (!bytes) {
		service->counters.direct_failed++;
		dns_service_say(service, &pending->asker, &pending->query, DNS_SERVFAIL);
		return;
	}
	service->counters.answers_truncated += buffer[2] >> 1 & 1;
	dns_service_send(service, &pending->asker, bytes);
}

static void dns_service_direct_done(struct dns_service *service, const struct dns_direct_answer *result)
{
	struct dns_pending *pending = &service->pending[result->slot];

	if (!pending->in_use || pending->generation != result->generation)
		return;
	if (result->rcode != DNS_NOERROR && result->rcode != DNS_NXDOMAIN)
		service->counters.direct_failed++;
	else
		service->counters.direct_answered++;
	if (result->message)
		dns_service_direct_message(service, pending, result);
	else
		dns_service_direct_addrs(service, pending, result);
	--*dns_service_share(service, &pending->asker.client);
	pending->in_use = false;
	pending->next_free = service->pending_free;
	service->pending_free = result->slot;
	service->pending_count--;
	if (pending->asker.tcp)
		dns_tcp_settled(service, &pending->asker);
}

void dns_service_wake(struct dns_service *service, uint64_t now_ns)
{
	struct dns_direct_answer result;
	eventfd_t count;

	service->now_ns = now_ns;
	eventfd_read(service->wake_fd, &count);
	while (dns_direct_take(service->direct, &result)) {
		dns_service_direct_done(service, &result);
		free(result.message);
	}
	if (dns_store_is_saving(service->store))
		dns_store_save_some(service->store, service->map, false);
}

/* --- queries --- */

static void dns_service_answer_name(struct dns_service *service, const struct dns_asker *asker,
				    const struct dns_query *query)
{
	char name[DNS_TEXT_BYTES];

	/* the root has a name for nobody, and nothing but name servers */
	if (!dns_name_text(query->name, name)) {
		service->counters.answers_nothing++;
		dns_service_say_nothing(service, asker, query, query->name[0] ? DNS_NXDOMAIN : DNS_NOERROR);
		return;
	}
	if (dns_service_is_localhost(name)) {
		dns_service_answer_localhost(service, asker, query);
		return;
	}
	switch (domains_decide(service->domains, name).action) {
	case RULES_DIRECT:
		dns_service_ask_direct(service, asker, query, name);
		break;
	case RULES_DROP:
		service->counters.dropped_by_rule++;
		break;
	case RULES_REJECT:
		service->counters.answers_rejected++;
		dns_service_say_nothing(service, asker, query, DNS_NXDOMAIN);
		break;
	default:
		dns_service_answer_mapped(service, asker, query, name);
	}
}

/* What is wrong with the message itself; true: it was dealt with. */
static bool dns_service_answer_error(struct dns_service *service, const struct dns_asker *asker,
				     const struct dns_query *query, int rcode)
{
	if (rcode == DNS_NOERROR && query->type == DNS_TYPE_OPT)
		rcode = DNS_FORMERR;
	if (rcode == DNS_NOERROR &&
	    (query->class != DNS_CLASS_IN || (query->type >= DNS_TYPE_TKEY && query->type <= DNS_TYPE_MAILA)))
		rcode = DNS_REFUSED;
	switch (rcode) {
	case DNS_NOERROR:
		return false;
	case DNS_IGNORE:
		service->counters.ignored++;
		return true;
	case DNS_FORMERR:
		service->counters.answers_malformed++;
		break;
	case DNS_REFUSED:
		service->counters.answers_refused++;
		break;
	default:
		service->counters.answers_not_implemented++;
	}
	dns_service_say(service, asker, query, (enum dns_rcode)rcode);
	return true;
}

void dns_service_query(struct dns_service *service, const struct dns_asker *asker, const uint8_t *message, size_t bytes)
{
	struct dns_query query;
	struct addr addr;
	int rcode = dns_parse_query(message, bytes, &query);

	if (dns_service_answer_error(service, asker, &query, rcode))
		return;
	if (query.type == DNS_TYPE_PTR && dns_name_reverse(query.name, &addr) && dnsmap_covers(service->map, &addr))
		dns_service_answer_reverse(service, asker, &query, &addr);
	else
		dns_service_answer_name(service, asker, &query);
}

bool dns_service_is_query(const struct dns_service *service, const struct packet_view *view, bool has_port)
{
	const struct config_dns *dns = &service->config->dns;

	if (!has_port)
		return false;
	if (view->dport == dns->listen.port && addr_equal(&view->dst, &dns->listen.addr))
		return true;
	return dns->hijack && view->dport == be16(DNS_PORT);
}

void dns_service_datagram(struct dns_service *service, const struct stack_datagram *datagram, uint64_t now_ns)
{
	struct dns_asker asker = {.client = datagram->link.dst.addr, .port = datagram->port, .link = datagram->link};

	const struct frame *first = &service->pool->frames[datagram->frames];

	memcpy(asker.client_mac, datagram->link.dst_mac, sizeof(asker.client_mac));
	service->now_ns = now_ns;
	service->counters.queries_udp++;
	/* no query is longer than a frame: of a chain the rest is missing, and it is malformed */
	dns_service_query(service, &asker, frame_data(service->pool, datagram->frames) + first->off, first->len);
}

/* --- time --- */

static void dns_service_plan_save(struct dns_service *service, uint64_t now_ns)
{
	uint64_t earliest = service->last_save_ns + DNS_SERVICE_SAVE_GAP_NS;

	if (service->next_save_ns || dns_store_is_saving(service->store) ||
	    dnsmap_version(service->map) == service->saved_version)
		return;
	service->next_save_ns = now_ns + DNS_SERVICE_SAVE_DELAY_NS;
	if (service->last_save_ns && service->next_save_ns < earliest)
		service->next_save_ns = earliest;
}

void dns_service_run(struct dns_service *service, uint64_t now_ns)
{
	service->now_ns = now_ns;
	dns_tcp_start(service, now_ns);
	if (service->next_save_ns && service->next_save_ns <= now_ns) {
		service->next_save_ns = 0;
		service->last_save_ns = now_ns;
		service->saved_version = dnsmap_version(service->map);
		dns_store_save_some(service->store, service->map, true);
	}
	dns_service_plan_save(service, now_ns);
}

uint64_t dns_service_next_timer_ns(const struct dns_service *service)
{
	uint64_t next = service->wheel_started ? wheel_next_ns(&service->wheel) : UINT64_MAX;

	if (service->next_save_ns && service->next_save_ns < next)
		next = service->next_save_ns;
	return next;
}

/* --- its beginning and end --- */

static void dns_service_mask(const struct config_prefix *prefix, struct addr *out)
{
	for (uint32_t bit = 0; bit < 128; bit++)
		if (bit < prefix->bits)
			out->bytes[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
}

int dns_service_tell_programs(const struct config *config, const struct bpfload *bpf)
{
	const struct config_dns *dns = &config->dns;
	struct bpf_dns settings = {.flags = 0};
	struct addr mask4 = {.words = {0, 0, 0, 0}};
	struct directmap map;

	directmap_open(&map, bpf);
	if (config_dns_is_on(dns)) {
		dns_service_mask(&dns->mapped, &mask4);
		dns_service_mask(&dns->mapped6, &settings.fake6_mask);
		settings.flags = DNS_FLAG_ON | (dns->hijack ? DNS_FLAG_HIJACK : 0);
		settings.fake4 = dns->mapped.addr.words[3];
		settings.fake4_mask = mask4.words[3];
		settings.fake6 = dns->mapped6.addr;
		settings.listen = dns->listen;
		settings.direct_idle_ns = DNS_SERVICE_DIRECT_EXTRA_S * SECOND_NS;
	}
	return directmap_configure(&map, &settings);
}

static int dns_service_create_map(struct dns_service *service)
{
	struct dnsmap_settings settings = {
		.mapped = service->config->dns.mapped,
		.mapped6 = service->config->dns.mapped6,
		.except = service->config->dns.listen.addr,
		.entries = service->config->dns.cache,
	};

	if (getrandom(settings.secret, sizeof(settings.secret), 0) != sizeof(settings.secret) ||
	    getrandom(service->share_secret, sizeof(service->share_secret), 0) != sizeof(service->share_secret))
		return -EIO;
	return dnsmap_create(&service->map, &settings);
}

static void dns_service_free_slots(struct dns_service *service)
{
	for (uint32_t i = 0; i < DNS_DIRECT_PENDING; i++)
		service->pending[i].next_free = i + 1 < DNS_DIRECT_PENDING ? i + 1 : DNS_SERVICE_PENDING_NONE;
}

int dns_service_create(struct dns_service **out, const struct config *config, const struct bpfload *bpf, char *error,
		       uint32_t error_bytes)
{
	struct dns_service *service = calloc(1, sizeof(*service));
	int err;

	if (!service)
		return -ENOMEM;
	service->config = config;
	service->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	dns_service_free_slots(service);
	directmap_open(&service->directmap, bpf);
	err = service->wake_fd < 0 ? -errno : dns_service_create_map(service);
	if (!err)
		err = dns_tcp_create(service);
	if (!err)
		err = dns_store_create(&service->store, config, service->wake_fd, error, error_bytes);
	if (!err)
		err = dns_direct_create(&service->direct, service->wake_fd);
	if (err) {
		dns_service_destroy(service);
		return err;
	}
	dns_store_load(service->store, service->map);
	service->saved_version = dnsmap_version(service->map);
	*out = service;
	return 0;
}

void dns_service_destroy(struct dns_service *service)
{
	if (!service)
		return;
	dns_direct_destroy(service->direct);
	/* what is wrong has been logged */
	if (service->store && service->direct)
		dns_store_save_all(service->store, service->map);
	dns_store_destroy(service->store);
	domains_free(service->domains);
	dnsmap_destroy(service->map);
	free(service->flow_conns);
	if (service->wake_fd >= 0)
		close(service->wake_fd);
	free(service);
}

void dns_service_set_stack(struct dns_service *service, struct stack *stack, struct frame_pool *pool)
{
	service->stack = stack;
	service->pool = pool;
}

void dns_service_set_domains(struct dns_service *service, struct domains *domains)
{
	domains_free(service->domains);
	service->domains = domains;
}

int dns_service_fd(const struct dns_service *service)
{
	return service->wake_fd;
}

struct dnsmap *dns_service_names(struct dns_service *service)
{
	return service->map;
}

struct rules_verdict dns_service_decide(const struct dns_service *service, uint32_t entry)
{
	return domains_decide(service->domains, dnsmap_name(service->map, entry));
}

struct dns_counters *dns_service_counters(struct dns_service *service)
{
	return &service->counters;
}

void dns_service_gauges(struct dns_service *service, struct dns_gauges *out)
{
	dnsmap_gauges(service->map, &out->map);
	dns_store_counters(service->store, &out->store);
	out->direct_now = service->pending_count;
	out->tcp_now = service->conn_count;
}
