/* Memory for the many small secrets that disco keys of peers need: slots in locked pages. */
#ifndef MESHWRAP_DAEMON_PATH_BOXKEYS_H
#define MESHWRAP_DAEMON_PATH_BOXKEYS_H

struct boxkeys;
struct disco_box_key;

/* NULL on -ENOMEM. */
struct boxkeys *boxkeys_create(void);
void boxkeys_destroy(struct boxkeys *keys);
/* A zeroed slot that stays where it is, or NULL on -ENOMEM. */
struct disco_box_key *boxkeys_take(struct boxkeys *keys);
/* Wipes. NULL is fine. */
void boxkeys_give(struct boxkeys *keys, struct disco_box_key *slot);

#endif
