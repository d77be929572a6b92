/* Memory that only the start needed. */
#ifndef MESHWRAP_DAEMON_TRIM_H
#define MESHWRAP_DAEMON_TRIM_H

/* Once, when everything is set up and before the loop runs. Changes nothing but what is resident. */
void trim_after_start(void);

#endif
