/* What the files of path choice share. See paths.c for who does what. */
#ifndef MESHWRAP_DAEMON_PATH_PRIVATE_H
#define MESHWRAP_DAEMON_PATH_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <uthash.h>

#include "daemon/path/classify.h"
#include "daemon/path/disco.h"
#include "daemon/path/limits.h"
#include "daemon/path/paths.h"

#define SENT_PINGS  2 /* remembered for an address: a heartbeat may overtake a slow pong */
#define RELAY_PINGS 4 /* the same by relay: they are sent faster than a far relay answers */

struct sent_ping {
	uint8_t txid[DISCO_TXID_LEN];
	uint64_t at_ns; /* 0: none, or answered */
};

/* An address at which a peer may be. */
struct candidate {
	struct endpoint endpoint;
	bool is_in_map;  /* the network map lists it */
	bool is_in_call; /* its last call-me-maybe did */
	uint8_t next_sent;
	struct sent_ping sent[SENT_PINGS];
	uint64_t pinged_ns;   /* by us; 0: never, or forgotten on purpose */
	uint64_t got_ping_ns; /* by the peer; 0: never */
	uint8_t got_txid[DISCO_TXID_LEN];
	uint64_t latency_ns; /* of the last pong */
};

/* A disco key of a peer, or of several. */
struct disco_peer {
	uint8_t key[DISCO_KEY_LEN];
	struct disco_box_key *box; /* made when first needed */
	bool is_bad;               /* of low order */
	struct path_peer **peers;
	unsigned peer_count;
	UT_hash_handle hh;
};

struct path_peer {
	uint8_t key[PATHS_KEY_LEN];
	void *user;
	uint32_t slot, generation; /* of its pseudo address */
	struct disco_peer *disco;  /* spoken now; NULL: none */
	struct disco_peer *other;  /* also known: the map's and the tunnel's may differ */
	uint8_t map_disco[DISCO_KEY_LEN];
	int home_region;
	int heard_region; /* 0: none */
	bool is_wireguard_only;
	bool is_call_pending; /* until STUN has told our address */
	bool was_told_direct; /* as direct_changed() was last told */
	struct candidate *candidates;
	unsigned candidate_count, candidate_room;
	struct measured_address best; /* port 0: none */
	uint64_t trust_until_ns;      /* 0: not */
	uint64_t awaiting_ns;         /* first unanswered ping to the best address, 0: none */
	uint64_t heartbeat_ns;        /* next, NEVER_NS: not running */
	uint64_t full_ping_ns;        /* last time all candidates were tried */
	uint64_t next_try_ns;
	uint64_t last_send_ns, last_rx_ns, last_call_ns;
	uint64_t active_since_ns;
	uint64_t calls_ns; /* theoretical arrival time of the next call-me-maybe */
	struct sent_ping relay_sent[RELAY_PINGS];
	unsigned next_relay_sent;
	uint64_t relay_pinged_ns; /* 0: never, or forgotten on purpose */
	bool is_ticking;          /* in the list of those with a deadline */
	TAILQ_ENTRY(path_peer) tick;
	UT_hash_handle hh;
};

struct ping_ticket {
	struct path_peer *peer; /* NULL: free */
	uint32_t ticket;
	uint64_t at_ns;
	uint64_t next_ns; /* when to ping again */
};

struct stun_seen {
	struct endpoint endpoint;
	uint64_t at_ns;
};

struct paths {
	struct paths_callbacks callbacks;
	void *owner;
	uint8_t node_key[PATHS_KEY_LEN], disco_key[DISCO_KEY_LEN];
	uint8_t *disco_private; /* secret memory */
	struct boxkeys *boxkeys;
	uint16_t udp_port;
	bool has_fixed_port;
	struct path_peer *peers;        /* by node key */
	struct disco_peer *disco_peers; /* by disco key */
	struct path_peer **slots;
	uint32_t slot_count, first_free, next_generation;
	unsigned wireguard_only_count;
	TAILQ_HEAD(, path_peer) ticking;
	uint64_t tick_ns;        /* the first deadline among them, or earlier */
	int relays[REGIONS_MAX]; /* regions whose connection is up */
	unsigned relay_count;
	struct ping_ticket tickets[TICKETS_MAX];
	uint32_t netchecks[TICKETS_MAX]; /* waiting for a full report */
	unsigned netcheck_count;
	struct netcheck *netcheck;
	uint64_t next_stun_ns;
	uint64_t home_patience_ns; /* when to look for another home; NEVER_NS: it is connected */
	int watched_home;
	uint64_t stun_ns; /* last time STUN told our address, or said that it cannot; 0: never */
	struct ip_addr local[PATHS_SELF_MAX];
	unsigned local_count;
	bool has_loopback;                    /* among the local ones */
	struct stun_seen seen[STUN_SEEN_MAX]; /* by the world, newest report first */
	unsigned seen_count;
	struct paths_endpoint self[PATHS_SELF_MAX];
	unsigned self_count;
	bool is_news;        /* for self_changed() */
	bool is_self_untold; /* endpoints changed within a report */
	int told_home;
	bool told_udp;
	enum netcheck_tristate told_varies;
	uint64_t now_ns; /* of the call that came in, for callbacks of the netcheck */
	struct paths_stats stats;
};

