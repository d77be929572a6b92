/*
 * A relay in a thread, for one connection: certificates made to order, and what the
 * client showed of itself.
 */
#ifndef MESHWRAP_TESTS_DERP_FAKE_RELAY_H
#define MESHWRAP_TESTS_DERP_FAKE_RELAY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "daemon/crypto/keys.h"

enum fake_kind {
	FAKE_RELAY,   /* logs the client in, then echoes its packets */
	FAKE_HTTP,    /* answers 200 to a request */
	FAKE_SILENT,  /* accepts, and says nothing */
	FAKE_NO_TLS,  /* answers in plain text */
	FAKE_GARBAGE, /* ends in the middle of the handshake */
};

struct fake_cert_options {
	const char *dns_san, *ip_san;  /* NULL: none */
	long valid_from_s, valid_to_s; /* from now */
};

struct fake_relay {
	/* to be set */
	enum fake_kind kind;
	struct fake_cert_options cert;
	bool sends_meta, sends_extra, is_tls12;
	bool is_impostor; /* has the certificate, but not its key */
	const char *alpn; /* it chooses this one */
	/* results */
	uint16_t port;
	char pin[65];
	char sni[128], head[2048];
	bool was_alpn_offered, was_tls_done, was_logged_in;
	/* own */
	X509 *leaf;
	EVP_PKEY *leaf_key;
	struct private_key key;
	struct public_key public;
	int listen_fd;
	pthread_t thread;
};

void fake_relay_start(struct fake_relay *f);
/* Waits for the thread, which ends with its connection. */
void fake_relay_stop(struct fake_relay *f);
/* The leaf as a PEM file, for clients that are given a CA. */
void fake_relay_write_ca(const struct fake_relay *f, const char *path);

#endif
