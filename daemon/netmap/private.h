/* The map's inside, for the files that apply messages and read it out. */
#ifndef MESHWRAP_DAEMON_NETMAP_PRIVATE_H
#define MESHWRAP_DAEMON_NETMAP_PRIVATE_H

#include "daemon/netmap/index.h"
#include "daemon/netmap/netmap.h"
#include "daemon/netmap/node.h"
#include "daemon/netmap/sections.h"

struct user_item {
	struct netmap_user user;
	struct arena arena;
};

struct netmap {
	struct node_item *self;   /* NULL before the first map */
	struct node_item **peers; /* by id */
	unsigned peer_count;
	struct index index;       /* of peers */
	struct user_item **users; /* by id */
	unsigned user_count;
	struct section_derp *derp; /* none of the sections is ever NULL */
	struct section_dns *dns;
	struct section_filter *filter;
	struct section_health *health;
	char *domain;
	int64_t clock_delta_s; /* server's minus ours at the last ControlTime; 0: not over a minute
				*/
	uint64_t round;        /* of messages */
	bool is_fresh;         /* the next message is the first of a stream */
};

/* Fills in what the node stands under in the index, unless that is done. 0 or -ENOMEM. */
#define NETMAP_KEY_ENTRY 0 /* the first of them */
int netmap_make_entries(const struct index *ix, struct node_item *item);
uint64_t netmap_hash_prefix(const struct index *ix, const struct ip_prefix *prefix);
uint64_t netmap_hash_key(const struct index *ix, const uint8_t key[static NETMAP_KEY_LEN]);

/* The whole of users after list (may be NULL) was applied to the old ones. */
struct user_stage {
	struct user_item **users; /* by id; those not in the map are the stage's own */
	unsigned count;
	bool has_changed;
};
int user_stage_init(struct user_stage *stage, const struct netmap *nm, struct json_object *list,
		    unsigned *ignored);
void user_stage_commit(struct user_stage *stage, struct netmap *nm);
void user_stage_finish(struct user_stage *stage, const struct netmap *nm);

/* One peer as it was and as it will be. */
struct peer_slot {
	int64_t id;
	struct node_item *old, *item; /* NULL: there is none */
};

struct peer_stage {
	struct peer_slot *slot; /* by id */
	unsigned count, live;
	struct node_item **peers; /* the array to be */
	bool has_changed;
};
int peer_stage_init(struct peer_stage *stage, struct netmap *nm, struct json_object *message,
		    int64_t self_id);
/* Applies the message; wall_s as netmap_apply(). */
int peer_stage_apply(struct peer_stage *stage, struct json_object *message, int64_t self_id,
		     int64_t wall_s, struct netmap_changes *changes);
/* Everything that can fail before the commit: the lists of changes, room in the index. */
int peer_stage_prepare(struct peer_stage *stage, struct netmap *nm, struct netmap_changes *changes);
void peer_stage_commit(struct peer_stage *stage, struct netmap *nm);
void peer_stage_finish(struct peer_stage *stage);

#endif
