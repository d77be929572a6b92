/* meshctl status: this node and its peers, as a table with the stock client's words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/flags.h"
#include "shared/util.h"

#define COLUMNS  5
#define CELL_MAX 320

struct row {
	char cell[COLUMNS][CELL_MAX];
};

struct table {
	struct row *rows;
	size_t count, room;
};

static bool add_row(struct table *t, struct row **row)
{
	if (t->count == t->room) {
		size_t room = t->room ? t->room * 2 : 64;
		struct row *grown = realloc(t->rows, room * sizeof(*grown));

		if (!grown)
			return false;
		t->rows = grown;
		t->room = room;
	}
	*row = &t->rows[t->count++];
	memset(*row, 0, sizeof(**row));
	return true;
}

/* Cells padded to the widest of their column and two spaces; the last one ends the line. */
static void print_table(const struct table *t)
{
	int width[COLUMNS] = { 0 };

	for (size_t i = 0; i < t->count; i++)
		for (int c = 0; c < COLUMNS; c++)
			width[c] = MAX(width[c], (int)strlen(t->rows[i].cell[c]));
	for (size_t i = 0; i < t->count; i++) {
		for (int c = 0; c < COLUMNS - 1; c++)
			printf("%-*s", width[c] + 2, t->rows[i].cell[c]);
		puts(t->rows[i].cell[COLUMNS - 1]);
	}
}

/* "2026-01-01T00:00:00Z" as seconds since 1970; 0 for the zero time and what is none. */
static time_t parse_time(const char *text)
{
	struct tm tm = { 0 };
	time_t t;

	if (!strptime(text, "%Y-%m-%dT%H:%M:%S", &tm))
		return 0;
	t = timegm(&tm);
	return t > 0 ? t : 0;
}

static void last_seen(json_object *node, char *text, size_t room)
{
	time_t seen = parse_time(ctl_text(node, "LastSeen"));
	long minutes = (long)((time(NULL) - seen) / 60);

	text[0] = '\0';
	if (!seen)
		return;
	minutes = MAX(minutes, 1L);
	if (minutes < 60)
		snprintf(text, room, ", last seen %ldm ago", minutes);
	else if (minutes < 24 * 60)
		snprintf(text, room, ", last seen %ldh ago", minutes / 60);
	else
		snprintf(text, room, ", last seen %ldd ago", minutes / (24 * 60));
}

static void write_state(json_object *node, char cell[static CELL_MAX])
{
	const char *at = ctl_text(node, "CurAddr"), *relay = ctl_text(node, "Relay");
	long long rx = ctl_number(node, "RxBytes"), tx = ctl_number(node, "TxBytes");
	bool is_online = ctl_flag(node, "Online"), offers = ctl_flag(node, "ExitNodeOption");
	char seen[64], how[CELL_MAX / 2] = "";
	const char *offline = is_online ? "" : "; offline";
	int len;

	last_seen(node, seen, sizeof(seen));
	if (ctl_flag(node, "Active")) {
		if (*at)
			snprintf(how, sizeof(how), "direct %s", at);
		else if (*relay)
			snprintf(how, sizeof(how), "relay \"%s\"", relay);
		len = snprintf(cell, CELL_MAX, "active; %s%s%s", offers ? "offers exit node; " : "",
			       how, offline);
	} else if (offers) {
		len = snprintf(cell, CELL_MAX, "idle; offers exit node%s", offline);
	} else if (rx || tx) {
		len = snprintf(cell, CELL_MAX, "idle%s", offline);
	} else if (!is_online) {
		len = snprintf(cell, CELL_MAX, "offline%s", seen);
	} else {
		len = snprintf(cell, CELL_MAX, "-");
	}
	if ((rx || tx) && len > 0 && len < CELL_MAX)
		snprintf(cell + len, (size_t)(CELL_MAX - len), ", tx %lld rx %lld", tx, rx);
}

static void write_owner(json_object *status, json_object *node, char cell[static CELL_MAX])
{
	json_object *user = ctl_part(ctl_part(status, "User"), ctl_text(node, "UserID"));
	const char *login = ctl_text(user, "LoginName"), *at = strchr(login, '@');

	if (!ctl_number(node, "UserID"))
		snprintf(cell, CELL_MAX, "-");
	else if (!user)
		snprintf(cell, CELL_MAX, "%s", ctl_text(node, "UserID"));
	else
		snprintf(cell, CELL_MAX, "%.*s", (int)(at ? at - login + 1 : (int)strlen(login)),
			 login);
}

static bool add_node(struct table *t, json_object *status, json_object *node)
{
	json_object *ips = ctl_part(node, "TailscaleIPs");
	struct row *row;

	if (!add_row(t, &row))
		return false;
	snprintf(row->cell[0], CELL_MAX, "%s", ctl_length(ips) ? ctl_text_at(ips, 0) : "");
	ctl_node_name(status, node, row->cell[1], CELL_MAX);
	write_owner(status, node, row->cell[2]);
	snprintf(row->cell[3], CELL_MAX, "%s", ctl_text(node, "OS"));
	write_state(node, row->cell[4]);
	for (int c = 0; c < COLUMNS; c++)
		ctl_clean(row->cell[c]);
	return true;
}

