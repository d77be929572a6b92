/* A netcheck report as `tailscale netcheck` prints it. */
#ifndef MESHWRAP_DAEMON_PATH_NETCHECK_REPORT_H
#define MESHWRAP_DAEMON_PATH_NETCHECK_REPORT_H

#include <stdint.h>
#include <stdio.h>

struct derp_map;
struct json_object;
struct netcheck_report;

/* wall_s, wall_ns: when it was made. A new object of the caller's, or NULL on -ENOMEM. */
struct json_object *netcheck_report_json(const struct netcheck_report *report, uint64_t wall_s,
					 uint32_t wall_ns);
/* The JSON indented by tabs, or the text form. malloc'd, ends in a newline; NULL on -ENOMEM. */
char *netcheck_report_json_text(const struct netcheck_report *report, uint64_t wall_s,
				uint32_t wall_ns);
char *netcheck_report_text(const struct netcheck_report *report, const struct derp_map *map,
			   uint64_t wall_s, uint32_t wall_ns);

#endif
