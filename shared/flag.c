#include "shared/flag.h"

#include <stddef.h>
#include <strings.h>

#include "shared/util.h"

bool flag_read(const char *text, bool *flag)
{
	static const char *const yes[] = { "1", "t", "true", "yes", "on" };
	static const char *const no[] = { "0", "f", "false", "no", "off" };

	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		*flag = strcasecmp(text, yes[i]) == 0;
		if (*flag || strcasecmp(text, no[i]) == 0)
			return true;
	}
	return false;
}
