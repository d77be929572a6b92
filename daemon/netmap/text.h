/* Writing JSON and times, as the whole folder does it. */
#ifndef MESHWRAP_DAEMON_NETMAP_TEXT_H
#define MESHWRAP_DAEMON_NETMAP_TEXT_H

#include <stdint.h>

#include <json.h>

#define TEXT_FLAGS    (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
#define TEXT_TIME_MAX 24

/* "2026-01-02T03:04:05Z"; "0001-01-01T00:00:00Z" for 0 and what no year of four digits has. */
char *text_time(int64_t time_s, char text[static TEXT_TIME_MAX]);

#endif
