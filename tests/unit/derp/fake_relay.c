#include "tests/unit/derp/fake_relay.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sodium.h>

#include "daemon/derp/frame.h"
#include "shared/wire.h"

static void add_extension(X509 *cert, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert(e);
	X509_add_ext(cert, e, -1);
	X509_EXTENSION_free(e);
}

static X509 *make_cert(EVP_PKEY *key, const char *cn, const struct fake_cert_options *o, int serial)
{
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);
	char san[200];

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), serial);
	X509_gmtime_adj(X509_getm_notBefore(cert), o->valid_from_s);
	X509_gmtime_adj(X509_getm_notAfter(cert), o->valid_to_s);
	X509_NAME_add_entry_by_txt(name, "CN", V_ASN1_UTF8STRING, (const uint8_t *)cn, -1, -1,
				   0); /* the other types allow 64 bytes only */
	X509_set_issuer_name(cert, name);
	X509_set_pubkey(cert, key);
	add_extension(cert, NID_basic_constraints, serial == 2 ? "critical,CA:FALSE" : "CA:TRUE");
	if (o->dns_san || o->ip_san) {
		snprintf(san, sizeof(san), "%s:%s", o->dns_san ? "DNS" : "IP",
			 o->dns_san ? o->dns_san : o->ip_san);
		add_extension(cert, NID_subject_alt_name, san);
	}
	assert(X509_sign(cert, key, EVP_PKEY_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256()) >
	       0);
	return cert;
}

static int see_sni(SSL *ssl, int *alert, void *arg)
{
	struct fake_relay *f = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	(void)alert;
	snprintf(f->sni, sizeof(f->sni), "%s", name ? name : "");
	return SSL_TLSEXT_ERR_OK;
}

