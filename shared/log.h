/*
 * Log lines for the daemon and the tools: "module: who: what, what follows".
 *
 * To standard error, one write() a line, errno preserved. err = act now, warn
 * = degraded, info = life cycle, debug = per flow. What a peer can trigger is
 * debug, or goes through log_limited(). The shim has a log of its own.
 */
#ifndef MESHWRAP_SHARED_LOG_H
#define MESHWRAP_SHARED_LOG_H

#include <stdint.h>

enum log_level { LOG_ERR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/*
 * From now on a line that standard error does not take at once is dropped, and the next one that it
 * takes says how many were. For a daemon, once at its start.
 */
void log_never_wait(void);

/*
 * From now on lines begin with the time (UTC) where standard error is a regular file now: to
 * terminals, pipes and sockets it is added by who reads them, or not wanted. For a daemon.
 */
void log_tell_time(void);
/* What a line begins with then, for one that is not written by these functions; else "". */
#define LOG_TIME_MAX 40
const char *log_time(char text[static LOG_TIME_MAX]);
/* A line that somebody else wrote, from behind its time if it begins with one. Pure. */
const char *log_behind_time(const char *line);

/* Lines above this level are dropped. INFO until told otherwise. */
void log_set_level(enum log_level level);
enum log_level log_level(void);
/* "error", "warning", "info" or "debug". */
const char *log_level_name(enum log_level level);
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_err(...)  log_write(LOG_ERR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                     \
	do {                                               \
		if (log_level() >= LOG_DEBUG)              \
			log_write(LOG_DEBUG, __VA_ARGS__); \
	} while (0)

/* One line in ten seconds for each gate, some more at first; says how many were dropped since. */
struct log_gate {
	uint64_t next_ns;
	uint32_t dropped;
	uint32_t burst; /* so many may come at once; 0 and 1: one */
};
void log_limited(struct log_gate *gate, uint64_t now_ns, enum log_level level, const char *format,
		 ...) __attribute__((format(printf, 4, 5)));

#endif
