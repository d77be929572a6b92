/* The calendar is libc's: UTC, no zone to be asked. */
#include "daemon/netmap/text.h"

#include <stdio.h>
#include <time.h>

#define YEAR_10000_S INT64_C(253402300800)

char *text_time(int64_t time_s, char text[static TEXT_TIME_MAX])
{
	time_t t = (time_t)time_s;
	struct tm tm;

	if (time_s <= 0 || time_s >= YEAR_10000_S || !gmtime_r(&t, &tm) ||
	    strftime(text, TEXT_TIME_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(text, TEXT_TIME_MAX, "0001-01-01T00:00:00Z");
	return text;
}
