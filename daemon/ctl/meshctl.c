/*
 * meshctl: shows what is going on. Asks the daemon of the runtime folder over
 * its API socket and prints the answer as a table for people, or as the
 * daemon's own JSON with --json.
 */
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "daemon/ctl/http.h"
#include "shared/endpoint.h"
#include "shared/paths.h"
#include "shared/util.h"

#define ANSWER_S      10
#define PING_PAUSE_US 1000000
#define PING_COUNT    3
#define EXIT_USAGE    2

struct options {
	char dir[PATHS_MAX];
	bool json, v4, v6;
	int count;
};

static void usage(FILE *to)
{
	fputs("usage: meshctl [--dir DIR] [--json] COMMAND\n"
	      "  status              this node, its peers, and how they are reached\n"
	      "  ip [-4|-6] [NODE]   the mesh addresses of this node, or of NODE\n"
	      "  ping [-c N] NODE    asks NODE (name or mesh address) to answer through the tunnel\n"
	      "  version             of this program\n"
	      "  help                this text\n"
	      "--dir, or the variable MESHWRAP_DIR, names the daemon's runtime folder.\n",
	      to);
}

static void explain(const struct options *opt, int err)
{
	if (err == -ENOENT || err == -ECONNREFUSED)
		fprintf(stderr,
			"meshctl: no daemon runs in %s; start one with: meshd --config FILE "
			"(or name its folder with --dir)\n",
			opt->dir);
	else if (err == -EACCES || err == -EPERM)
		fprintf(stderr,
			"meshctl: the daemon in %s belongs to another user; run meshctl as that "
			"user or as root\n",
			opt->dir);
	else if (err == -ETIMEDOUT)
		fprintf(stderr, "meshctl: the daemon in %s did not answer in %d s\n", opt->dir,
			ANSWER_S);
	else
		fprintf(stderr, "meshctl: no usable answer from the daemon in %s: %s\n", opt->dir,
			strerror(-err));
}

/* The daemon's answer as JSON, or NULL after saying why not. *body stays the text. */
static json_object *ask(const struct options *opt, const char *method, const char *target,
			struct http_answer *answer)
{
	char path[PATHS_MAX + 8];
	json_object *json;
	int err;

	answer->body = NULL;
	err = paths_join(opt->dir, PATHS_API, path, sizeof(path));
	if (!err)
		err = http_ask(path, method, target, ANSWER_S, answer);
	if (err) {
		explain(opt, err);
		return NULL;
	}
	json = json_tokener_parse(answer->body);
	if (!json)
		explain(opt, -EPROTO);
	return json;
}

static const char *text_of(json_object *from, const char *key)
{
	json_object *value;

	if (!from || !json_object_object_get_ex(from, key, &value) || !value)
		return "";
	return json_object_get_string(value);
}

static int64_t number_of(json_object *from, const char *key)
{
	json_object *value;

	return from && json_object_object_get_ex(from, key, &value) ? json_object_get_int64(value)
								    : 0;
}

static bool flag_of(json_object *from, const char *key)
{
	json_object *value;

	return from && json_object_object_get_ex(from, key, &value) &&
	       json_object_get_boolean(value);
}

static json_object *part_of(json_object *from, const char *key)
{
	json_object *value = NULL;

	return from && json_object_object_get_ex(from, key, &value) ? value : NULL;
}

/* The node's addresses in one line, separated by sep; wanted families only. */
static void print_addresses(json_object *node, const struct options *opt, const char *sep)
{
	json_object *ips = part_of(node, "TailscaleIPs");
	size_t n = json_object_is_type(ips, json_type_array) ? json_object_array_length(ips) : 0;
	bool first = true;

	for (size_t i = 0; i < n; i++) {
		const char *text = json_object_get_string(json_object_array_get_idx(ips, i));
		bool is_v6 = text && strchr(text, ':');

		if (!text || (opt->v4 && is_v6) || (opt->v6 && !is_v6))
			continue;
		printf("%s%s", first ? "" : sep, text);
		first = false;
	}
}

static void print_bytes(int64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double value = (double)bytes;
	size_t u = 0;

	for (; value >= 1024 && u + 1 < ARRAY_LEN(units); u++)
		value /= 1024;
	printf(u ? "%.1f %s" : "%.0f %s", value, units[u]);
}

