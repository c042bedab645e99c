/* SPDX-License-Identifier: MIT */
/* What the doctor makes of facts that a lab cannot have: hardware offloads, drivers, ranges of ports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "findings.h"
#include "hook.h"
#include "judge.h"
#include "netdev.h"

static const struct topo_interface nic = {.name = "eth1", .ifindex = 2, .mtu = 1500, .driver = "ixgbe"};
static const struct topo_interface veth = {
	.name = "veth0", .ifindex = 3, .mtu = 1500, .driver = "veth", .is_virtual = true};

static const json_t *find(const json_t *list, const char *what)
{
	json_t *finding;
	size_t i;

	json_array_foreach(list, i, finding)
	{
		if (!strcmp(json_string_value(json_object_get(finding, "what")), what))
			return finding;
	}
	return NULL;
}

/* `verdict`: a "!" behind it means that it prevents the start. `remedy` NULL: there must be none. */
static void expect(const json_t *list, const char *what, const char *verdict, const char *words, const char *remedy)
{
	const json_t *finding = find(list, what);
	char got[32];

	if (!finding)
		fail_msg("nothing is said of %s", what);
	snprintf(got, sizeof(got), "%s%s", json_string_value(json_object_get(finding, "verdict")),
		 json_is_true(json_object_get(finding, "prevents_start")) ? "!" : "");
	assert_string_equal(got, verdict);
	if (!strstr(json_string_value(json_object_get(finding, "text")), words))
		fail_msg("%s: \"%s\" lacks \"%s\"", what, json_string_value(json_object_get(finding, "text")), words);
	if (!remedy)
		assert_null(json_object_get(finding, "remedy"));
	else if (!json_object_get(finding, "remedy") ||
		 strncmp(json_string_value(json_object_get(finding, "remedy")), remedy, strlen(remedy)))
		fail_msg("%s: remedy is not %s", what, remedy);
}

static void test_choice(void **state)
{
	const struct topo_interface virtio = {.name = "eth0", .driver = "virtio_net", .is_virtual = true};
	struct config_interface settings = {.name = "eth1"};

	(void)state;
	assert_int_equal(hook_choose(&settings, &nic).hook, CONFIG_HOOK_XDP);
	assert_int_equal(hook_choose(&settings, &veth).hook, CONFIG_HOOK_TC);
	/* a network card in this respect */
	assert_int_equal(hook_choose(&settings, &virtio).hook, CONFIG_HOOK_XDP);
	settings.xsk = CONFIG_XSK_COPY;
	assert_int_equal(hook_choose(&settings, &veth).hook, CONFIG_HOOK_XDP);
	settings = (struct config_interface){.hook = CONFIG_HOOK_TC};
	assert_int_equal(hook_choose(&settings, &nic).hook, CONFIG_HOOK_TC);
	settings = (struct config_interface){.attach = CONFIG_ATTACH_EXTERNAL};
	assert_int_equal(hook_choose(&settings, &veth).hook, CONFIG_HOOK_XDP);
	assert_string_equal(hook_choose(&settings, &veth).reason, "attach: external");
}

static void test_largest_mtu(void **state)
{
	uint32_t largest = hook_largest_xdp_mtu();

	(void)state;
	assert_true(hook_fits_mtu(CONFIG_HOOK_XDP, largest));
	assert_false(hook_fits_mtu(CONFIG_HOOK_XDP, largest + 1));
	assert_true(hook_fits_mtu(CONFIG_HOOK_TC, 65535));
}

static void test_uplink_xdp(void **state)
{
	struct config config = {.interface_count = 2,
				.interfaces = {{.hook = CONFIG_HOOK_XDP}, {.hook = CONFIG_HOOK_AUTO}}};

	(void)state;
	assert_true(hook_wants_xdp_uplink(&config, &nic));
	assert_false(hook_wants_xdp_uplink(&config, &veth));
	config.interfaces[1].hook = CONFIG_HOOK_XDP;
	assert_true(hook_wants_xdp_uplink(&config, &veth));
}

