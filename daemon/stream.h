/*
 * One outgoing connection to a server, plain TCP or TLS: names looked up,
 * addresses raced, certificates checked, bytes queued. The only user of the
 * TLS library.
 *
 * Nothing here waits. All callbacks come from the loop, never from inside a
 * call of this header. (The edge's `struct stream` is another thing: hence net_.)
 */
#ifndef MESHWRAP_DAEMON_STREAM_H
#define MESHWRAP_DAEMON_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"

struct loop;
struct net_stream;
struct outproxies;
struct tls_context;

#define NET_STREAM_CANDIDATES_MAX 16
#define NET_STREAM_REASON_MAX     256 /* of the sentence of closed() */

/*
 * What all TLS connections share: the system's certificate authorities, the built-in
 * ones where the system has none, and those of ca_file (PEM; NULL: none). It lives at
 * least as long as its streams. NULL with a sentence when ca_file cannot be used.
 */
struct tls_context *tls_context_create(const char *ca_file, char error[static 256]);
void tls_context_destroy(struct tls_context *tls);
/* The proxies that may lead to servers, for all its streams; they outlive them. NULL: none. */
void tls_context_set_proxies(struct tls_context *tls, const struct outproxies *proxies);

/* Copied by net_stream_open(); zero means the default everywhere. */
struct net_stream_options {
	/* Looked up unless candidates are given. A literal is fine. For TLS also the name that
	 * is asked for (SNI, none for a literal) and that the certificate must be for. */
	const char *host;
	uint16_t port;
	/* Addresses in the order of trying; their ports are used as given. NULL: look host up. A
	 * proxy is not told them, but the name. */
	const struct endpoint *candidates;
	unsigned candidate_count;
	const struct tls_context *tls; /* NULL: plain TCP, by one of these, if any: */
	const struct outproxies *proxies;
	const char *verify_name; /* the certificate must be for this name, not for host */
	/* 64 lower case hex digits: exactly this certificate, for host, and not expired; its
	 * issuer does not matter. */
	const char *pin_sha256;
	bool is_insecure;    /* no certificate check at all */
	const char *alpn;    /* one protocol; NULL: none is offered */
	uint64_t limit_ns;   /* until connected(), in all; default 10 s */
	uint64_t attempt_ns; /* for the TCP connections of all addresses, and a proxy's answer;
			      * default: limit_ns */
	size_t queue_max;    /* bytes accepted by net_stream_write(); default 256 KiB */
	size_t queue_low;    /* drained() when the queue falls to it; default queue_max / 4 */
	uint32_t
		notsent_max; /* bytes the kernel may hold back unsent (TCP_NOTSENT_LOWAT); 0: any */
};

struct net_stream_callbacks {
	/* TCP, through the proxy where there is one, and TLS where asked for, stand. */
	void (*connected)(void *owner);
	/* There may be bytes: net_stream_read() until -EAGAIN, or stop early and be called again
	 * in the next round. */
	void (*readable)(void *owner);
	/* After a write was refused, or left more than queue_low: the queue is at queue_low. */
	void (*drained)(void *owner);
	/* Once, and the last callback: the sentence says who ended it and why; it ends without a
	 * full stop. What had arrived before was readable first. The owner destroys the stream. */
	void (*closed)(void *owner, const char *sentence);
};

/* NULL: -ENOMEM. Everything else that fails is told by closed(). */
struct net_stream *net_stream_open(struct loop *loop, const struct net_stream_options *options,
				   const struct net_stream_callbacks *callbacks, void *owner);
/*
 * Drops the connection at once, with what is queued; also from inside its own callbacks.
 * No callback follows. NULL is fine.
 */
void net_stream_destroy(struct net_stream *s);

/*
 * Queues all of the bytes or nothing; they leave at the end of the round, together. Allowed before
 * connected(). 0; -ENOBUFS: more than queue_max would wait (drained() will come); -EPIPE: closed.
 */
int net_stream_write(struct net_stream *s, const void *bytes, size_t len);
/*
 * The same without a copy: room for len bytes at the end of the queue, to be filled and then
 * committed (up to len) before anything else is called. NULL where write would have failed.
 */
uint8_t *net_stream_reserve(struct net_stream *s, size_t len);
void net_stream_commit(struct net_stream *s, size_t len);
/* Bytes that have not reached the kernel. */
size_t net_stream_queued(const struct net_stream *s);

/* Up to max bytes. >0; -EAGAIN: none now; -EPIPE: closed, or at its end (closed() follows). */
long net_stream_read(struct net_stream *s, void *bytes, size_t max);
/*
 * readable() comes when so many bytes wait in the kernel, or the end (at first: 1). Who asks for
 * more than one must come back in time for a rest that stays below; it is told with this call.
 */
void net_stream_wake_at(struct net_stream *s, size_t bytes);

/* ---- after connected() ---- */

/* The address that answered (a proxy's, where there is one), and ours. */
void net_stream_addresses(const struct net_stream *s, struct endpoint *remote,
			  struct endpoint *local);
bool net_stream_has_alpn(const struct net_stream *s); /* the server chose options.alpn */
/*
 * A relay's public key, when it may be used for a fast start (TLS 1.3 and a certificate
 * "derpkey..." with a serial number of one byte, not zero).
 */
bool net_stream_relay_key(const struct net_stream *s, uint8_t key[static 32]);

#endif
