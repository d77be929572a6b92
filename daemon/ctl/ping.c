/*
 * meshctl ping: one question a second until the path is direct. Each has a time limit
 * of ours; who asks too long just hangs up, and the daemon forgets the ping.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/flags.h"
#include "daemon/ctl/http.h"

#define PAUSE_US   1000000
#define COUNT      10
#define TIMEOUT_MS 5000
#define NO_ANSWER  "no answer in time" /* the daemon's own limit */

struct pinging {
	const struct ctl *ctl;
	int count, size;
	int64_t timeout_ms;
	bool until_direct, verbose, tsmp, icmp, peerapi, json;
	const char *ip;
	char path[256];
	bool was_answered, is_direct;
};

enum outcome { PONG, SILENT, FAILED, IS_SELF };

static const char *type_of(const struct pinging *p)
{
	return p->icmp ? "ICMP" : p->tsmp ? "TSMP" : "disco";
}

static void print_pong(const struct pinging *p, json_object *pong)
{
	/* Neither path nor relay: it was no disco. A plain WireGuard peer is asked by ICMP. */
	const char *via = ctl_text(pong, "Endpoint"), *without = p->tsmp ? "TSMP" : "ICMP";
	double seconds = json_object_get_double(ctl_part(pong, "LatencySeconds"));
	char text[128], port[16] = "";

	if (ctl_number(pong, "DERPRegionID")) {
		snprintf(text, sizeof(text), "DERP(%s)", ctl_text(pong, "DERPRegionCode"));
		via = text;
	}
	if (ctl_number(pong, "PeerAPIPort"))
		snprintf(port, sizeof(port), ", %lld", (long long)ctl_number(pong, "PeerAPIPort"));
	printf("pong from %s (%s%s) via %s in %.0fms\n", ctl_text(pong, "NodeName"),
	       ctl_text(pong, "NodeIP"), port, *via ? via : without, seconds * 1000);
}

static enum outcome judge(struct pinging *p, const struct ctl_answer *answer)
{
	const char *error = ctl_text(answer->json, "Err");
	bool is_late = strcmp(error, NO_ANSWER) == 0;

	if (answer->status != 200)
		error = ctl_text(answer->json, "error");
	if (p->json && answer->status == 200)
		puts(answer->body);
	if (is_late)
		return SILENT;
	if (ctl_flag(answer->json, "IsLocalIP")) {
		if (!p->json)
			puts(error);
		return IS_SELF;
	}
	if (*error) {
		fprintf(stderr, "%s\n", error);
		return FAILED;
	}
	if (!p->json)
		print_pong(p, answer->json);
	p->was_answered = true;
	p->is_direct = ctl_number(answer->json, "DERPRegionID") == 0;
	return PONG;
}

static enum outcome ask_once(struct pinging *p)
{
	struct ctl_answer answer;
	enum outcome outcome;
	bool timed_out;

	if (!ctl_ask(p->ctl, "POST", p->path, (int)p->timeout_ms, &answer, &timed_out)) {
		outcome = timed_out ? SILENT : FAILED;
	} else {
		outcome = judge(p, &answer);
		ctl_answer_finish(&answer);
	}
	if (outcome == SILENT && !p->json)
		printf("ping \"%s\" timed out\n", p->ip);
	fflush(stdout);
	return outcome;
}

static int run(struct pinging *p)
{
	for (int n = 1;; n++) {
		enum outcome outcome = ask_once(p);

		if (outcome == FAILED)
			return 1;
		if (outcome == IS_SELF)
			return 0;
		if (outcome == PONG && (p->tsmp || p->icmp || (p->is_direct && p->until_direct)))
			return 0;
		if (n == p->count)
			break;
		if (outcome == PONG)
			usleep(PAUSE_US);
	}
	if (p->was_answered && !p->until_direct)
		return 0;
	fprintf(stderr, "%s\n", p->was_answered ? "direct connection not established" : "no reply");
	return 1;
}

/* False with the exit status in *status: nothing is to be pinged. */
static bool prepare(struct pinging *p, json_object *status, const char *who, int *result)
{
	char escaped[200];
	bool is_self;

	*result = 1;
	p->ip = ctl_find_ip(status, who, &is_self);
	if (!p->ip)
		return false;
	if (p->verbose && !p->json && strcmp(p->ip, who) != 0)
		printf("lookup \"%s\" => \"%s\"\n", who, p->ip);
	if (is_self && !p->json) { /* else the daemon says so */
		printf("%s is local Tailscale IP\n", p->ip);
		*result = 0;
		return false;
	}
	if (http_escape(p->ip, escaped, sizeof(escaped)) != 0)
		return false;
	snprintf(p->path, sizeof(p->path), "ping?ip=%s&type=%s&size=%d", escaped, type_of(p),
		 p->size);
	return true;
}

int ctl_ping(const struct ctl *ctl, int argc, char **argv)
{
	struct pinging p = { .ctl = ctl,
			     .count = COUNT,
			     .timeout_ms = TIMEOUT_MS,
			     .until_direct = true,
			     .json = ctl->json };
	const struct flag flags[] = { { "c", FLAG_NUMBER, { .number = &p.count } },
				      { "size", FLAG_NUMBER, { .number = &p.size } },
				      { "timeout", FLAG_DURATION, { .ms = &p.timeout_ms } },
				      { "until-direct", FLAG_BOOL, { .is_set = &p.until_direct } },
				      { "verbose", FLAG_BOOL, { .is_set = &p.verbose } },
				      { "tsmp", FLAG_BOOL, { .is_set = &p.tsmp } },
				      { "icmp", FLAG_BOOL, { .is_set = &p.icmp } },
				      { "peerapi", FLAG_BOOL, { .is_set = &p.peerapi } },
				      { "json", FLAG_BOOL, { .is_set = &p.json } },
				      { NULL, FLAG_BOOL, { NULL } } };
	char error[FLAGS_ERROR_MAX];
	struct ctl_answer status;
	int words = flags_take(flags, argc, argv, error), result = 1;

	if (words != 1 || p.peerapi) {
		fprintf(stderr, "%s\n",
			words < 0    ? error
			: words != 1 ? "usage: meshctl ping <hostname-or-IP>"
				     : "nodes of this kind have no peerapi to ping");
		return words < 0 ? 2 : 1;
	}
	p.timeout_ms = p.timeout_ms < 1 ? 1 : p.timeout_ms > 3600000 ? 3600000 : p.timeout_ms;
	if (!ctl_ask_or_tell(ctl, "GET", "status", CTL_ANSWER_MS, &status))
		return 1;
	if (ctl_is_running(status.json, p.json ? stderr : stdout) &&
	    prepare(&p, status.json, argv[0], &result))
		result = run(&p);
	ctl_answer_finish(&status);
	return result;
}
