/*
 * TLS: who is at the other end, and bytes sealed many at a time.
 *
 * Between OpenSSL and the socket stands a BIO of our own. Reading asks the kernel for
 * 64 KiB at once (read ahead), so that a burst of small records costs one system call.
 * Writing gathers sealed records, up to four full ones, which leave in one send: a
 * copy of 16 KiB costs less than a system call through a network stack. A socket that
 * gave less than asked for is empty, and is not asked again before it is ready.
 * It never raises SIGPIPE.
 *
 * Certificates: either the usual rules (a chain to a trusted authority, the name
 * among the subject's alternative names, never the common name), or a pin: exactly one
 * certificate besides the relay's "derpkey" one, with this hash, for this name, not
 * expired, and proved by its key. Every refusal leaves a sentence that says what to do.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sodium.h>

#include "daemon/stream_private.h"
#include "shared/util.h"

#define READ_AHEAD      (64u * 1024)
#define RECORD_ROOM     (16384u + 256)
#define GATHER_MAX      (4 * RECORD_ROOM)
#define META_PREFIX     "derpkey"
#define META_PREFIX_LEN 7
#define NAME_FLAGS      (X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT)

struct tls_context {
	SSL_CTX *ssl;
	BIO_METHOD *method;
	char *ca_file;                    /* NULL: none was given */
	const struct outproxies *proxies; /* NULL: none */
};

struct tls_session {
	SSL *ssl;
	struct tls_check *check;
	const char *ca_file; /* of the context */
	int fd;
	int io_error; /* of the socket, 0: none */
	bool is_ended;
	bool is_drained; /* the socket gave less than asked for: not asked again in this round */
	size_t out_at, out_len;
	char error[NET_STREAM_REASON_MAX];
	uint8_t out[GATHER_MAX];
};

/* ---- the BIO ---- */

static int send_gathered(struct tls_session *t)
{
	while (t->out_at < t->out_len) {
		ssize_t n = send(t->fd, t->out + t->out_at, t->out_len - t->out_at, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
		t->out_at += (size_t)n;
	}
	t->out_at = t->out_len = 0;
	return 0;
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
	struct tls_session *t = BIO_get_data(bio);
	size_t n;

	BIO_clear_retry_flags(bio);
	if (t->out_len + (size_t)len > sizeof(t->out)) {
		int err = send_gathered(t);

		if (err < 0 && err != -EAGAIN) {
			t->io_error = -err;
			return -1;
		}
	}
	n = MIN((size_t)len, sizeof(t->out) - t->out_len);
	if (n == 0) {
		BIO_set_retry_write(bio);
		return -1;
	}
	memcpy(t->out + t->out_len, bytes, n);
	t->out_len += n;
	return (int)n;
}

static int bio_read(BIO *bio, char *bytes, int len)
{
	struct tls_session *t = BIO_get_data(bio);
	ssize_t n;

	BIO_clear_retry_flags(bio);
	if (t->is_drained) {
		BIO_set_retry_read(bio);
		return -1;
	}
	do
		n = recv(t->fd, bytes, (size_t)len, 0);
	while (n < 0 && errno == EINTR);
	t->is_drained = n > 0 && n < len;
	if (n > 0)
		return (int)n;
	if (n == 0)
		t->is_ended = true;
	else if (errno == EAGAIN || errno == EWOULDBLOCK)
		BIO_set_retry_read(bio);
	else
		t->io_error = errno;
	return n < 0 ? -1 : 0;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void)number;
	(void)pointer;
	if (command == BIO_CTRL_FLUSH)
		return 1; /* the stream flushes */
	if (command == BIO_CTRL_EOF)
		return ((struct tls_session *)BIO_get_data(bio))->is_ended;
	return 0;
}

/* ---- certificates ---- */

static bool is_meta(X509 *cert, char name[80])
{
	int len = X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name, 80);

	return len >= META_PREFIX_LEN && memcmp(name, META_PREFIX, META_PREFIX_LEN) == 0;
}

static bool is_for_name(X509 *cert, const char *name)
{
	struct ip_addr ip;

	if (ip_parse(name, &ip) == 0)
		return X509_check_ip_asc(cert, name, 0) == 1;
	return X509_check_host(cert, name, 0, NAME_FLAGS, NULL) == 1;
}