static void test_xdp(void **state)
{
	struct config_interface settings = {.name = "eth1"};
	struct judge_interface interface = {.topo = &nic,
					    .settings = &settings,
					    .hook = CONFIG_HOOK_XDP,
					    .xdp_features = NETDEV_FEATURE_BASIC | NETDEV_FEATURE_REDIRECT |
							    NETDEV_FEATURE_XMIT | NETDEV_FEATURE_ZEROCOPY};
	json_t *list = json_array();

	(void)state;
	judge_xdp(list, &interface);
	expect(list, "XDP", "ok", "AF_XDP without a copy", NULL);
	expect(list, "sending by XDP", "ok", "possible", NULL);
	assert_null(find(list, "hook"));
	assert_string_equal(judge_xsk_mode(&interface), "zerocopy");

	json_array_clear(list);
	interface.xdp_features = NETDEV_FEATURE_BASIC;
	settings.xsk = CONFIG_XSK_ZEROCOPY;
	interface.xdp_attached = true;
	judge_xdp(list, &interface);
	expect(list, "XDP", "problem!", "the driver (ixgbe) has no zero-copy", "xsk: auto");
	expect(list, "sending by XDP", "note", "not possible now", "ethtool -L eth1 combined N");
	assert_string_equal(judge_xsk_mode(&interface), "copy");

	json_array_clear(list);
	interface.xdp_features = 0;
	settings.xsk = CONFIG_XSK_COPY;
	judge_xdp(list, &interface);
	expect(list, "XDP", "problem!", "no native XDP", "xsk: auto");

	json_array_clear(list);
	settings.xsk = CONFIG_XSK_AUTO;
	judge_xdp(list, &interface);
	expect(list, "XDP", "note", "generic only", "hook: tc");
	assert_string_equal(judge_xsk_mode(&interface), "generic");

	json_array_clear(list);
	interface.xdp_err = -ENOENT;
	judge_xdp(list, &interface);
	expect(list, "XDP", "ok", "is found out at start", NULL);
	assert_string_equal(judge_xsk_mode(&interface), "unknown");

	json_array_clear(list);
	interface = (struct judge_interface){.topo = &veth,
					     .settings = &settings,
					     .hook = CONFIG_HOOK_XDP,
					     .xdp_features = NETDEV_FEATURE_BASIC | NETDEV_FEATURE_REDIRECT};
	judge_xdp(list, &interface);
	expect(list, "sending by XDP", "note", "by tc", "ethtool -K PEER gro on");
	expect(list, "hook", "note", "costs its peer the segmentation offload", "hook: auto");
	json_decref(list);
}

static void set_all(struct ethtool_state features[ETHTOOL_FEATURE_COUNT], bool on)
{
	for (int i = 0; i < ETHTOOL_FEATURE_COUNT; i++)
		features[i] = (struct ethtool_state){.known = true, .on = on};
}

