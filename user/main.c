/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_scalar.h"
#include "config_yaml.h"
#include "ctl.h"
#include "doctor.h"
#include "flush.h"
#include "honour.h"
#include "import_hev.h"
#include "log.h"
#include "run.h"
#include "top.h"

#define EXIT_USAGE 2
#define EXIT_CONFIG 3

static const char main_default_config[] = "/etc/socksplice/socksplice.yml";
static const char main_default_control[] = "/run/socksplice/control.sock";

static const char main_help[] =
	"socksplice: sends a network's TCP through a SOCKS5 server\n"
	"\n"
	"  socksplice run    [-c FILE]            the daemon, in the foreground\n"
	"  socksplice check  [-c FILE] [--strict] says what is wrong with a configuration; --strict: also what it "
	"asks\n"
	"                    for explicitly and this machine cannot do\n"
	"  socksplice doctor [-c FILE] [--json]   what this machine can do, and which path each interface gets\n"
	"  socksplice status [-c FILE | --control PATH] [--json]   is it working?\n"
	"  socksplice stats  [-c FILE | --control PATH] [--json]   every counter\n"
	"  socksplice flows  [-c FILE | --control PATH] [--json]   connections now\n"
	"  socksplice top    [-c FILE | --control PATH] [--interval SECONDS] [--count N] [--once | --json]\n"
	"                    live: rates, busiest connections and clients, drops; q ends it\n"
	"  socksplice upstreams [-c FILE | --control PATH] [--json]   each upstream: state, connections, failures, "
	"latency\n"
	"  socksplice trace  [-c FILE | --control PATH] [ADDRESS]  the life of the next connection (of that client)\n"
	"  socksplice reload [-c FILE | --control PATH] [--json]   the daemon reads its configuration again\n"
	"  socksplice stop   [-c FILE | --control PATH] [--flush]  ends the daemon; spliced connections live on, with\n"
	"                    --flush everything is reset and removed (-c FILE: also when no daemon runs)\n"
	"  socksplice import --interface NAME FILE  translates a main.yml of hev-socks5-tunnel, to standard output;\n"
	"                    NAME is the interface where the clients are\n"
	"\n"
	"  -c, --config FILE    configuration (default /etc/socksplice/socksplice.yml)\n"
	"      --control PATH   control socket of the daemon (default: the configuration's, else\n"
	"                       /run/socksplice/control.sock)\n"
	"      --json           for scripts\n"
	"  -h, --help           this text\n"
	"  -V, --version        the version\n"
	"\n"
	"Exit codes: 0 done; 1 failed (run: the log says why; doctor: the daemon would not start here); 2 wrong "
	"usage;\n"
	"3 wrong configuration; 4 no daemon answers; 5 something does not work (doctor, status).\n";

struct main_options {
	const char *config_path;
	const char *control_path;
	const char *argument;  /* behind the command */
	const char *interface; /* of import */
	bool as_json;
	bool flush;
	bool strict;
	struct top_options top;
};

static struct config main_config;
static struct config_marks main_marks;
static struct honour_report main_lacks;

static const char *main_config_path(const struct main_options *options)
{
	return options->config_path ? options->config_path : main_default_config;
}

/* What reading the configuration has to say, before there is a log. */
static void main_log(enum log_level level, const char *line)
{
	(void)level;
	fprintf(stderr, "socksplice: %s\n", line);
}

static int main_load(const struct main_options *options)
{
	struct config_error error;

	if (!config_load_marked(main_config_path(options), &main_config, &main_marks, &error))
		return 0;
	fprintf(stderr, "socksplice: %s\n", error.text);
	return EXIT_CONFIG;
}

static int main_run(const struct main_options *options)
{
	int code;

	log_set_sink(main_log, LOG_LEVEL_WARN);
	code = main_load(options);
	if (!code) {
		honour_check(&main_config, &main_marks, false, &main_lacks);
		honour_keep(&main_lacks);
		code = run_daemon(&main_config, main_config_path(options));
	}
	config_release(&main_config);
	return code;
}

static int main_check(const struct main_options *options)
{
	const char *path = main_config_path(options);
	int code;

	log_set_sink(main_log, LOG_LEVEL_WARN);
	code = main_load(options);
	if (code)
		return code;
	if (options->strict)
		honour_check(&main_config, &main_marks, true, &main_lacks);
	for (uint32_t i = 0; i < main_lacks.count; i++)
		fprintf(stderr, "socksplice: %s:%u:%u: %s\n", path, main_lacks.lacks[i].line,
			main_lacks.lacks[i].column, main_lacks.lacks[i].text);
	if (main_lacks.count)
		return EXIT_CONFIG;
	printf("%s: all right\n", path);
	return 0;
}

static int main_doctor(const struct main_options *options)
{
	int code = options->config_path ? main_load(options) : 0;

	return code ? code : doctor_run(options->config_path ? &main_config : NULL, options->as_json);
}

