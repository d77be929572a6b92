/* What the files of the outgoing connection share. */
#ifndef MESHWRAP_DAEMON_STREAM_PRIVATE_H
#define MESHWRAP_DAEMON_STREAM_PRIVATE_H

#include <openssl/ssl.h>

#include "daemon/stream.h"

struct event;
struct event_base;
struct outproxy;

#define STREAM_NAME_MAX 256

enum net_stream_state {
	NET_STREAM_CONNECTING, /* -> SHAKING, OPEN, CLOSED */
	NET_STREAM_SHAKING,    /* TLS handshake -> OPEN, CLOSED */
	NET_STREAM_OPEN,       /* -> CLOSED */
	NET_STREAM_CLOSED,
};

/* ---- stream_way.c: from a server's name to one connected socket ---- */

struct way;

/* fd >= 0: connected to the server and the callee's; else why not. Once. */
typedef void way_done(void *owner, int fd, const char *sentence);
/*
 * By the proxy (NULL: straight), which outlives it. Only the attempt has a time limit, which is
 * of the options. NULL: -ENOMEM; done() is never called from inside.
 */
struct way *way_create(struct loop *loop, const struct net_stream_options *options,
		       const struct outproxy *proxy, way_done *done, void *owner);
/* Also from inside done(). NULL is fine. */
void way_destroy(struct way *way);
/* What it still waits for, as a sentence. */
const char *way_is_late(struct way *way);

/* ---- stream_dial.c: from addresses to one connected socket ---- */

struct dial;

/* fd >= 0: connected and the callee's; else why no address answered. Once. */
typedef void dial_done(void *owner, int fd, const char *sentence);
/* Races the addresses. NULL: -ENOMEM; done() is never called from inside. */
struct dial *dial_create(struct event_base *base, const struct endpoint *candidates, unsigned count,
			 dial_done *done, void *owner);
/* Also from inside done(). NULL is fine. */
void dial_destroy(struct dial *dial);
/* What is known about the failures so far. */
const char *dial_sentence(const struct dial *dial);

/* No delay, and notice within seconds when the other end is gone. notsent_max 0: any. */
void dial_tune(int fd, uint32_t notsent_max);

/* ---- stream_tls.c: certificates and records ---- */

const struct outproxies *tls_context_proxies(const struct tls_context *tls);

struct tls_check {
	char name[STREAM_NAME_MAX]; /* the certificate must be for it */
	char pin[65];               /* "": none */
	bool is_insecure;
	char sentence[NET_STREAM_REASON_MAX]; /* set when the certificate was refused */
};

struct tls_session;

/* check outlives it. NULL: -ENOMEM. */
struct tls_session *tls_session_create(const struct tls_context *tls, int fd, const char *sni,
				       const char *alpn, struct tls_check *check);
void tls_session_destroy(struct tls_session *t);
/* The socket is ready, or may be: to be told before reading or shaking hands. */
void tls_session_awake(struct tls_session *t);
/* All three: >= 0; -EAGAIN; -EPIPE: the end; -EPROTO: failed, see tls_session_error(). */
int tls_session_handshake(struct tls_session *t);
long tls_session_read(struct tls_session *t, void *bytes, size_t max);
long tls_session_write(struct tls_session *t, const void *bytes, size_t len);
/* Hands sealed bytes to the kernel. 0: all; -EAGAIN: the socket is full; -errno. */
int tls_session_flush(struct tls_session *t);
bool tls_session_has_pending(const struct tls_session *t); /* bytes were read ahead */
size_t tls_session_unsent(const struct tls_session *t);
const char *tls_session_error(struct tls_session *t);
bool tls_session_has_alpn(const struct tls_session *t);
bool tls_session_relay_key(const struct tls_session *t, uint8_t key[static 32]);

/* ---- stream_refuse.c: why a certificate is refused, as check's sentence ---- */

/* who: whose certificate it is, which may be an authority's. cert may be NULL. */
void refuse_date(struct tls_check *check, const char *who, X509 *cert, bool is_over);
void refuse_name(struct tls_check *check, X509 *cert);
/* What OpenSSL has found. ca_file: the CA that was given, or NULL. */
void refuse_chain(struct tls_check *check, X509_STORE_CTX *store, const char *ca_file);

/* ---- stream_roots.c ---- */

/* Certificates of authorities (PEM), for systems that bring none. NULL ends the list. */
extern const char *const stream_roots[];

#endif
