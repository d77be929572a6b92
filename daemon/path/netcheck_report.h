/* A netcheck report as JSON, in the shape that `tailscale netcheck --format json` prints. */
#ifndef MESHWRAP_DAEMON_PATH_NETCHECK_REPORT_H
#define MESHWRAP_DAEMON_PATH_NETCHECK_REPORT_H

#include <stdint.h>

struct derp_map;
struct json_object;
struct netcheck_report;

/* wall_s, wall_ns: when it was made. A new object of the caller's, or NULL on -ENOMEM. */
struct json_object *netcheck_report_json(const struct netcheck_report *report, uint64_t wall_s,
					 uint32_t wall_ns);
/* Adds "Regions" {"id": {"Code", "Name"}}, for those who print text. 0 or -ENOMEM. */
int netcheck_report_add_regions(struct json_object *json, const struct derp_map *map);

#endif
