/* Memory that is resident though nobody needs it just now. */
#ifndef MESHWRAP_DAEMON_TRIM_H
#define MESHWRAP_DAEMON_TRIM_H

/* Gives it back to the kernel. Changes nothing but what is resident. */
void trim_memory(void);

#endif
