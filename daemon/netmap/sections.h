/*
 * The parts of the map that are replaced as a whole: relays, names, filter,
 * texts. Each is made from the server's JSON, which it keeps as text (in a
 * canonical order), and lives in its own arena.
 */
#ifndef MESHWRAP_DAEMON_NETMAP_SECTIONS_H
#define MESHWRAP_DAEMON_NETMAP_SECTIONS_H

#include <json.h>

#include "daemon/netmap/arena.h"
#include "daemon/netmap/types.h"

#define SECTION_REGIONS_MAX 1024
#define SECTION_RELAYS_MAX  64        /* of one region */
#define SECTION_RANGES_MAX  (1 << 18) /* sources and destinations of all rules */
#define SECTION_RULES_MAX   (1 << 16)
#define SECTION_ROUTES_MAX  4096
#define SECTION_RECORDS_MAX 16384
#define SECTION_TEXTS_MAX   64

struct section_derp {
	struct arena arena;
	const char *json;
	struct derp_map map;
};

struct section_dns {
	struct arena arena;
	const char *json;
	struct dns_config config;
};

struct section_filter {
	struct arena arena;
	const char *json; /* object: name -> list of rules */
	struct netmap_rule *rules;
	unsigned count;
};

struct section_health {
	struct arena arena;
	const char *json; /* {"Health": list, "DisplayMessages": object} */
	const char *const *texts;
	unsigned count;
};

/* NULL on -ENOMEM. *ignored counts entries left out. o may be NULL: empty. */
struct section_derp *section_derp_create(struct json_object *o, unsigned *ignored);
struct section_dns *section_dns_create(struct json_object *o, unsigned *ignored);
struct section_filter *section_filter_create(struct json_object *o, unsigned *ignored);
struct section_health *section_health_create(struct json_object *o);
/* Each may be NULL. */
void section_derp_destroy(struct section_derp *s);
void section_dns_destroy(struct section_dns *s);
void section_filter_destroy(struct section_filter *s);
void section_health_destroy(struct section_health *s);

#endif
