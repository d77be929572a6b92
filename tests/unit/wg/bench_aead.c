/*
 * What a packet costs to seal and to open: the libraries that the data path chooses from,
 * against libsodium. And what is around it: the whole device, both ways, a
 * route among many, a handshake.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

#include "daemon/crypto/aead_library.h"
#include "shared/util.h"
#include "world.h"

#define ROUNDS 5
#define COUNT  40000
#define TRAIN  48 /* packets of 1280 bytes that fit a batch */

static uint8_t data[2048];

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

struct bench {
	struct aead_key *seal, *open;
	struct symmetric_key key;
	size_t len;
};

static void bulk_seal(struct bench *b, uint64_t i)
{
	aead_seal(b->seal, i, data, b->len);
}

static void bulk_open(struct bench *b, uint64_t i)
{
	/* The same packet again and again: the ciphertext must survive. */
	uint8_t copy[2048];

	(void)i;
	memcpy(copy, data, b->len + AEAD_TAG_LEN);
	if (!aead_open(b->open, COUNT - 1, copy, b->len))
		abort();
}

static void sodium_seal(struct bench *b, uint64_t i)
{
	uint8_t nonce[12] = { 0 };

	memcpy(nonce + 4, &i, sizeof(i));
	crypto_aead_chacha20poly1305_ietf_encrypt(data, NULL, data, b->len, NULL, 0, NULL, nonce,
						  b->key.byte);
}

/* The best of some rounds, in ns for each call. */
static double measure(struct bench *b, void (*fn)(struct bench *b, uint64_t i))
{
	double best = 1e9;

	for (int r = 0; r < ROUNDS; r++) {
		uint64_t start = clock_ns();

		for (uint64_t i = 0; i < COUNT; i++)
			fn(b, i);
		best = MIN(best, (double)(clock_ns() - start) / COUNT);
	}
	return best;
}

static const size_t lens[] = { 64, 576, 1280, 1420 };

static void bench_library(const struct aead_library *library)
{
	struct aead_cipher *cipher = aead_cipher_create_by(library);
	struct bench b = { .len = 0 };

	randombytes_buf(b.key.byte, KEY_LEN);
	b.seal = aead_key_create(cipher, &b.key, AEAD_SEAL);
	b.open = aead_key_create(cipher, &b.key, AEAD_OPEN);
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		b.len = lens[i];
		printf("%10s %6zu %8.3f", library->name, b.len, measure(&b, bulk_seal) / 1000);
		printf(" %8.3f\n", measure(&b, bulk_open) / 1000);
	}
	aead_key_destroy(b.seal);
	aead_key_destroy(b.open);
	aead_cipher_destroy(cipher);
}

static void bench_aead(void)
{
	struct bench b = { .len = 0 };

	printf("%10s %6s %8s %8s   (us a packet; the quickest here: %s)\n", "", "bytes", "seal",
	       "open", aead_quickest()->name);
	bench_library(&aead_openssl);
	bench_library(&aead_gcrypt);
	randombytes_buf(b.key.byte, KEY_LEN);
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		b.len = lens[i];
		printf("%10s %6zu %8.3f\n", "libsodium", b.len, measure(&b, sodium_seal) / 1000);
	}
}

static struct {
	uint8_t bytes[BATCH_BYTES];
	struct wg_datagram datagram[BATCH_PACKETS];
	unsigned count;
} caught;

static void catch (void *owner, struct wg_peer *peer, const struct endpoint *to,
		   const uint8_t *bytes, size_t len, size_t segment_len)
{
	struct node *n = owner;

	(void)peer, (void)to;
	memcpy(caught.bytes, bytes, len);
	caught.count = 0;
	for (size_t off = 0; off < len; off += segment_len)
		caught.datagram[caught.count++] =
			(struct wg_datagram){ caught.bytes + off,
					      (uint32_t)MIN(segment_len, len - off), n->at };
}

static void bench_device(unsigned workers)
{
	struct world *w = world_create(&(struct world_options){ .workers = workers });
	struct node *a = &w->node[0], *b = &w->node[1];
	double send = 1e9, receive = 1e9;

	world_connect(w);
	a->dev->callbacks.transmit = catch;
	for (int r = 0; r < ROUNDS * 100; r++) {
		uint64_t start;

		batch_reset(&a->batch);
		for (int i = 0; i < TRAIN; i++) {
			uint8_t *p = batch_reserve(&a->batch, 1280);

			memset(p, 0, 1280);
			memcpy(p, "\x45\0\5", 3);
			memcpy(p + 12, "\x64\x40\0\1\x64\x40\0\2", 8);
			batch_commit(&a->batch, 1280);
		}
		start = clock_ns();
		wg_device_send(a->dev, &a->batch, w->now_ns);
		send = MIN(send, (double)(clock_ns() - start) / TRAIN);
		start = clock_ns();
		wg_device_receive(b->dev, caught.datagram, caught.count, w->now_ns);
		receive = MIN(receive, (double)(clock_ns() - start) / TRAIN);
	}
	if (b->received != ROUNDS * 100 * TRAIN)
		abort();
	printf("device, %u workers, %d packets of 1280 bytes a batch: send %.3f us, receive %.3f us "
	       "a packet\n",
	       workers, TRAIN, send / 1000, receive / 1000);
	world_destroy(w);
}

static void bench_handshake(void)
{
	enum { HANDSHAKES = 200 };
	uint64_t start = clock_ns();

	for (int i = 0; i < HANDSHAKES; i++) {
		struct world *w = world_create(&(struct world_options){ 0 });

		world_connect(w);
		world_destroy(w);
	}
	printf("handshake, both sides, with making and freeing two devices: %.0f us\n",
	       (double)(clock_ns() - start) / HANDSHAKES / 1000);
}

static void bench_route(void)
{
	enum { PEERS = 5000, LOOKUPS = 2000000 };
	struct wg_allowed_list list = { 0 };
	struct wg_allowedips a = { 0 };
	struct ip_addr addr[PEERS];
	uint64_t start;
	unsigned found = 0;

	if (wg_allowedips_reserve(&a, PEERS, NULL))
		abort();
	for (uint32_t i = 0; i < PEERS; i++) {
		addr[i] = ip_from_v4(0x64400000u | (randombytes_random() & 0x3fffff));
		wg_allowedips_insert(&a, &addr[i], 32, (struct wg_peer *)&addr[i], &list);
	}
	start = clock_ns();
	for (unsigned i = 0; i < LOOKUPS; i++)
		found += wg_allowedips_lookup(&a, &addr[i * 2654435761u % PEERS]) != NULL;
	printf("route, %d peers, without the cache: %.0f ns\n", PEERS,
	       (double)(clock_ns() - start) / LOOKUPS);
	if (found != LOOKUPS)
		abort();
	wg_allowedips_finish(&a);
}

int main(void)
{
	if (crypto_init())
		return 1;
	bench_aead();
	for (unsigned workers = 1; workers <= 4; workers *= 2)
		bench_device(workers);
	bench_route();
	bench_handshake();
	return 0;
}