static void test_offloads(void **state)
{
	struct config_interface settings = {.name = "eth1"};
	struct judge_interface interface = {.topo = &nic, .settings = &settings, .hook = CONFIG_HOOK_TC};
	struct ethtool_state features[ETHTOOL_FEATURE_COUNT];
	json_t *list = json_array();

	(void)state;
	set_all(features, false);
	judge_offloads(list, &interface, features);
	expect(list, "GRO", "note", "one by one", "ethtool -K eth1 gro on");
	expect(list, "GSO", "note", "cut", "ethtool -K eth1 gso on");
	expect(list, "TSO", "note", "by the CPU", "ethtool -K eth1 tso on");
	expect(list, "receive checksum", "note", "the CPU verifies", "ethtool -K eth1 rx on");
	expect(list, "transmit checksum", "note", "the CPU sums up", "ethtool -K eth1 tx on");
	assert_null(find(list, "LRO"));

	json_array_clear(list);
	set_all(features, true);
	judge_offloads(list, &interface, features);
	expect(list, "LRO", "problem", "must not be forwarded", "ethtool -K eth1 lro off");
	expect(list, "GRO", "ok", "merged before tc", NULL);
	expect(list, "GSO, TSO", "ok", "leave whole", NULL);
	assert_null(find(list, "VLAN stripping"));

	json_array_clear(list);
	interface.hook = CONFIG_HOOK_XDP;
	features[ETHTOOL_GRO_HW].fixed = true;
	judge_offloads(list, &interface, features);
	expect(list, "LRO", "problem", "refuse XDP", "ethtool -K eth1 lro off");
	expect(list, "GRO in hardware", "note", "does not let it be changed", NULL);
	expect(list, "VLAN stripping", "note", "the tag is gone", "ethtool -K eth1 rxvlan off");
	assert_null(find(list, "GRO"));

	json_array_clear(list);
	interface = (struct judge_interface){.topo = &veth, .settings = &settings, .hook = CONFIG_HOOK_TC};
	set_all(features, false);
	judge_offloads(list, &interface, features);
	expect(list, "GRO", "ok", "not needed here", NULL);
	json_decref(list);
}

static void test_mtu(void **state)
{
	struct topo_interface topo = nic;
	struct config_interface settings = {.name = "eth1"};
	struct judge_interface interface = {.topo = &topo, .settings = &settings, .hook = CONFIG_HOOK_XDP};
	json_t *list = json_array();

	(void)state;
	topo.mtu = 9000;
	judge_mtu(list, &interface);
	expect(list, "MTU", "problem!", "9000 is more than XDP can take", "ip link set dev eth1 mtu 3822");
	json_array_clear(list);
	interface.settings = NULL;
	judge_mtu(list, &interface);
	expect(list, "MTU", "note", "9000", "ip link set dev eth1 mtu 3822");
	json_array_clear(list);
	interface.hook = CONFIG_HOOK_TC;
	judge_mtu(list, &interface);
	expect(list, "MTU", "ok", "any will do", NULL);
	json_decref(list);
}

static void test_queues(void **state)
{
	struct topo_interface topo = nic;
	struct config_interface settings = {.name = "eth1"};
	struct judge_interface interface = {
		.topo = &topo, .settings = &settings, .hook = CONFIG_HOOK_XDP, .queues_before = 40};
	json_t *list = json_array();

	(void)state;
	topo.rx_queues = 24;
	judge_queues(list, &interface);
	expect(list, "queues", "ok", "24 for reception, each with an AF_XDP socket", NULL);
	json_array_clear(list);
	topo.rx_queues = 25;
	judge_queues(list, &interface);
	expect(list, "queues", "problem!", "make 65", "ethtool -L eth1 combined N");
	json_array_clear(list);
	interface.hook = CONFIG_HOOK_TC;
	judge_queues(list, &interface);
	expect(list, "queues", "ok", "any number will do", NULL);
	json_decref(list);
}

static void test_programs(void **state)
{
	struct config_interface settings = {.name = "eth1"};
	struct judge_interface interface = {.topo = &nic, .settings = &settings, .hook = CONFIG_HOOK_XDP};
	struct attached_program programs[] = {
		{.where = ATTACHED_XDP, .id = 7, .name = "other"},
		{.where = ATTACHED_CLSACT_EGRESS, .id = 8, .priority = 49152, .name = "filter"},
	};
	json_t *list = json_array();

	(void)state;
	judge_programs(list, &interface, programs, 2);
	expect(list, "other XDP program", "problem!", "\"other\" (id 7)", "ip link set dev eth1 xdp off");
	expect(list, "other tc program", "note", "\"filter\" (id 8) is attached, clsact egress",
	       "tc filter del dev eth1 egress pref 49152");
	json_array_clear(list);
	interface.hook = CONFIG_HOOK_TC;
	judge_programs(list, &interface, programs, 1);
	expect(list, "other XDP program", "note", "it sees packets before tc does", "ip link set dev eth1 xdp off");
	json_array_clear(list);
	programs[0].ours = true;
	judge_programs(list, &interface, programs, 1);
	expect(list, "other programs", "ok", "none", NULL);
	json_array_clear(list);
	settings.attach = CONFIG_ATTACH_EXTERNAL;
	judge_programs(list, &interface, programs, 0);
	expect(list, "attach: external", "problem!", "is not attached", "ip link set dev");
	json_array_clear(list);
	judge_programs(list, &interface, programs, 1);
	assert_null(find(list, "attach: external"));
	json_decref(list);
}

