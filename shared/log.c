/*
 * Log lines. One write() each, so that lines of several processes on one
 * descriptor do not mix; a line that does not fit is cut, never split.
 */
#include "shared/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "shared/util.h"

#define LINE_MAX_BYTES 1024
#define GATE_NS        (10 * NS_PER_S)

static enum log_level max_level = LOG_INFO;

void log_set_level(enum log_level level)
{
	max_level = level;
}

enum log_level log_level(void)
{
	return max_level;
}

static void write_line(enum log_level level, const char *suffix, const char *format, va_list args)
{
	static const char *const names[] = { "error: ", "warning: ", "", "debug: " };
	char line[LINE_MAX_BYTES];
	size_t len;
	int n, saved = errno;

	len = (size_t)snprintf(line, sizeof(line), "%s", names[level]);
	n = vsnprintf(line + len, sizeof(line) - len - 64, format, args);
	if (n > 0)
		len = MIN(len + (size_t)n, sizeof(line) - 65);
	n = snprintf(line + len, sizeof(line) - len - 1, "%s", suffix);
	if (n > 0)
		len = MIN(len + (size_t)n, sizeof(line) - 2);
	line[len++] = '\n';
	/* Nobody to tell when standard error itself fails. */
	if (write(STDERR_FILENO, line, len) < 0)
		errno = saved;
	errno = saved;
}

void log_write(enum log_level level, const char *format, ...)
{
	va_list args;

	if (level > max_level)
		return;
	va_start(args, format);
	write_line(level, "", format, args);
	va_end(args);
}

void log_limited(struct log_gate *gate, uint64_t now_ns, enum log_level level, const char *format,
		 ...)
{
	uint64_t ahead_ns = gate->burst > 1 ? (gate->burst - 1) * GATE_NS : 0;
	char suffix[48] = "";
	va_list args;

	if (level > max_level)
		return;
	if (now_ns + ahead_ns < gate->next_ns) {
		gate->dropped++;
		return;
	}
	if (gate->dropped)
		snprintf(suffix, sizeof(suffix), " (and %u more like it)", gate->dropped);
	gate->next_ns = MAX(gate->next_ns, now_ns) + GATE_NS;
	gate->dropped = 0;
	va_start(args, format);
	write_line(level, suffix, format, args);
	va_end(args);
}
