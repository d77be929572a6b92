/* Words for yes and no, as options and variables have them. */
#ifndef MESHWRAP_SHARED_FLAG_H
#define MESHWRAP_SHARED_FLAG_H

#include <stdbool.h>

/* 1, t, true, yes, on; 0, f, false, no, off, in whatever case. False: none of them. */
bool flag_read(const char *text, bool *flag);

#endif