static int main_import(const struct main_options *options)
{
	struct config_error error;
	char *text;
	size_t bytes;
	int err;

	if (!options->argument || !options->interface) {
		fputs("socksplice: import: a main.yml of hev-socks5-tunnel is expected, and --interface NAME: where "
		      "that\n"
		      "program has a tunnel device, this one has the interface of the clients\n",
		      stderr);
		return EXIT_USAGE;
	}
	err = config_read_file(options->argument, &text, &bytes, &error);
	if (!err) {
		err = import_hev(text, bytes, options->argument, options->interface, stdout, stderr, &error);
		free(text);
	}
	if (!err)
		return 0;
	fprintf(stderr, "socksplice: %s\n", err == -ENOMEM ? "out of memory" : error.text);
	return EXIT_CONFIG;
}

/* Nobody runs who could do it: what was left behind is removed from here. */
static int main_flush(void)
{
	char error[512] = "";
	uint64_t flows;

	if (flush_leftovers(&main_config, &flows, error, sizeof(error))) {
		fprintf(stderr, "socksplice: %s\n", error);
		return CTL_EXIT_FAILED;
	}
	printf("no daemon runs; %llu spliced connections were reset, programs and pins are removed\n",
	       (unsigned long long)flows);
	return 0;
}

static int main_ask(const char *command, const struct main_options *options)
{
	const char *path = main_default_control;

	if (options->config_path) {
		int code = main_load(options);

		if (code)
			return code;
		path = main_config.control;
	}
	if (options->control_path)
		path = options->control_path;
	if (!strcmp(command, "top")) {
		struct top_options top = options->top;

		top.as_json = options->as_json;
		return top_run(path, &top);
	}
	if (!strcmp(command, "trace"))
		return ctl_trace(path, options->argument, options->as_json);
	if (strcmp(command, "stop"))
		return ctl_run(command, path, options->as_json);
	if (options->flush && options->config_path && !ctl_reachable(path))
		return main_flush();
	return ctl_stop(path, options->flush, options->as_json);
}

static int main_dispatch(const char *command, const struct main_options *options)
{
	if (!strcmp(command, "run"))
		return main_run(options);
	if (!strcmp(command, "check"))
		return main_check(options);
	if (!strcmp(command, "doctor"))
		return main_doctor(options);
	if (!strcmp(command, "import"))
		return main_import(options);
	if (!strcmp(command, "status") || !strcmp(command, "stats") || !strcmp(command, "flows") ||
	    !strcmp(command, "top") || !strcmp(command, "upstreams") || !strcmp(command, "trace") ||
	    !strcmp(command, "reload") || !strcmp(command, "stop"))
		return main_ask(command, options);
	fprintf(stderr, "socksplice: unknown command \"%s\"; --help lists them\n", command);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"config", required_argument, NULL, 'c'},   {"control", required_argument, NULL, 'C'},
		{"json", no_argument, NULL, 'j'},           {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},        {"flush", no_argument, NULL, 'F'},
		{"strict", no_argument, NULL, 'S'},         {"interface", required_argument, NULL, 'I'},
		{"interval", required_argument, NULL, 'i'}, {"count", required_argument, NULL, 'n'},
		{"once", no_argument, NULL, '1'},           {NULL, 0, NULL, 0},
	};
	struct main_options options = {.top = {.interval_ms = 1000, .count = 10}};
	int option;

	while ((option = getopt_long(argc, argv, "c:hV", long_options, NULL)) != -1) {
		switch (option) {
		case 'c':
			options.config_path = optarg;
			break;
		case 'C':
			options.control_path = optarg;
			break;
		case 'j':
			options.as_json = true;
			break;
		case 'F':
			options.flush = true;
			break;
		case 'I':
			options.interface = optarg;
			break;
		case 'S':
			options.strict = true;
			break;
		case 'i':
			if (!top_parse_interval(optarg, &options.top.interval_ms)) {
				fprintf(stderr, "socksplice: --interval: seconds from 0.1 to 60 are expected\n");
				return EXIT_USAGE;
			}
			break;
		case 'n':
			if (!config_scalar_uint(optarg, &options.top.count) || !options.top.count ||
			    options.top.count > TOP_MAX_COUNT) {
				fprintf(stderr, "socksplice: --count: a number from 1 to %d is expected\n",
					TOP_MAX_COUNT);
				return EXIT_USAGE;
			}
			break;
		case '1':
			options.top.once = true;
			break;
		case 'h':
			fputs(main_help, stdout);
			return 0;
		case 'V':
			puts("socksplice " SOCKSPLICE_VERSION);
			return 0;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind + 2 == argc && (!strcmp(argv[optind], "trace") || !strcmp(argv[optind], "import")))
		options.argument = argv[optind + 1];
	else if (optind + 1 != argc) {
		fprintf(stderr, "socksplice: one command is expected; --help lists them\n");
		return EXIT_USAGE;
	}
	return main_dispatch(argv[optind], &options);
}
