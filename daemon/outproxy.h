/*
 * The HTTP proxy through which a machine reaches the internet: which one the environment names for
 * a server, what it is asked, and what its answer means. Pure.
 */
#ifndef MESHWRAP_DAEMON_OUTPROXY_H
#define MESHWRAP_DAEMON_OUTPROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTPROXY_HOST_MAX      256
#define OUTPROXY_LOGIN_MAX     512 /* bytes of "user:password" */
#define OUTPROXY_AUTHORITY_MAX 272 /* "host:port" and the like, terminated */
#define OUTPROXY_REQUEST_MAX   2048
#define OUTPROXY_SENTENCE_MAX  256

struct outproxy {
	const char *variable; /* that names it, as "HTTPS_PROXY"; NULL: there is none */
	const char *problem;  /* why it cannot be used, said after the variable's name; NULL: it can
			       */
	char host[OUTPROXY_HOST_MAX]; /* without brackets; "": the variable is no URL */
	uint16_t port;
	char login[(OUTPROXY_LOGIN_MAX + 2) / 3 * 4 + 1]; /* base64, secret; "": none */
};

struct outproxies {
	struct outproxy https, http; /* for servers of this kind */
	const char *except;          /* NO_PROXY, as it is set; "": nothing */
	const char *ignored;         /* why ALL_PROXY is, said after its name; NULL: it is not */
};

/* What a variable is set to, or NULL. What it gives outlives the struct that is read from it. */
typedef const char *outproxy_lookup(const char *variable);
void outproxies_read(struct outproxies *proxies, outproxy_lookup *lookup);
/* A proxy at "ADDRESS:PORT" is this daemon's own, and would lead in a circle. True: it was one. */
bool outproxies_forget(struct outproxies *proxies, const char *listen);
/* NULL: the server is reached straight. Else look at its problem first. */
const struct outproxy *outproxies_for(const struct outproxies *proxies, const char *host,
				      uint16_t port, bool is_tls);

/* "host:443", "[v6]:443". Returns text. */
char *outproxy_authority(const char *host, uint16_t port, char text[static OUTPROXY_AUTHORITY_MAX]);
/*
 * The request for a connection to the server ("host:443"). Its length, or -EINVAL for what is no
 * host. It holds the password: to be wiped.
 */
int outproxy_request(const struct outproxy *proxy, const char *server,
		     char text[static OUTPROXY_REQUEST_MAX]);
/*
 * What the proxy has said so far, at most HTTP1_HEAD_MAX bytes. 0: the connection stands, and what
 * follows the first *used bytes is the server's; -EAGAIN: the answer is not complete, and all of
 * the bytes belong to it; else (-ECONNREFUSED, -EBADMSG, -EMSGSIZE) the sentence says what is
 * wrong.
 */
int outproxy_answer(const struct outproxy *proxy, const char *server, const char *bytes, size_t len,
		    size_t *used, char sentence[static OUTPROXY_SENTENCE_MAX]);

#endif
