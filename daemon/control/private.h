/* What the files of the coordination client share. Nobody else includes this. */
#ifndef MESHWRAP_DAEMON_CONTROL_PRIVATE_H
#define MESHWRAP_DAEMON_CONTROL_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/control/client.h"
#include "daemon/control/h2.h"
#include "daemon/control/messages.h"
#include "daemon/http1.h"
#include "daemon/outproxy.h"
#include "shared/log.h"

struct channel;
struct event;
struct mapstream;
struct net_stream;

#define CONTROL_DIAL_LIMIT_NS     (10 * NS_PER_S) /* for each of: key, connection with handshake */
#define CONTROL_REGISTER_LIMIT_NS (30 * NS_PER_S)
#define CONTROL_FOLLOWUP_LIMIT_NS (300 * NS_PER_S)
#define CONTROL_WATCHDOG_NS       (120 * NS_PER_S)
#define CONTROL_UPDATE_LIMIT_NS   (30 * NS_PER_S)
#define CONTROL_CONFIRM_NS        (60 * NS_PER_S)
#define CONTROL_LOGOUT_LIMIT_NS   (10 * NS_PER_S)
#define CONTROL_PING_LIMIT_NS     (15 * NS_PER_S)
#define CONTROL_ASKED_LIMIT_NS    (10 * NS_PER_S) /* for pings that others make */
#define CONTROL_SETTLED_NS        (10 * NS_PER_S) /* a stream that lived so long was a success */
#define CONTROL_SAVE_AGAIN_NS     (5 * NS_PER_S)
#define CONTROL_REFUSED_NS        (30 * NS_PER_S) /* until a changed key is looked at again */
#define CONTROL_BACKOFF_MAX_NS    (30 * NS_PER_S)
#define CONTROL_KEY_BODY_MAX      (64u << 10)
#define CONTROL_STATUS_LINES      16 /* in the log at once: a login has a few */
#define CONTROL_ASKED_MAX         8
#define CONTROL_WORDS_MAX         200 /* bytes of a failed answer's body that we show */

enum control_timer {
	TIMER_TELL,     /* callbacks that are due, and the next step: now */
	TIMER_CONNECT,  /* the next attempt */
	TIMER_DIAL,     /* limit */
	TIMER_SAVE,     /* the next attempt */
	TIMER_REGISTER, /* the next attempt */
	TIMER_REGISTER_LIMIT,
	TIMER_POLL, /* the next attempt */
	TIMER_WATCHDOG,
	TIMER_UPDATE, /* the next attempt */
	TIMER_UPDATE_LIMIT,
	TIMER_CONFIRM, /* the last update is sent again */
	TIMER_LOGOUT_LIMIT,
	TIMER_PING_LIMIT,
	TIMER_KEY_EXPIRY,
	TIMER_COUNT,
};

enum connection_phase {
	CONNECTION_KEY,     /* GET /key */
	CONNECTION_UPGRADE, /* POST /ts2021 */
	CONNECTION_NOISE,   /* the server's response is awaited */
	CONNECTION_UP,
};

/* One TCP connection for the key, another for everything else. Freed by the loop's deferred list.
 */
struct connection {
	struct control *control; /* NULL: closed, and every callback must leave it alone */
	enum connection_phase phase;
	struct net_stream *stream;
	struct channel *channel;
	struct h2 *h2;
	struct mapstream *map; /* of the poll that runs */
	char *head;            /* an HTTP/1 answer as far as it has come */
	size_t head_len;
	bool is_busy; /* HTTP/2 is at work: no bytes may be asked of it */
};

/* A short answer of the server: its status, and the body up to a limit. */
struct answer {
	struct h2_response response;
	char *body;
	size_t len, room;
};

/* A ping asked of others. */
struct asked {
	uint32_t token; /* 0: free */
	enum ping_type type;
	struct ip_addr ip;
	uint64_t until_ns;
	bool is_noise;
	char url[MESSAGES_URL_MAX];
};

struct control {
	struct loop *loop;
	struct control_callbacks callbacks;
	void *owner;
	struct state *state;
	const struct tls_context *tls;
	const struct outproxies *proxies;
	char proxy[OUTPROXY_AUTHORITY_MAX]; /* "host:port" that leads to the server; "": none */
	struct messages_node node;
	struct http1_url url;
	char *server_url;
	char *auth_key; /* secret memory, CONTROL_AUTH_KEY_MAX + 1; "": none */
	size_t map_max;
	bool trusts_new_server_key;