static void test_rp_filter(void **state)
{
	struct config_interface settings = {.name = "eth1"};
	struct judge_interface interface = {.topo = &nic, .settings = &settings};
	json_t *list = json_array();

	(void)state;
	judge_rp_filter(list, &interface, 0, 1);
	expect(list, "rp_filter", "note", "strict", "sysctl -w net.ipv4.conf.eth1.rp_filter=2");
	json_array_clear(list);
	/* the larger counts, and the larger is the looser */
	judge_rp_filter(list, &interface, 2, 1);
	expect(list, "rp_filter", "ok", "loose", NULL);
	json_array_clear(list);
	judge_rp_filter(list, &interface, 0, 0);
	expect(list, "rp_filter", "ok", "off", NULL);
	json_decref(list);
}

static void test_ports(void **state)
{
	static struct ports_set reserved;
	static struct config config = {.upstream_count = 2,
				       .upstreams = {{.name = "a", .ports = {10000, 40000}, .source_count = 2},
						     {.name = "b", .ports = {35000, 45000}}}};
	json_t *list = json_array();

	(void)state;
	judge_ports(list, &config, 32768, 60999, &reserved);
	expect(list, "spliced connections", "ok",
	       "up to 60002 at once, from ports 10000-40000 and 2 address(es); the daemon", NULL);
	/* 45001 to 60999 */
	expect(list, "local ports", "ok", "15999 of ip_local_port_range 32768-60999", NULL);
	json_array_clear(list);
	ports_set_add(&reserved, 50000, 60999);
	judge_ports(list, &config, 32768, 60999, &reserved);
	expect(list, "local ports", "note", "4999 of", "sysctl -w net.ipv4.ip_local_port_range");
	json_array_clear(list);
	ports_set_add(&reserved, 1, 65535);
	judge_ports(list, &config, 32768, 60999, &reserved);
	expect(list, "local ports", "problem", "0 of", "sysctl -w net.ipv4.ip_local_port_range");
	expect(list, "spliced connections", "ok", "reserved already", NULL);
	json_decref(list);
}

static void test_count(void **state)
{
	struct findings_count count = {0};
	json_t *list = json_array();

	(void)state;
	findings_add(list, FINDINGS_OK, "a", NULL, "a");
	findings_add(list, FINDINGS_NOTE, "b", NULL, "b");
	findings_add(list, FINDINGS_PROBLEM, "c", "do", "c");
	findings_add(list, FINDINGS_PREVENTS, "d", "do", "%s", "d");
	findings_count(list, &count);
	findings_count(list, &count);
	assert_int_equal(count.notes, 2);
	assert_int_equal(count.problems, 2);
	assert_int_equal(count.prevents, 2);
	json_decref(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choice),   cmocka_unit_test(test_largest_mtu), cmocka_unit_test(test_uplink_xdp),
		cmocka_unit_test(test_xdp),      cmocka_unit_test(test_offloads),    cmocka_unit_test(test_mtu),
		cmocka_unit_test(test_programs), cmocka_unit_test(test_rp_filter),   cmocka_unit_test(test_ports),
		cmocka_unit_test(test_count),    cmocka_unit_test(test_queues),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
