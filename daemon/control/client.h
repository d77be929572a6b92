/*
 * The client of a coordination server: logs in, keeps the streaming map, and
 * tells the server about this node. One connection, made anew when it breaks.
 *
 * It only reports. Whatever the server does or does not do, the mesh goes on
 * with the map it has.
 *
 * Every callback comes from the loop (never from inside a call of this header,
 * so calls of this header may be made in any callback, control_destroy() too).
 */
#ifndef MESHWRAP_DAEMON_CONTROL_CLIENT_H
#define MESHWRAP_DAEMON_CONTROL_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/pong.h"
#include "shared/endpoint.h"

struct control;
struct loop;
struct outproxies;
struct state;
struct tls_context;

#define CONTROL_CAPABILITY_VERSION 119
#define CONTROL_ENDPOINTS_MAX      64
#define CONTROL_LATENCIES_MAX      64
#define CONTROL_AUTH_KEY_MAX       4096 /* bytes */
#define CONTROL_ROUTES_MAX         64
#define CONTROL_SENTENCE_MAX       512

struct control_config {
	const char *server_url;        /* "http://host:8080" or "https://host[:port]" */
	const struct tls_context *tls; /* for https; must outlive the client */
	const char *host_name;         /* of any form; sent as a DNS label */
	const char *version;           /* of this program */
	int capability_version;        /* 0: CONTROL_CAPABILITY_VERSION */
	const char *auth_key;          /* NULL: none. Copied to secret memory; wipe yours */
	size_t auth_key_len;           /* white space around it is no part of it */
	const char *const *tags;       /* "tag:x" to ask for */
	unsigned tag_count;
	bool is_ephemeral;
	bool trusts_new_server_key; /* the user's answer to a changed server key; for this start */
	size_t map_max;             /* bytes of one decoded map message; 0: 64 MiB */
	/* That may lead to the server, and outlive the client; NULL: none. tls has them, too. */
	const struct outproxies *proxies;
};

/*
 * The moves: STOPPED -> STARTING by control_start(); STARTING -> any other;
 * NEEDS_LOGIN -> STARTING when a way to log in appears or the server agrees;
 * RUNNING -> STARTING (login again) or NEEDS_LOGIN (expired, logged out); REFUSED stays
 * until control_start(), or until its reason has passed (another key of the server, a state that
 * cannot be saved); any -> STOPPED by control_stop(). A server that is away
 * while RUNNING leaves it RUNNING: see control_problem() and is_connected.
 */
enum control_status {
	CONTROL_STOPPED,
	CONTROL_STARTING,           /* no map yet in this run */
	CONTROL_NEEDS_LOGIN,        /* by hand: control_login_url(), or another auth key */
	CONTROL_NEEDS_MACHINE_AUTH, /* an administrator must approve this node */
	CONTROL_RUNNING,            /* logged in, and a map has come */
	/* we will not go on, see the sentence; the mesh goes on with the map it has */
	CONTROL_REFUSED,
};
/* "NoState", "NeedsLogin", ... as status output says it. */
const char *control_status_name(enum control_status status);

/* A ping the server asks for, of a kind that others must make. */
struct control_ping {
	enum ping_type type;
	struct ip_addr ip; /* mesh address to ping */
	uint32_t token;    /* for control_ping_done(), within 10 s; fits into 31 bits */
};

struct control_callbacks {
	/*
	 * A map message that says more than "keep alive": JSON text, terminated
	 * too. The first of a connection is a full one (is_first). 0, or -errno:
	 * it is bad; the stream is then begun anew after a while.
	 */
	int (*map_message)(void *owner, const char *json, size_t len, bool is_first);
	/* The status, or its sentence for the user, has changed; see the getters. */
	void (*status_changed)(void *owner, enum control_status status, const char *sentence);
	/* state_data(state)->node_key is another: WireGuard, disco and relays must take it. */
	void (*node_key_changed)(void *owner);
	/* May be NULL. */
	void (*ping_wanted)(void *owner, const struct control_ping *ping);
	/* The server asks to show this page to the user; already stripped. May be NULL. */
	void (*show_url)(void *owner, const char *url);
};