static int see_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
		    const unsigned char *in, unsigned in_len, void *arg)
{
	struct fake_relay *f = arg;

	(void)ssl;
	(void)in_len;
	f->was_alpn_offered = true;
	if (!f->alpn)
		return SSL_TLSEXT_ERR_NOACK;
	*out = in + 1;
	*out_len = in[0];
	return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *make_context(struct fake_relay *f)
{
	const struct fake_cert_options meta = { NULL, NULL, -86400, 86400 };
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	EVP_PKEY *meta_key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	char cn[80] = "derpkey";

	if (f->is_impostor) {
		X509 *own = make_cert(meta_key, cn, &meta, 2);

		SSL_CTX_use_certificate(ctx, own);
		X509_free(own);
		SSL_CTX_use_PrivateKey(ctx, meta_key);
		X509_up_ref(f->leaf);
		SSL_CTX_add_extra_chain_cert(ctx, f->leaf);
	} else {
		SSL_CTX_use_certificate(ctx, f->leaf);
		SSL_CTX_use_PrivateKey(ctx, f->leaf_key);
	}
	if (f->sends_extra)
		SSL_CTX_add_extra_chain_cert(ctx, make_cert(meta_key, "extra", &meta, 3));
	sodium_bin2hex(cn + 7, 65, f->public.byte, KEY_LEN);
	if (f->sends_meta)
		SSL_CTX_add_extra_chain_cert(ctx, make_cert(meta_key, cn, &meta, 2));
	EVP_PKEY_free(meta_key);
	if (f->is_tls12)
		SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_tlsext_servername_callback(ctx, see_sni);
	SSL_CTX_set_tlsext_servername_arg(ctx, f);
	SSL_CTX_set_alpn_select_cb(ctx, see_alpn, f);
	return ctx;
}

static bool read_all(SSL *ssl, void *to, size_t len)
{
	for (size_t at = 0, n; at < len; at += n)
		if (SSL_read_ex(ssl, (char *)to + at, len - at, &n) != 1)
			return false;
	return true;
}

static void write_all(SSL *ssl, const void *bytes, size_t len)
{
	size_t n;

	SSL_write_ex(ssl, bytes, len, &n);
}

static void log_in(struct fake_relay *f, SSL *ssl)
{
	static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n"
				     "Connection: Upgrade\r\nDerp-Version: 2\r\n\r\n";
	static const uint8_t magic[8] = { 0x44, 0x45, 0x52, 0x50, 0xf0, 0x9f, 0x94, 0x91 };
	static const char info[] = "{\"version\":2}";
	uint8_t frame[512], plain[512];
	uint32_t len;

	if (!strstr(f->head, "Derp-Fast-Start: 1\r\n"))
		write_all(ssl, answer, sizeof(answer) - 1);
	derp_put_header(frame, DERP_SERVER_KEY, 40);
	memcpy(frame + 5, magic, 8);
	memcpy(frame + 13, f->public.byte, KEY_LEN);
	write_all(ssl, frame, 45);
	if (!read_all(ssl, frame, 5) || frame[0] != DERP_CLIENT_INFO)
		return;
	len = load_be32(frame + 1);
	if (len < 72 || len > sizeof(frame) - 5 || !read_all(ssl, frame + 5, len) ||
	    crypto_box_open_easy(plain, frame + 61, len - 56, frame + 37, frame + 5, f->key.byte) !=
		    0)
		return;
	f->was_logged_in = true;
	memcpy(plain, frame + 5, KEY_LEN);
	derp_put_header(frame, DERP_SERVER_INFO, 24 + 16 + sizeof(info) - 1);
	randombytes_buf(frame + 5, 24);
	if (crypto_box_easy(frame + 29, (const uint8_t *)info, sizeof(info) - 1, frame + 5, plain,
			    f->key.byte) == 0)
		write_all(ssl, frame, 5 + 24 + 16 + sizeof(info) - 1);
}

static void echo(SSL *ssl)
{
	static uint8_t frame[DERP_HEADER + KEY_LEN + DERP_PACKET_MAX];

	while (read_all(ssl, frame, 5)) {
		uint32_t len = load_be32(frame + 1);

		if (len > sizeof(frame) - 5 || !read_all(ssl, frame + 5, len))
			return;
		if (frame[0] != DERP_SEND_PACKET)
			continue;
		frame[0] = DERP_RECV_PACKET;
		write_all(ssl, frame, 5 + len);
	}
}

static void serve(struct fake_relay *f, SSL *ssl)
{
	static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	size_t len = 0;

	if (SSL_accept(ssl) != 1)
		return;
	f->was_tls_done = true;
	while (len < sizeof(f->head) - 1 && !strstr(f->head, "\r\n\r\n"))
		if (!read_all(ssl, f->head + len++, 1))
			return;
	if (f->kind == FAKE_HTTP) {
		write_all(ssl, ok, sizeof(ok) - 1);
		return;
	}
	log_in(f, ssl);
	echo(ssl);
}

static void *run(void *arg)
{
	struct fake_relay *f = arg;
	SSL_CTX *ctx = make_context(f);
	SSL *ssl = SSL_new(ctx);
	int fd = accept(f->listen_fd, NULL, NULL);
	char byte[512];

	if (fd >= 0 && f->kind == FAKE_NO_TLS) {
		(void)!write(fd, "SSH-2.0-nothing here\r\n", 22);
		(void)!read(fd, byte, sizeof(byte));
	} else if (fd >= 0 && f->kind == FAKE_GARBAGE) {
		(void)!read(fd, byte, sizeof(byte));
	} else if (fd >= 0 && f->kind == FAKE_SILENT) {
		while (read(fd, byte, sizeof(byte)) > 0)
			;
	} else if (fd >= 0) {
		SSL_set_fd(ssl, fd);
		serve(f, ssl);
	}
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	if (fd >= 0)
		close(fd);
	return NULL;
}

void fake_relay_start(struct fake_relay *f)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);
	uint8_t hash[32];
	unsigned hash_len;

	private_key_generate(&f->key);
	private_key_public(&f->key, &f->public);
	if (!f->cert.valid_to_s)
		f->cert.valid_to_s = 86400;
	if (!f->cert.valid_from_s)
		f->cert.valid_from_s = -86400;
	f->leaf_key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	f->leaf = make_cert(f->leaf_key, "relay.test", &f->cert, 77);
	X509_digest(f->leaf, EVP_sha256(), hash, &hash_len);
	sodium_bin2hex(f->pin, sizeof(f->pin), hash, sizeof(hash));
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	f->listen_fd = socket(AF_INET, SOCK_STREAM, 0);
	assert(bind(f->listen_fd, (struct sockaddr *)&sin, sizeof(sin)) == 0);
	assert(listen(f->listen_fd, 8) == 0);
	assert(getsockname(f->listen_fd, (struct sockaddr *)&sin, &len) == 0);
	f->port = ntohs(sin.sin_port);
	assert(pthread_create(&f->thread, NULL, run, f) == 0);
}

void fake_relay_stop(struct fake_relay *f)
{
	shutdown(f->listen_fd, SHUT_RDWR);
	pthread_join(f->thread, NULL);
	close(f->listen_fd);
	X509_free(f->leaf);
	EVP_PKEY_free(f->leaf_key);
}

void fake_relay_write_ca(const struct fake_relay *f, const char *path)
{
	FILE *file = fopen(path, "w");

	assert(file);
	PEM_write_X509(file, f->leaf);
	fclose(file);
}