	struct event *timer;
	uint64_t at[TIMER_COUNT]; /* NEVER_NS: not set */
	uint64_t armed_ns;

	enum control_status status;
	char sentence[CONTROL_SENTENCE_MAX], problem[CONTROL_SENTENCE_MAX];
	char login_url[MESSAGES_URL_MAX];
	bool tells_status, tells_node_key, is_destroyed;

	/* the connection */
	struct connection *conn;
	unsigned connect_failures;
	bool key_is_fresh;   /* this attempt uses a key that was just fetched */
	bool key_is_doubted; /* a handshake failed: fetch it again */
	bool key_is_refused; /* REFUSED for it; looked at again now and then */

	/* login */
	bool is_saved;          /* what registers is on disk */
	bool is_save_refused;   /* REFUSED for it; tried again now and then */
	bool is_login_blocked;  /* the user must act first */
	bool is_rotated;        /* once for each login */
	bool is_interactive;    /* by hand, even with an auth key */
	bool may_be_registered; /* it was asked to with this node key, and the answer got lost */
	unsigned doubted_refusals;
	int32_t register_id;
	unsigned register_failures;
	struct answer register_answer;
	void (*logout_done)(void *owner, int err);
	bool is_logging_out, is_logout_sent;
	int logout_err;
	bool tells_logout;

	/* the map */
	int32_t poll_id;
	unsigned poll_failures;
	struct answer poll_answer; /* of a poll that failed */
	bool has_first;            /* a map on this stream */
	uint64_t connected_ns, last_message_ns;
	int64_t clock_delta_s, key_expiry;

	/* updates */
	struct control_self *self; /* has been told when generation > 0 */
	uint64_t generation, sending_generation, sent_generation;
	char *sending_text, *sent_text; /* requests; the same one is not sent twice */
	int32_t update_id;
	unsigned update_failures;
	struct answer update_answer;

	/* pings */
	char last_ping_url[MESSAGES_URL_MAX];
	char last_pop_url[MESSAGES_URL_MAX];
	struct asked asked[CONTROL_ASKED_MAX];
	uint32_t next_token;
	struct net_stream *ping_stream; /* outside of the connection; one at a time */

	struct log_gate gate, map_gate, sleep_gate, status_gate;
	uint64_t messages, bad_messages, connects, registrations, updates;
};

/* client.c */
void control_set_timer(struct control *c, enum control_timer timer, uint64_t at_ns);
/* In ns from now. */
void control_set_timer_in(struct control *c, enum control_timer timer, uint64_t ns);
void control_clear_timer(struct control *c, enum control_timer timer);
bool control_is_waiting(const struct control *c, enum control_timer timer);
/* min(n*n*10 ms, 30 s) * U(0.5, 1.5) */
uint64_t control_backoff_ns(unsigned failures);
/* The next step is looked for in this round. */
void control_kick(struct control *c);
void control_set_status(struct control *c, enum control_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void control_set_problem(struct control *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The state onto disk. False: REFUSED, with a sentence, until it can be saved. */
bool control_save(struct control *c);

/* connect.c */
void control_connect(struct control *c);
/* Everything that ran on it is forgotten. */
void control_disconnect(struct control *c);
void control_connection_failed(struct control *c);
void control_dial_expired(struct control *c);
bool control_is_up(const struct control *c);
/* As h2_request(), on the connection that is up. */
int32_t control_request(struct control *c, const char *path, const void *body, size_t len,
			const struct h2_handler *handler);
void control_cancel(struct control *c, int32_t id);

/* answer.c */
void answer_reset(struct answer *a);
int answer_append(struct answer *a, const uint8_t *bytes, size_t len, size_t max);
/* The body's start, for people. */
void answer_words(const struct answer *a, char *out, size_t room);

/* login.c */
void control_register(struct control *c);
void control_register_forget(struct control *c); /* its connection is gone */
void control_register_expired(struct control *c);
void control_key_expired(struct control *c);
void control_send_logout(struct control *c);
void control_end_logout(struct control *c, int err);

/* poll.c */
void control_poll(struct control *c);
void control_poll_forget(struct control *c);
void control_poll_expired(struct control *c);

/* update.c */
bool control_wants_update(const struct control *c);
void control_update(struct control *c);
void control_update_forget(struct control *c);
void control_update_confirm(struct control *c);
void control_update_expired(struct control *c);

/* ping.c */
void control_answer_ping(struct control *c, const struct messages_ping *ping);
void control_ping_close(struct control *c);

#endif