enum control_endpoint_type {
	CONTROL_ENDPOINT_UNKNOWN = 0,
	CONTROL_ENDPOINT_LOCAL = 1,
	CONTROL_ENDPOINT_STUN = 2,
	CONTROL_ENDPOINT_PORTMAPPED = 3,
	CONTROL_ENDPOINT_STUN_LOCAL_PORT =
		4, /* STUN address with the local port, behind hard NAT */
	CONTROL_ENDPOINT_CONFIGURED = 5,
};

enum control_tristate { CONTROL_UNKNOWN = 0, CONTROL_NO, CONTROL_YES };

/* What the server is told of this node; plain values, copied whole. */
struct control_self {
	uint8_t disco_key[32]; /* always needed */
	struct {
		struct endpoint ep;
		enum control_endpoint_type type;
	} endpoints[CONTROL_ENDPOINTS_MAX];
	unsigned endpoint_count;
	int preferred_derp; /* region; 0: none yet */
	enum control_tristate working_udp, working_ipv6, os_has_ipv6, mapping_varies_by_dst;
	struct {
		int region;
		bool is_v6;
		uint64_t latency_ns;
	} latencies[CONTROL_LATENCIES_MAX];
	unsigned latency_count;
	struct ip_prefix routes[CONTROL_ROUTES_MAX]; /* offered to the mesh */
	unsigned route_count;
	bool shields_up;
	char host_name[64]; /* "": that of the configuration */
};

/*
 * NULL with a sentence in error: bad URL or key, no memory. state
 * must outlive it. Nothing is sent before control_start().
 */
struct control *control_create(struct loop *loop, const struct control_config *config,
			       struct state *state, const struct control_callbacks *callbacks,
			       void *owner, char error[static CONTROL_SENTENCE_MAX]);
/* At once; nothing is said to the server (see control_logout()). NULL is fine. */
void control_destroy(struct control *control);

/* Log in and keep the map. After REFUSED or NEEDS_LOGIN: try again. */
void control_start(struct control *control);
/* Closes the connection; the node stays logged in. */
void control_stop(struct control *control);

/* Sent when it differs from what was sent last, the newest state wins. Call it as often as you
 * like. */
void control_set_self(struct control *control, const struct control_self *self);
/* Another auth key, for a node that needs login. Copied to secret memory. 0 or -errno. */
int control_set_auth_key(struct control *control, const char *key, size_t len);
/* Asks for a URL to log in by hand, with a new node key; status_changed() brings it. */
void control_login_interactive(struct control *control);
/*
 * Ends the login at the server (10 s at most) and forgets the node key. done: 0,
 * or -errno when the server could not be told (forgotten here all the same).
 */
void control_logout(struct control *control, void (*done)(void *owner, int err));
/* Addresses or routes of the host have changed: the connection is made anew at once. */
void control_network_changed(struct control *control);

/* The answer to ping_wanted(), also from inside it. Ignored when the token is no longer known. */
void control_ping_done(struct control *control, uint32_t token, const struct pong *pong);

struct control_info {
	enum control_status status;
	bool is_login_failed;     /* nothing more is tried until the user acts: see sentence */
	bool is_connected;        /* the map stream is up */
	uint64_t connected_ns;    /* since when, by loop_now(); 0: not */
	uint64_t last_message_ns; /* from the map stream, the same; 0: none */
	int64_t clock_delta_s;    /* server's clock minus ours, 0 within a minute */
	const char *sentence;     /* why this status, and what to do; "" when all is well */
	const char *problem;      /* why there is no connection just now; "" */
	const char *login_url;    /* "" */
	const char *server_url;
	const char *proxy; /* "host:port" that leads to the server; "": none */
	uint64_t messages, bad_messages, connects, registrations, updates;
};
/* Texts live until the loop runs again. */
void control_get_info(const struct control *control, struct control_info *info);

#endif