static void print_peer(json_object *peer)
{
	static const struct options all;
	const char *name = text_of(peer, "HostName"), *at = text_of(peer, "CurAddr");

	printf("  %-16s ", *name ? name : "(no name)");
	print_addresses(peer, &all, ", ");
	printf("\n  %-16s %s", "", flag_of(peer, "Online") ? "connected" : "idle");
	if (*at)
		printf(", at %s", at);
	else
		printf(", address not known yet");
	printf(", received ");
	print_bytes(number_of(peer, "RxBytes"));
	printf(", sent ");
	print_bytes(number_of(peer, "TxBytes"));
	if (*text_of(peer, "LastHandshake"))
		printf(", last handshake %s", text_of(peer, "LastHandshake"));
	putchar('\n');
}

static void print_status(json_object *status)
{
	static const struct options all;
	json_object *self = part_of(status, "Self"), *peers = part_of(status, "Peer");

	printf("%s: %s\n  %-16s ", text_of(self, "HostName"), text_of(status, "BackendState"),
	       "addresses");
	print_addresses(self, &all, ", ");
	printf("\n  %-16s %lld\n  %-16s ", "UDP port", (long long)number_of(status, "ListenPort"),
	       "SYN hold");
	if (flag_of(status, "SynHold"))
		puts("yes");
	else
		printf("no, programs' connects wait for the dial (%s)\n",
		       text_of(status, "SynHoldWhy"));
	puts("peers");
	if (!peers || json_object_object_length(peers) == 0)
		puts("  none");
	else {
		json_object_object_foreach(peers, key, peer)
		{
			(void)key;
			print_peer(peer);
		}
	}
}

static int run_status(const struct options *opt)
{
	struct http_answer answer;
	json_object *status = ask(opt, "GET", "/localapi/v0/status", &answer);

	if (status && opt->json)
		puts(answer.body);
	else if (status)
		print_status(status);
	free(answer.body);
	json_object_put(status);
	return status ? 0 : 1;
}

static bool has_address(json_object *node, const struct ip_addr *wanted)
{
	json_object *ips = part_of(node, "TailscaleIPs");
	size_t n = json_object_is_type(ips, json_type_array) ? json_object_array_length(ips) : 0;
	struct ip_addr ip;

	for (size_t i = 0; i < n; i++) {
		const char *text = json_object_get_string(json_object_array_get_idx(ips, i));

		if (text && ip_parse(text, &ip) == 0 && ip_equal(&ip, wanted))
			return true;
	}
	return false;
}

static bool is_called(json_object *node, const char *name)
{
	size_t len = strlen(name);
	const char *full = text_of(node, "DNSName");

	if (len && name[len - 1] == '.')
		len--;
	if (len == 0)
		return false;
	return (strlen(text_of(node, "HostName")) == len &&
		strncasecmp(text_of(node, "HostName"), name, len) == 0) ||
	       (strncasecmp(full, name, len) == 0 &&
		(full[len] == '\0' || strcmp(full + len, ".") == 0));
}

/* The node of that name or address, or NULL; ours when who is NULL. */
static json_object *find_node(json_object *status, const char *who)
{
	json_object *self = part_of(status, "Self"), *peers = part_of(status, "Peer");
	struct ip_addr ip;
	bool numeric = who && ip_parse(who, &ip) == 0;

	if (!who || (numeric ? has_address(self, &ip) : is_called(self, who)))
		return self;
	if (!peers)
		return NULL;
	json_object_object_foreach(peers, key, peer)
	{
		(void)key;
		if (numeric ? has_address(peer, &ip) : is_called(peer, who))
			return peer;
	}
	return NULL;
}

static int run_ip(const struct options *opt, const char *who)
{
	struct http_answer answer;
	json_object *status = ask(opt, "GET", "/localapi/v0/status", &answer), *node;
	int result = 1;

	if (status) {
		node = find_node(status, who);
		if (!node) {
			fprintf(stderr, "meshctl: no node %s in this mesh; see meshctl status\n",
				who);
		} else if (opt->json) {
			puts(json_object_to_json_string(part_of(node, "TailscaleIPs")));
			result = 0;
		} else {
			print_addresses(node, opt, "\n");
			putchar('\n');
			result = 0;
		}
	}
	free(answer.body);
	json_object_put(status);
	return result;
}

