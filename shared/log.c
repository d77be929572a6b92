/*
 * Log lines. One write() each, so that lines of several processes on one
 * descriptor do not mix; a line that does not fit is cut, never split.
 *
 * Who has read standard error may have stopped, or be gone while somebody else keeps the pipe
 * open. A daemon that waits for such a reader serves nobody. So it asks first whether there is
 * room. Another process may take that room before us, so a pipe or a terminal is opened anew as
 * well, to be ours alone in how it waits: O_NONBLOCK belongs to all who share a descriptor.
 */
#include "shared/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shared/util.h"

#define LINE_MAX_BYTES 1024
#define GATE_NS        (10 * NS_PER_S)

static const char time_form[] = "0000-00-00T00:00:00.000Z "; /* RFC 3339 */

static enum log_level max_level = LOG_INFO;
static bool has_time;
static bool waits = true;
static unsigned lost; /* lines, since the last one that was written */

void log_set_level(enum log_level level)
{
	max_level = level;
}

enum log_level log_level(void)
{
	return max_level;
}

const char *log_level_name(enum log_level level)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };

	return names[level];
}

void log_tell_time(void)
{
	struct stat st;

	has_time = fstat(STDERR_FILENO, &st) == 0 && S_ISREG(st.st_mode);
}

const char *log_time(char text[static LOG_TIME_MAX])
{
	struct timespec now;
	struct tm utc;
	size_t len;

	text[0] = '\0';
	if (!has_time || clock_gettime(CLOCK_REALTIME, &now) != 0 || !gmtime_r(&now.tv_sec, &utc))
		return text;
	len = strftime(text, LOG_TIME_MAX, "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(text + len, LOG_TIME_MAX - len, ".%03uZ ", (unsigned)(now.tv_nsec / NS_PER_MS));
	return text;
}

const char *log_behind_time(const char *line)
{
	for (size_t i = 0; i < sizeof(time_form) - 1; i++) {
		bool is_digit = line[i] >= '0' && line[i] <= '9';

		if (time_form[i] == '0' ? !is_digit : line[i] != time_form[i])
			return line;
	}
	return line + sizeof(time_form) - 1;
}

void log_never_wait(void)
{
	struct stat st;
	int fd;

	waits = false;
	if (fstat(STDERR_FILENO, &st) != 0 || !(S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
		return;
	/* Where it is another user's it stays as it is. */
	fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return;
	dup2(fd, STDERR_FILENO);
	close(fd);
}

/* False: it is lost, since nobody reads. */
static bool put(const char *line, size_t len)
{
	struct pollfd room = { .fd = STDERR_FILENO, .events = POLLOUT };

	if (!waits && poll(&room, 1, 0) == 0)
		return false;
	/* Nobody to tell when standard error itself fails. */
	return write(STDERR_FILENO, line, len) >= 0 || waits || errno != EAGAIN;
}

static bool tell_lost(void)
{
	char line[128], time[LOG_TIME_MAX];
	int len = snprintf(line, sizeof(line),
			   "%swarning: %u lines of the log were lost, nobody read them\n",
			   log_time(time), lost);

	return put(line, (size_t)len);
}

static void write_line(enum log_level level, const char *suffix, const char *format, va_list args)
{
	static const char *const names[] = { "error: ", "warning: ", "", "debug: " };
	char line[LINE_MAX_BYTES], time[LOG_TIME_MAX];
	size_t len;
	int n, saved = errno;

	len = (size_t)snprintf(line, sizeof(line), "%s%s", log_time(time), names[level]);
	n = vsnprintf(line + len, sizeof(line) - len - 64, format, args);
	if (n > 0)
		len = MIN(len + (size_t)n, sizeof(line) - 65);
	n = snprintf(line + len, sizeof(line) - len - 1, "%s", suffix);
	if (n > 0)
		len = MIN(len + (size_t)n, sizeof(line) - 2);
	line[len++] = '\n';
	if (lost > 0 && tell_lost())
		lost = 0;
	if (lost > 0 || !put(line, len))
		lost++;
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
