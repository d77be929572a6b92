/* meshctl ip: addresses, one a line. */
#include <stdio.h>
#include <string.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/flags.h"

struct wanted {
	bool v4, v6, one, json;
	const char *assert_ip;
};

static json_object *peer_with_ip(json_object *status, const struct ip_addr *ip)
{
	json_object *peers = ctl_part(status, "Peer");

	if (ctl_node_has_ip(ctl_part(status, "Self"), ip))
		return ctl_part(status, "Self");
	if (!json_object_is_type(peers, json_type_object))
		return NULL;
	json_object_object_foreach(peers, key, peer)
	{
		(void)key;
		if (ctl_node_has_ip(peer, ip))
			return peer;
	}
	return NULL;
}

/* The list of addresses asked for, or NULL after saying why there is none. */
static json_object *find_ips(json_object *status, const char *who)
{
	const char *text;
	struct ip_addr ip;
	json_object *node;
	bool is_self;

	if (!who)
		return ctl_part(ctl_part(status, "Self"), "TailscaleIPs");
	text = ctl_find_ip(status, who, &is_self);
	if (!text || ip_parse(text, &ip) != 0)
		return NULL;
	node = peer_with_ip(status, &ip);
	if (!node)
		fprintf(stderr, "no peer or service found with IP %s\n", text);
	return ctl_part(node, "TailscaleIPs");
}

static int check(json_object *ips, const char *wanted)
{
	for (size_t i = 0; i < ctl_length(ips); i++)
		if (strcmp(ctl_text_at(ips, i), wanted) == 0)
			return 0;
	fprintf(stderr, "assertion failed: IP \"%s\" not found among [", wanted);
	for (size_t i = 0; i < ctl_length(ips); i++)
		fprintf(stderr, "%s%s", i ? " " : "", ctl_text_at(ips, i));
	fputs("]\n", stderr);
	return 1;
}

static int print(json_object *ips, const struct wanted *w)
{
	json_object *list = json_object_new_array();
	bool all = !w->v4 && !w->v6;

	for (size_t i = 0; i < ctl_length(ips); i++) {
		const char *text = ctl_text_at(ips, i);

		if (!all && (strchr(text, ':') ? !w->v6 : !w->v4))
			continue;
		if (!w->one || ctl_length(list) == 0)
			json_object_array_add(list, json_object_new_string(text));
	}
	if (w->json)
		puts(json_object_to_json_string(list));
	for (size_t i = 0; i < ctl_length(list) && !w->json; i++)
		puts(ctl_text_at(list, i));
	all = ctl_length(list) > 0;
	json_object_put(list);
	if (!all)
		fprintf(stderr, "no Tailscale IPv%c address\n", w->v4 ? '4' : '6');
	return all ? 0 : 1;
}

static int answer_for(json_object *status, const char *who, const struct wanted *w)
{
	json_object *ips = find_ips(status, who);

	if (!ips && who)
		return 1;
	if (ctl_length(ips) == 0) {
		fprintf(stderr, "no current Tailscale IPs; state: %s\n",
			ctl_text(status, "BackendState"));
		return 1;
	}
	return w->assert_ip ? check(ips, w->assert_ip) : print(ips, w);
}

int ctl_ip(const struct ctl *ctl, int argc, char **argv)
{
	struct wanted w = { .json = ctl->json };
	const struct flag flags[] = { { "1", FLAG_BOOL, { .is_set = &w.one } },
				      { "4", FLAG_BOOL, { .is_set = &w.v4 } },
				      { "6", FLAG_BOOL, { .is_set = &w.v6 } },
				      { "json", FLAG_BOOL, { .is_set = &w.json } },
				      { "assert", FLAG_TEXT, { .text = &w.assert_ip } },
				      { NULL, FLAG_BOOL, { NULL } } };
	char error[FLAGS_ERROR_MAX];
	struct ctl_answer answer;
	int words = flags_take(flags, argc, argv, error), result;

	if (words < 0 || words > 1) {
		fprintf(stderr, "%s\n",
			words < 0 ? error : "too many arguments, expected at most one peer");
		return words < 0 ? 2 : 1;
	}
	if (w.one + w.v4 + w.v6 > 1) {
		fputs("tailscale ip -1, -4, and -6 are mutually exclusive\n", stderr);
		return 1;
	}
	if (!ctl_ask_or_tell(ctl, "GET", "status", CTL_ANSWER_MS, &answer))
		return 1;
	result = answer_for(answer.json, words ? argv[0] : NULL, &w);
	ctl_answer_finish(&answer);
	return result;
}