static bool matches_pin(X509 *cert, const char *pin)
{
	uint8_t hash[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	char hex[65];

	if (X509_digest(cert, EVP_sha256(), hash, &len) != 1 || len != 32)
		return false;
	sodium_bin2hex(hex, sizeof(hex), hash, len);
	return strcmp(hex, pin) == 0;
}

/* chain: all that came; leaf: the one whose key signed the handshake, which others did not. */
static bool check_pinned(struct tls_check *check, STACK_OF(X509) * chain, const X509 *leaf)
{
	X509 *only = NULL;
	char name[80];
	unsigned count = 0;

	for (int i = 0; i < sk_X509_num(chain); i++) {
		if (is_meta(sk_X509_value(chain, i), name))
			continue;
		only = sk_X509_value(chain, i);
		count++;
	}
	if (count != 1)
		snprintf(check->sentence, sizeof(check->sentence),
			 "%.100s presented %u certificates where exactly the pinned one must come",
			 check->name, count);
	else if (only != leaf || !matches_pin(only, check->pin))
		snprintf(check->sentence, sizeof(check->sentence),
			 "the certificate of %.100s is not the pinned one", check->name);
	else if (!is_for_name(only, check->name))
		refuse_name(check, only);
	else if (X509_cmp_current_time(X509_get0_notBefore(only)) >= 0)
		refuse_date(check, check->name, only, false);
	else if (X509_cmp_current_time(X509_get0_notAfter(only)) <= 0)
		refuse_date(check, check->name, only, true);
	else
		return true;
	return false;
}

/* OpenSSL asks whether this chain is fine. */
static int verify_chain(X509_STORE_CTX *store, void *arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_session *t = SSL_get_app_data(ssl);
	struct tls_check *check = t->check;

	(void)arg;
	if (check->is_insecure)
		return 1;
	if (check->pin[0]) {
		if (check_pinned(check, X509_STORE_CTX_get0_untrusted(store),
				 X509_STORE_CTX_get0_cert(store)))
			return 1;
		X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
		return 0;
	}
	if (X509_verify_cert(store) == 1)
		return 1;
	refuse_chain(check, store, t->ca_file);
	return 0;
}

static int add_built_in(X509_STORE *store)
{
	for (unsigned i = 0; stream_roots[i]; i++) {
		BIO *bio = BIO_new_mem_buf(stream_roots[i], -1);
		X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
		int ok = cert ? X509_STORE_add_cert(store, cert) : 0;

		X509_free(cert);
		BIO_free(bio);
		if (!ok)
			return -ENOMEM;
	}
	return 0;
}

struct tls_context *tls_context_create(const char *ca_file, char error[static 256])
{
	struct tls_context *tls = calloc(1, sizeof(*tls));

	if (!tls)
		goto out_of_memory;
	tls->ssl = SSL_CTX_new(TLS_client_method());
	tls->method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
	if (!tls->ssl || !tls->method)
		goto out_of_memory;
	BIO_meth_set_write(tls->method, bio_write);
	BIO_meth_set_read(tls->method, bio_read);
	BIO_meth_set_ctrl(tls->method, bio_ctrl);
	SSL_CTX_set_min_proto_version(tls->ssl, TLS1_2_VERSION);
	SSL_CTX_set_options(tls->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					      SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(tls->ssl,
			 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(tls->ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(tls->ssl, 1);
	SSL_CTX_set_default_read_buffer_len(tls->ssl, READ_AHEAD);
	SSL_CTX_set_verify(tls->ssl, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(tls->ssl, verify_chain, NULL);
	SSL_CTX_set_default_verify_paths(tls->ssl); /* none on slim systems: not a failure */
	if (add_built_in(SSL_CTX_get_cert_store(tls->ssl)) != 0)
		goto out_of_memory;
	if (ca_file && ca_file[0] && SSL_CTX_load_verify_file(tls->ssl, ca_file) != 1) {
		unsigned long code = ERR_peek_error();
		const char *reason = code ? ERR_reason_error_string(code) : NULL;

		/* OpenSSL has no words for what the system says: no such file, no right to it. */
		if (code && ERR_SYSTEM_ERROR(code))
			reason = strerror(ERR_GET_REASON(code));
		snprintf(error, 256, "%s holds no certificate that can be used (%s)", ca_file,
			 reason ? reason : "unreadable");
		goto fail;
	}
	if (ca_file && ca_file[0]) {
		tls->ca_file = strdup(ca_file);
		if (!tls->ca_file)
			goto out_of_memory;
	}
	ERR_clear_error();
	return tls;
out_of_memory:
	snprintf(error, 256, "out of memory");
fail:
	ERR_clear_error();
	tls_context_destroy(tls);
	return NULL;
}

void tls_context_destroy(struct tls_context *tls)
{
	if (!tls)
		return;
	SSL_CTX_free(tls->ssl);
	BIO_meth_free(tls->method);
	free(tls->ca_file);
	free(tls);
}

void tls_context_set_proxies(struct tls_context *tls, const struct outproxies *proxies)
{
	tls->proxies = proxies;
}

const struct outproxies *tls_context_proxies(const struct tls_context *tls)
{
	return tls->proxies;
}

/* ---- sessions ---- */

static int set_names(SSL *ssl, const char *sni, const char *alpn, const struct tls_check *check)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	struct ip_addr ip;
	uint8_t list[64];

	if (ip_parse(sni, &ip) != 0 && SSL_set_tlsext_host_name(ssl, sni) != 1)
		return -ENOMEM;
	X509_VERIFY_PARAM_set_hostflags(param, NAME_FLAGS);
	if (ip_parse(check->name, &ip) == 0
		    ? X509_VERIFY_PARAM_set1_ip_asc(param, check->name) != 1
		    : X509_VERIFY_PARAM_set1_host(param, check->name, 0) != 1)
		return -ENOMEM;
	if (!alpn)
		return 0;
	list[0] = (uint8_t)MIN(strlen(alpn), sizeof(list) - 1);
	memcpy(list + 1, alpn, list[0]);
	return SSL_set_alpn_protos(ssl, list, list[0] + 1u) == 0 ? 0 : -ENOMEM;
}

struct tls_session *tls_session_create(const struct tls_context *tls, int fd, const char *sni,
				       const char *alpn, struct tls_check *check)
{
	struct tls_session *t = calloc(1, sizeof(*t));
	BIO *bio = NULL;

	if (!t)
		return NULL;
	t->fd = fd;
	t->check = check;
	t->ca_file = tls->ca_file;
	t->ssl = SSL_new(tls->ssl);
	bio = BIO_new(tls->method);
	if (!t->ssl || !bio || set_names(t->ssl, sni, alpn, check) != 0) {
		BIO_free(bio);
		tls_session_destroy(t);
		return NULL;
	}
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio);
	SSL_set_app_data(t->ssl, t);
	SSL_set_connect_state(t->ssl);
	return t;
}

void tls_session_destroy(struct tls_session *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	free(t);
}

/* What a call that did not succeed means. */
static int outcome(struct tls_session *t, int result)
{
	int what = SSL_get_error(t->ssl, result);
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	if (what == SSL_ERROR_WANT_READ || what == SSL_ERROR_WANT_WRITE)
		return -EAGAIN;
	if (t->io_error)
		snprintf(t->error, sizeof(t->error), "%s", strerror(t->io_error));
	else if (t->check->sentence[0])
		snprintf(t->error, sizeof(t->error), "%s", t->check->sentence);
	else if (what == SSL_ERROR_ZERO_RETURN || t->is_ended)
		return -EPIPE;
	else if (code && ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER)
		snprintf(t->error, sizeof(t->error), "the server does not speak TLS there");
	else
		snprintf(t->error, sizeof(t->error), "TLS failed: %s",
			 reason ? reason : "unknown reason");
	return -EPROTO;
}

void tls_session_awake(struct tls_session *t)
{
	t->is_drained = false;
}

int tls_session_handshake(struct tls_session *t)
{
	int result, err;

	ERR_clear_error();
	result = SSL_do_handshake(t->ssl);
	err = result == 1 ? 0 : outcome(t, result);
	if (err == 0 || err == -EAGAIN)
		return err;
	send_gathered(t); /* the alert that tells the server why; the connection ends anyway */
	return err;
}

long tls_session_read(struct tls_session *t, void *bytes, size_t max)
{
	size_t n = 0;
	int result;

	ERR_clear_error();
	result = SSL_read_ex(t->ssl, bytes, max, &n);
	return result == 1 ? (long)n : outcome(t, result);
}

long tls_session_write(struct tls_session *t, const void *bytes, size_t len)
{
	size_t n = 0;
	int result;

	ERR_clear_error();
	result = SSL_write_ex(t->ssl, bytes, len, &n);
	return result == 1 ? (long)n : outcome(t, result);
}

int tls_session_flush(struct tls_session *t)
{
	return send_gathered(t);
}

bool tls_session_has_pending(const struct tls_session *t)
{
	return SSL_has_pending(t->ssl);
}

size_t tls_session_unsent(const struct tls_session *t)
{
	return t->out_len - t->out_at;
}

const char *tls_session_error(struct tls_session *t)
{
	return t->error;
}

bool tls_session_has_alpn(const struct tls_session *t)
{
	const uint8_t *chosen;
	unsigned len;

	SSL_get0_alpn_selected(t->ssl, &chosen, &len);
	return len > 0;
}

bool tls_session_relay_key(const struct tls_session *t, uint8_t key[static 32])
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(t->ssl);
	char name[80];

	if (SSL_version(t->ssl) < TLS1_3_VERSION)
		return false;
	for (int i = 0; i < sk_X509_num(chain); i++) {
		X509 *cert = sk_X509_value(chain, i);
		uint64_t serial = 0;
		size_t len = 0;

		if (!is_meta(cert, name) || strlen(name) != META_PREFIX_LEN + 64)
			continue;
		if (ASN1_INTEGER_get_uint64(&serial, X509_get0_serialNumber(cert)) != 1 ||
		    serial == 0 || serial > 255)
			continue;
		if (sodium_hex2bin(key, 32, name + META_PREFIX_LEN, 64, NULL, &len, NULL) == 0 &&
		    len == 32)
			return true;
	}
	return false;
}