/* One ping: 0 answered, 1 not, -1 the daemon cannot be asked any more. */
static int ping_once(const struct options *opt, const char *who, const char *target,
		     const char *via)
{
	struct http_answer answer;
	json_object *pong = ask(opt, "POST", target, &answer);
	int result = -1;

	if (!pong)
		goto out;
	result = *text_of(pong, "Err") ? 1 : 0;
	if (opt->json) {
		puts(answer.body);
	} else if (result == 0) {
		printf("pong from %s (%s)", text_of(pong, "NodeName"), text_of(pong, "NodeIP"));
		if (*via)
			printf(" via %s", via);
		printf(" in %.1f ms\n",
		       json_object_get_double(part_of(pong, "LatencySeconds")) * 1000);
	} else {
		fprintf(stderr, "meshctl: no pong from %s: %s\n", who, text_of(pong, "Err"));
		/* Asking for what does not exist again would not help. */
		if (answer.status == 404)
			result = -1;
	}
	fflush(stdout);
out:
	free(answer.body);
	json_object_put(pong);
	return result;
}

/* Where the peer is now, into via; false when the daemon cannot be asked. */
static bool find_via(const struct options *opt, const char *who, char *via, size_t via_len)
{
	struct http_answer answer;
	json_object *status = ask(opt, "GET", "/localapi/v0/status", &answer);

	if (status)
		snprintf(via, via_len, "%s", text_of(find_node(status, who), "CurAddr"));
	free(answer.body);
	json_object_put(status);
	return status != NULL;
}

static int run_ping(const struct options *opt, const char *who)
{
	char target[512] = "/localapi/v0/ping?ip=", via[ENDPOINT_TEXT_MAX] = "";
	size_t prefix = strlen(target);
	int answered = 0, result = 0;

	if (http_escape(who, target + prefix, sizeof(target) - prefix) < 0) {
		fprintf(stderr, "meshctl: %.40s... is too long to be a node's name\n", who);
		return 1;
	}
	if (!opt->json && !find_via(opt, who, via, sizeof(via)))
		return 1;
	for (int i = 0; i < opt->count && result >= 0; i++) {
		if (i)
			usleep(PING_PAUSE_US);
		result = ping_once(opt, who, target, via);
		answered += result == 0;
	}
	return answered ? 0 : 1;
}

static int run(const struct options *opt, int argc, char **argv)
{
	const char *command = argv[0];

	if (strcmp(command, "status") == 0 && argc == 1)
		return run_status(opt);
	if (strcmp(command, "ip") == 0 && argc <= 2)
		return run_ip(opt, argc == 2 ? argv[1] : NULL);
	if (strcmp(command, "ping") == 0 && argc == 2)
		return run_ping(opt, argv[1]);
	if (strcmp(command, "version") == 0 && argc == 1)
		return printf("meshctl %s\n", MESHWRAP_VERSION) < 0;
	if (strcmp(command, "help") == 0) {
		usage(stdout);
		return 0;
	}
	usage(stderr);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "dir", required_argument, NULL, 'd' },
					       { "json", no_argument, NULL, 'j' },
					       { "help", no_argument, NULL, 'h' },
					       { "version", no_argument, NULL, 'V' },
					       { 0 } };
	struct options opt = { .count = PING_COUNT };
	const char *dir = getenv("MESHWRAP_DIR");
	char *end;
	int c;

	while ((c = getopt_long(argc, argv, "46c:", longs, NULL)) != -1) {
		switch (c) {
		case 'd':
			dir = optarg;
			break;
		case 'j':
			opt.json = true;
			break;
		case '4':
			opt.v4 = true;
			break;
		case '6':
			opt.v6 = true;
			break;
		case 'c':
			opt.count = (int)strtol(optarg, &end, 10);
			if (*end || opt.count < 1 || opt.count > 1000000) {
				fputs("meshctl: -c takes a number from 1 to 1000000\n", stderr);
				return EXIT_USAGE;
			}
			break;
		case 'h':
			usage(stdout);
			return 0;
		case 'V':
			return printf("meshctl %s\n", MESHWRAP_VERSION) < 0;
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind == argc) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (paths_runtime_dir(dir, getenv("XDG_RUNTIME_DIR"), getuid(), opt.dir) < 0) {
		fprintf(stderr, "meshctl: the runtime folder's name has more than %d bytes\n",
			PATHS_MAX - 1);
		return 1;
	}
	return run(&opt, argc - optind, argv + optind);
}
