/* SPDX-License-Identifier: MIT */
/*
 * The data path is asked for rates only, in short stretches of its tables;
 * sorting out the busiest is done here. Memory is bounded: a heap of `count`
 * flows and a hash of CONTROL_TOP_CLIENTS clients.
 */
#include "control_top.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "addr_text.h"
#include "control_json.h"
#include "flow_abi.h"
#include "worker.h"

/* Half of the hash's places stay empty. */
#define CONTROL_TOP_PLACES (2 * CONTROL_TOP_CLIENTS)

struct control_top_client {
	struct addr addr;
	uint32_t flows; /* 0: the place is empty */
	uint64_t rates[2];
};

struct control_top_work {
	struct worker_flow_rate batch[WORKER_RATES_PER_READ];
	struct worker_flow_rate heap[CONTROL_TOP_MAX]; /* the least busy on top */
	uint32_t heap_count, heap_max;
	struct control_top_client clients[CONTROL_TOP_PLACES];
	uint32_t client_count;
	struct control_top_client others; /* beyond CONTROL_TOP_CLIENTS */
	uint32_t flows;                   /* with traffic */
};

static uint64_t control_top_sum(const uint64_t rates[2])
{
	return rates[FLOW_UP] + rates[FLOW_DOWN];
}

static uint64_t control_top_of(const struct control_top_work *work, uint32_t place)
{
	return control_top_sum(work->heap[place].rates);
}

static void control_top_swap(struct control_top_work *work, uint32_t a, uint32_t b)
{
	struct worker_flow_rate kept = work->heap[a];

	work->heap[a] = work->heap[b];
	work->heap[b] = kept;
}

static void control_top_sink(struct control_top_work *work)
{
	uint32_t place = 0, child;

	while ((child = 2 * place + 1) < work->heap_count) {
		if (child + 1 < work->heap_count && control_top_of(work, child + 1) < control_top_of(work, child))
			child++;
		if (control_top_of(work, place) <= control_top_of(work, child))
			return;
		control_top_swap(work, place, child);
		place = child;
	}
}

static void control_top_flow(struct control_top_work *work, const struct worker_flow_rate *flow)
{
	if (work->heap_count == work->heap_max) {
		if (control_top_sum(flow->rates) <= control_top_of(work, 0))
			return;
		work->heap[0] = *flow;
		control_top_sink(work);
		return;
	}
	work->heap[work->heap_count] = *flow;
	for (uint32_t place = work->heap_count++;
	     place && control_top_of(work, place) < control_top_of(work, (place - 1) / 2); place = (place - 1) / 2)
		control_top_swap(work, place, (place - 1) / 2);
}

static struct control_top_client *control_top_find(struct control_top_work *work, const struct addr *addr)
{
	uint32_t hash = 0;

	for (int i = 0; i < 4; i++)
		hash = (hash ^ addr->words[i]) * 2654435761u;
	for (uint32_t place = (hash ^ hash >> 16) % CONTROL_TOP_PLACES;; place = (place + 1) % CONTROL_TOP_PLACES) {
		struct control_top_client *client = &work->clients[place];

		if (client->flows && addr_equal(&client->addr, addr))
			return client;
		if (client->flows)
			continue;
		if (work->client_count == CONTROL_TOP_CLIENTS)
			return &work->others;
		work->client_count++;
		client->addr = *addr;
		return client;
	}
}

static int control_top_gather(struct worker *worker, struct control_top_work *work)
{
	uint32_t cursor = 0;
	int count;

	while ((count = worker_read_rates(worker, &cursor, work->batch, WORKER_RATES_PER_READ)) > 0)
		for (int i = 0; i < count; i++) {
			const struct worker_flow_rate *flow = &work->batch[i];
			struct control_top_client *client = control_top_find(work, &flow->client);

			client->flows++;
			client->rates[FLOW_UP] += flow->rates[FLOW_UP];
			client->rates[FLOW_DOWN] += flow->rates[FLOW_DOWN];
			work->flows++;
			control_top_flow(work, flow);
		}
	return count;
}

static int control_top_by_flow(const void *a, const void *b)
{
	uint64_t rate_a = control_top_sum(((const struct worker_flow_rate *)a)->rates);
	uint64_t rate_b = control_top_sum(((const struct worker_flow_rate *)b)->rates);

	return (rate_a < rate_b) - (rate_a > rate_b);
}

static int control_top_by_client(const void *a, const void *b)
{
	uint64_t rate_a = control_top_sum(((const struct control_top_client *)a)->rates);
	uint64_t rate_b = control_top_sum(((const struct control_top_client *)b)->rates);

	return (rate_a < rate_b) - (rate_a > rate_b);
}

static int control_top_flows(struct worker *worker, struct control_top_work *work, json_t *list)
{
	qsort(work->heap, work->heap_count, sizeof(work->heap[0]), control_top_by_flow);
	for (uint32_t i = 0; i < work->heap_count; i++) {
		struct worker_flow_row row;
		struct timespec now;
		int found = worker_read_flow(worker, &work->heap[i], &row);

		if (found < 0)
			return found;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (found)
			json_array_append_new(list, control_json_flow(&row, (uint64_t)now.tv_sec * 1000000000ull +
										    (uint64_t)now.tv_nsec));
	}
	return 0;
}

static void control_top_clients(struct control_top_work *work, uint32_t max, json_t *list)
{
	qsort(work->clients, CONTROL_TOP_PLACES, sizeof(work->clients[0]), control_top_by_client);
	for (uint32_t i = 0; i < max && work->clients[i].flows; i++) {
		const struct control_top_client *client = &work->clients[i];
		char text[ADDR_TEXT_BYTES];

		addr_text(&client->addr, text);
		json_array_append_new(list,
				      json_pack("{s:s, s:i, s:I, s:I}", "client", text, "flows", (int)client->flows,
						"rate_from_client", (json_int_t)client->rates[FLOW_UP],
						"rate_to_client", (json_int_t)client->rates[FLOW_DOWN]));
	}
}

int control_top(struct worker *worker, uint32_t count, json_t **out)
{
	struct control_top_work *work = calloc(1, sizeof(*work));
	json_t *flows = json_array(), *clients = json_array();
	int err = work && flows && clients ? 0 : -ENOMEM;

	if (!err) {
		work->heap_max = count;
		err = control_top_gather(worker, work);
	}
	if (!err)
		err = control_top_flows(worker, work, flows);
	if (!err) {
		control_top_clients(work, count, clients);
		*out = json_pack("{s:i, s:i, s:i, s:O, s:O}", "flows_with_traffic", (int)work->flows,
				 "clients_with_traffic", (int)work->client_count, "flows_of_further_clients",
				 (int)work->others.flows, "flows", flows, "clients", clients);
		err = *out ? 0 : -ENOMEM;
	}
	json_decref(flows);
	json_decref(clients);
	free(work);
	return err;
}
