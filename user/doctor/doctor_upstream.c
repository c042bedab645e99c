/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "addr_text.h"
#include "doctor_priv.h"
#include "findings.h"
#include "socks.h"
#include "upstream_probe.h"

/* One visit on a thread of its own: a silent upstream must not make the others wait. */
struct doctor_visit {
	const struct config_upstream *settings;
	const char *uplink;
	struct upstream_probe result;
	pthread_t thread;
	bool threaded;
};

static void *doctor_visit_run(void *ctx)
{
	struct doctor_visit *visit = ctx;

	upstream_probe(visit->settings, visit->uplink, &visit->result);
	return NULL;
}

/* Why the visit ended early: text and, in *remedy, what to do. */
static const char *doctor_failure(const struct upstream_probe *probe, const char **remedy)
{
	*remedy = "is it a SOCKS5 server? upstreams[].server names it";
	switch (probe->stage) {
	case UPSTREAM_PROBE_RESOLVE:
		*remedy = "correct upstreams[].server, or the resolver of this machine (/etc/resolv.conf)";
		return probe->err == -ENOENT      ? "its name has no address"
		       : probe->err == -ETIMEDOUT ? "no name server answers for its name"
						  : "its name cannot be resolved";
	case UPSTREAM_PROBE_CONNECT:
		*remedy = "start the server, or correct upstreams[].server, or the route or firewall on the way";
		return probe->err == -ETIMEDOUT ? "no answer to the TCP handshake" : "no TCP connection";
	case UPSTREAM_PROBE_GREETING:
		if (probe->err != -EACCES)
			return probe->err == -ETIMEDOUT ? "takes the connection, then says nothing"
							: "takes the connection, but does not answer as SOCKS5";
		*remedy = "set upstreams[].username and password as the server wants them";
		return "accepts none of the authentication methods that we offer";
	case UPSTREAM_PROBE_AUTH:
		*remedy = "correct upstreams[].username and password";
		return probe->err == -EACCES || probe->err == -ECONNRESET ? "refuses the user name or the password"
									  : "does not answer the authentication";
	default:
		*remedy = NULL;
		return "no answer to UDP ASSOCIATE";
	}
}

static void doctor_judge_udp(json_t *findings, const struct upstream_probe *probe)
{
	if (probe->stage == UPSTREAM_PROBE_DONE && probe->udp_reply == SOCKS_REPLY_SUCCEEDED)
		findings_add(findings, FINDINGS_OK, "UDP", NULL, "the server carries it (UDP ASSOCIATE)");
	else if (probe->stage == UPSTREAM_PROBE_DONE)
		findings_add(findings, FINDINGS_NOTE, "UDP", NULL,
			     probe->udp_reply == SOCKS_REPLY_COMMAND_UNSUPPORTED
				     ? "the server does not know UDP ASSOCIATE (reply %u): it carries TCP only"
				     : "the server refuses UDP ASSOCIATE (reply %u): it carries TCP only",
			     probe->udp_reply);
	else
		findings_add(findings, FINDINGS_NOTE, "UDP", NULL,
			     "the server does not answer UDP ASSOCIATE (%s): it carries TCP only",
			     strerror(-probe->err));
}

static void doctor_judge_upstream(json_t *findings, const struct upstream_probe *probe)
{
	const char *remedy, *why;

	if (probe->stage >= UPSTREAM_PROBE_UDP) {
		findings_add(findings, FINDINGS_OK, "answers", NULL,
			     "connected in %.1f ms, greeting and authentication in %.1f ms", probe->connect_ms,
			     probe->handshake_ms);
		doctor_judge_udp(findings, probe);
		return;
	}
	why = doctor_failure(probe, &remedy);
	findings_add(findings, FINDINGS_PROBLEM, "answers", remedy, "%s (%s)", why, strerror(-probe->err));
}

static json_t *doctor_upstream(const struct doctor_visit *visit)
{
	const struct config_upstream *settings = visit->settings;
	const struct upstream_probe *probe = &visit->result;
	char address[ADDR_TEXT_BYTES], server[CONFIG_MAX_HOST + sizeof(":65535")];
	json_t *findings = json_array(), *object;

	addr_text_endpoint(&probe->server, address);
	if (settings->host[0])
		snprintf(server, sizeof(server), "%s:%u", settings->host, be16(settings->server.port));
	else
		snprintf(server, sizeof(server), "%s", address);
	doctor_judge_upstream(findings, probe);
	object = json_pack("{s:s, s:s, s:b}", "name", settings->name, "server", server, "answers",
			   probe->stage >= UPSTREAM_PROBE_UDP);
	if (settings->host[0] && probe->stage > UPSTREAM_PROBE_RESOLVE)
		json_object_set_new(object, "address", json_string(address));
	if (probe->connect_ms >= 0)
		json_object_set_new(object, "connect_ms", json_real(probe->connect_ms));
	if (probe->handshake_ms >= 0)
		json_object_set_new(object, "handshake_ms", json_real(probe->handshake_ms));
	if (probe->stage == UPSTREAM_PROBE_DONE)
		json_object_set_new(object, "udp", json_boolean(probe->udp_reply == SOCKS_REPLY_SUCCEEDED));
	json_object_set_new(object, "findings", findings);
	return object;
}

json_t *doctor_upstreams(const struct config *config, struct addr servers[CONFIG_MAX_UPSTREAMS])
{
	static struct doctor_visit visits[CONFIG_MAX_UPSTREAMS];
	json_t *list = json_array();

	for (uint32_t i = 0; config && i < config->upstream_count; i++) {
		visits[i].settings = &config->upstreams[i];
		visits[i].uplink = config->uplink;
		visits[i].threaded = !pthread_create(&visits[i].thread, NULL, doctor_visit_run, &visits[i]);
		if (!visits[i].threaded)
			doctor_visit_run(&visits[i]);
	}
	for (uint32_t i = 0; config && i < config->upstream_count; i++) {
		if (visits[i].threaded)
			pthread_join(visits[i].thread, NULL);
		json_array_append_new(list, doctor_upstream(&visits[i]));
		servers[i] = visits[i].result.server.addr;
	}
	return list;
}