static const char *sort_key(json_object *node)
{
	const char *name = ctl_text(node, "DNSName");

	return *name ? name : ctl_text(node, "HostName");
}

static int compare_nodes(const void *a, const void *b)
{
	return strcmp(sort_key(*(json_object *const *)a), sort_key(*(json_object *const *)b));
}

static bool add_peers(struct table *t, json_object *status, bool active)
{
	json_object *peers = ctl_part(status, "Peer"), **list;
	size_t count = 0;
	bool done = true;

	if (!json_object_is_type(peers, json_type_object) || !json_object_object_length(peers))
		return true;
	list = calloc((size_t)json_object_object_length(peers), sizeof(json_object *));
	if (!list)
		return false;
	{
		json_object_object_foreach(peers, key, peer)
		{
			(void)key;
			if (!ctl_flag(peer, "ShareeNode") && (!active || ctl_flag(peer, "Active")))
				list[count++] = peer;
		}
	}
	qsort(list, count, sizeof(json_object *), compare_nodes);
	for (size_t i = 0; i < count && done; i++)
		done = add_node(t, status, list[i]);
	free(list);
	return done;
}

static void print_notes(json_object *status)
{
	json_object *health = ctl_part(status, "Health");

	if (ctl_length(health)) {
		printf("\n# Health check:\n");
		for (size_t i = 0; i < ctl_length(health); i++)
			printf("#     - %s\n", ctl_text_at(health, i));
	}
	if (ctl_part(status, "SynHold") && !ctl_flag(status, "SynHold"))
		printf("\n# SYN hold does not work here (%s): programs' connects wait for the "
		       "dial.\n",
		       ctl_text(status, "SynHoldWhy"));
}

bool ctl_is_running(json_object *status, FILE *to)
{
	const char *state = ctl_text(status, "BackendState"), *url = ctl_text(status, "AuthURL");

	if (strcmp(state, "Running") == 0 || strcmp(state, "Starting") == 0)
		return true;
	if (strcmp(state, "Stopped") == 0) {
		fputs("Tailscale is stopped.\n", to);
	} else if (strcmp(state, "NeedsLogin") == 0) {
		fputs("Logged out.\n", to);
		if (*url)
			fprintf(to, "Log in at: %s\n", url);
		else if (*ctl_text(status, "LoginError"))
			fprintf(to, "Why: %s\n", ctl_text(status, "LoginError"));
	} else if (strcmp(state, "NeedsMachineAuth") == 0) {
		fputs("Machine is not yet approved by tailnet admin.\n", to);
	} else {
		fprintf(to, "unexpected state: %s\n", state);
	}
	return false;
}

/* --active, and --self=false: what the daemon does not leave out itself. */
static void filter(json_object *status, bool active, bool self)
{
	json_object *peers = ctl_part(status, "Peer");

	if (!self)
		json_object_object_add(status, "Self", NULL);
	if (!active || !json_object_is_type(peers, json_type_object))
		return;
	for (struct json_object_iterator i = json_object_iter_begin(peers),
					 end = json_object_iter_end(peers);
	     !json_object_iter_equal(&i, &end);) {
		const char *key = json_object_iter_peek_name(&i);
		bool keep = ctl_flag(json_object_iter_peek_value(&i), "Active");

		json_object_iter_next(&i);
		if (!keep)
			json_object_object_del(peers, key);
	}
}

static int print_json(json_object *status, bool active, bool self)
{
	filter(status, active, self);
	ctl_print_json(status);
	return 0;
}

static int print_text(json_object *status, bool active, bool self)
{
	struct table table = { 0 };
	int result = 1;

	if (!ctl_is_running(status, stdout))
		return 1;
	if ((!self || add_node(&table, status, ctl_part(status, "Self"))) &&
	    add_peers(&table, status, active)) {
		print_table(&table);
		print_notes(status);
		result = 0;
	} else {
		fputs("out of memory\n", stderr);
	}
	free(table.rows);
	return result;
}

int ctl_status(const struct ctl *ctl, int argc, char **argv)
{
	bool json = ctl->json, peers = true, active = false, self = true;
	const struct flag flags[] = { { "json", FLAG_BOOL, { .is_set = &json } },
				      { "peers", FLAG_BOOL, { .is_set = &peers } },
				      { "active", FLAG_BOOL, { .is_set = &active } },
				      { "self", FLAG_BOOL, { .is_set = &self } },
				      { NULL, FLAG_BOOL, { NULL } } };
	char error[FLAGS_ERROR_MAX];
	struct ctl_answer answer;
	int words = flags_take(flags, argc, argv, error), result;

	if (words != 0) {
		fprintf(stderr, "%s\n",
			words < 0 ? error : "unexpected non-flag arguments to 'meshctl status'");
		return words < 0 ? 2 : 1;
	}
	if (!ctl_ask_or_tell(ctl, "GET", peers ? "status" : "status?peers=false", CTL_ANSWER_MS,
			     &answer))
		return 1;
	result = json ? print_json(answer.json, active, self)
		      : print_text(answer.json, active, self);
	ctl_answer_finish(&answer);
	return result;
}