static inline bool peer_is_trusted(const struct path_peer *peer, uint64_t now_ns)
{
	return now_ns <= peer->trust_until_ns;
}

static inline bool peer_is_active(const struct path_peer *peer, uint64_t now_ns)
{
	return peer->last_send_ns != 0 && now_ns - peer->last_send_ns < ACTIVE_NS;
}

/* candidates.c */
struct candidate *candidate_find(struct path_peer *peer, const struct endpoint *ep);
/* Found or added; NULL: unusable, no memory, or all places are taken by better ones. */
struct candidate *candidate_add(struct paths *paths, struct path_peer *peer,
				const struct endpoint *ep, uint64_t now_ns);
/* Drops those that neither the map nor a call lists and that have not pinged of late. */
void candidates_prune(struct path_peer *peer, uint64_t now_ns);
bool candidate_is_acceptable(const struct paths *paths, const struct endpoint *ep);

/* peer.c */
bool paths_relay_is_up(const struct paths *paths, int region);
int peer_relay_region(const struct paths *paths, const struct path_peer *peer);
void peer_clear_best(struct paths *paths, struct path_peer *peer);
/* Sends both ways until the best address has answered again. */
void peer_doubt(struct paths *paths, struct path_peer *peer, uint64_t now_ns);
void peer_ping(struct paths *paths, struct path_peer *peer, struct candidate *c, uint64_t now_ns);
void peer_full_ping(struct paths *paths, struct path_peer *peer, uint64_t now_ns);
void peer_forget_throttles(struct path_peer *peer);
void peer_note_activity(struct paths *paths, struct path_peer *peer, uint64_t now_ns);
void peer_pong_received(struct paths *paths, struct path_peer *peer, struct candidate *c,
			uint64_t latency_ns, uint64_t now_ns);
void peer_send_call(struct paths *paths, struct path_peer *peer, uint64_t now_ns);
uint64_t peer_deadline(const struct path_peer *peer);
void peer_expire(struct paths *paths, struct path_peer *peer, uint64_t now_ns);
/* Its deadline may have come nearer. */
void peer_touch(struct paths *paths, struct path_peer *peer);

/* messages.c */
/* The key's box, or NULL: none can be made. */
const struct disco_box_key *disco_peer_box(struct paths *paths, struct disco_peer *dp);
void disco_send_udp(struct paths *paths, struct disco_peer *dp, const struct endpoint *to,
		    const uint8_t *plain, size_t len);
void disco_send_relay(struct paths *paths, struct path_peer *peer, int region, const uint8_t *plain,
		      size_t len);
/* region 0: from the address; else over its relay, from relayed_by. */
void disco_received(struct paths *paths, const struct endpoint *from, int region,
		    struct path_peer *relayed_by, uint8_t *bytes, size_t len);

/* tickets.c */
/* sent_ns: when the ping went out. Only pings that were sent since the question answer it. */
void tickets_ponged(struct paths *paths, const struct path_peer *peer, uint64_t sent_ns,
		    const struct paths_pong *pong);
/* Does anybody wait for its pong? */
bool tickets_has(const struct paths *paths, const struct path_peer *peer);
void tickets_cancel(struct paths *paths, const struct path_peer *peer);
uint64_t tickets_deadline(const struct paths *paths);
void tickets_expire(struct paths *paths, uint64_t now_ns);

/* keys.c */
int peer_set_disco_key(struct paths *paths, struct path_peer *peer,
		       const uint8_t key[static DISCO_KEY_LEN]);
void peer_drop_disco_keys(struct paths *paths, struct path_peer *peer);
/* It spoke with this one of its keys. */
void peer_use_disco_key(struct path_peer *peer, struct disco_peer *dp);
struct disco_peer *disco_peer_find(const struct paths *paths,
				   const uint8_t key[static DISCO_KEY_LEN]);

/* self.c */
int self_start(struct paths *paths);
bool self_stun_is_fresh(const struct paths *paths, uint64_t now_ns);
/* A path broke: perhaps our own NAT gave us another address. */
void self_doubt_stun(struct paths *paths, uint64_t now_ns);
/* Starts a report unless one runs. */
void self_restun(struct paths *paths, bool is_full, uint64_t now_ns);
void self_stun_received(struct paths *paths, const struct endpoint *from, const uint8_t *bytes,
			size_t len, uint64_t now_ns);
/* The home, or what is connected, changed. */
void self_watch_home(struct paths *paths, uint64_t now_ns);
/* Own endpoints for a call-me-maybe. */
unsigned self_endpoints(const struct paths *paths, struct endpoint *out, unsigned max);
/* Tells the owner what changed; the last act of an entry, since the owner may call back. */
void self_tell(struct paths *paths);
uint64_t self_deadline(const struct paths *paths);
void self_expire(struct paths *paths, uint64_t now_ns);

#endif
