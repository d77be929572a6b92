/* What the files of meshctl share. Each command says what is wrong itself and returns the exit
 * status. */
#ifndef MESHWRAP_DAEMON_CTL_CTL_H
#define MESHWRAP_DAEMON_CTL_CTL_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "shared/endpoint.h"
#include "shared/paths.h"

#define CTL_ANSWER_MS 10000
#define CTL_PREFIX    "/localapi/v0/"

struct ctl {
	char dir[PATHS_MAX];
	char socket[PATHS_MAX + 8];
	const char *where; /* of the two, for messages */
	bool json;         /* --json before the command */
};

/* ---- commands: argv[0] is the first word after the command's name ---- */

int ctl_status(const struct ctl *ctl, int argc, char **argv);
int ctl_ip(const struct ctl *ctl, int argc, char **argv);
int ctl_ping(const struct ctl *ctl, int argc, char **argv);
int ctl_whois(const struct ctl *ctl, int argc, char **argv);
int ctl_netcheck(const struct ctl *ctl, int argc, char **argv);
int ctl_up(const struct ctl *ctl, int argc, char **argv);
int ctl_down(const struct ctl *ctl, int argc, char **argv);
int ctl_logout(const struct ctl *ctl, int argc, char **argv);
int ctl_reload(const struct ctl *ctl, int argc, char **argv);
int ctl_version(const struct ctl *ctl, int argc, char **argv);

/* ---- asking the daemon ---- */

struct ctl_answer {
	int status;        /* HTTP's */
	char *body;        /* as it came */
	json_object *json; /* the same, parsed */
};

/*
 * path below CTL_PREFIX. False after saying why there is no answer; -ETIMEDOUT in
 * *timed_out instead where that is not NULL.
 */
bool ctl_ask(const struct ctl *ctl, const char *method, const char *path, int timeout_ms,
	     struct ctl_answer *answer, bool *timed_out);
/* The same, and an answer that is an error is told, too. */
bool ctl_ask_or_tell(const struct ctl *ctl, const char *method, const char *path, int timeout_ms,
		     struct ctl_answer *answer);
void ctl_answer_finish(struct ctl_answer *answer);

/* ---- JSON: what is missing is "", 0, false or NULL ---- */

const char *ctl_text(json_object *from, const char *key);
int64_t ctl_number(json_object *from, const char *key);
bool ctl_flag(json_object *from, const char *key);
json_object *ctl_part(json_object *from, const char *key);
size_t ctl_length(json_object *list);
const char *ctl_text_at(json_object *list, size_t i);
/* Indented by 2, with a space after colons as scripts grep for it; no newline at the end. */
void ctl_print_json(json_object *json);

/* What a node says of itself goes to a terminal: without control characters. */
void ctl_clean(char *text);

/* ---- nodes in a status ---- */

/* Is the node on the mesh, or about to be? False after saying there why not. */
bool ctl_is_running(json_object *status, FILE *to);

bool ctl_node_has_ip(json_object *node, const struct ip_addr *ip);
/* Its name without the tailnet's suffix, or its quoted host name in parentheses. */
void ctl_node_name(json_object *status, json_object *node, char *name, size_t room);
/*
 * An IP address, a short or a full name, as its first address's text (which status
 * or argv own). NULL after saying that there is none. *is_self as far as known.
 */
const char *ctl_find_ip(json_object *status, const char *who, bool *is_self);

#endif
