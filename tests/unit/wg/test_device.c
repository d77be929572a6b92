/* The device as a whole: what it refuses, how it fails, and five thousand peers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/crypto.h>
#include <sodium.h>

#include "shared/wire.h"
#include "world.h"

enum { MANY = 5000 };

/*
 * Every allocation of ours (the linker's --wrap) and of OpenSSL (its hooks) can
 * be made to fail: the n-th from now, once.
 */
static long fail_after = -1;

void *__real_malloc(size_t len);
void *__real_calloc(size_t count, size_t len);
void *__real_realloc(void *p, size_t len);
void *__wrap_malloc(size_t len);
void *__wrap_calloc(size_t count, size_t len);
void *__wrap_realloc(void *p, size_t len);

static bool fails_now(void)
{
	return fail_after >= 0 && fail_after-- == 0;
}

void *__wrap_malloc(size_t len)
{
	return fails_now() ? NULL : __real_malloc(len);
}

void *__wrap_calloc(size_t count, size_t len)
{
	return fails_now() ? NULL : __real_calloc(count, len);
}

void *__wrap_realloc(void *p, size_t len)
{
	return fails_now() ? NULL : __real_realloc(p, len);
}

static void *openssl_malloc(size_t len, const char *file, int line)
{
	(void)file, (void)line;
	return malloc(len);
}

static void *openssl_realloc(void *p, size_t len, const char *file, int line)
{
	(void)file, (void)line;
	return realloc(p, len);
}

static void openssl_free(void *p, const char *file, int line)
{
	(void)file, (void)line;
	free(p);
}

static void ignore_transmit(void *owner, struct wg_peer *peer, const struct endpoint *to,
			    const uint8_t *bytes, size_t len, size_t segment_len)
{
	(void)owner, (void)peer, (void)to, (void)bytes, (void)len, (void)segment_len;
}

static void ignore_receive(void *owner, struct wg_peer *peer, struct packet *packets,
			   unsigned count)
{
	(void)owner, (void)peer, (void)packets, (void)count;
}

static void fixed_clock(void *owner, uint64_t *seconds, uint32_t *nanoseconds)
{
	(void)owner;
	*seconds = 1700000000;
	*nanoseconds = 0;
}

static const struct wg_callbacks quiet = { ignore_transmit, ignore_receive, NULL, fixed_clock };

static struct wg_device *quiet_device(void)
{
	uint8_t key[WG_KEY_LEN];

	randombytes_buf(key, sizeof(key));
	return wg_device_create(key, MTU, true, &quiet, NULL);
}

static void random_key(uint8_t public_key[static WG_KEY_LEN])
{
	uint8_t key[WG_KEY_LEN];

	randombytes_buf(key, sizeof(key));
	crypto_scalarmult_base(public_key, key);
}

static void test_impossible_peers_are_refused(void **state)
{
	struct wg_device *dev = quiet_device();
	struct ip_prefix long4 = { ip_from_v4(1), 33 }, long6 = { { { 0xfd } }, 129 };
	struct wg_peer_config config = { .keepalive_s = 0 };
	struct wg_peer *peer, *second;

	(void)state;
	assert_int_equal(wg_device_add_peer(dev, &config, &peer), -EINVAL); /* the zero key */
	wg_device_public_key(dev, config.public_key);
	assert_int_equal(wg_device_add_peer(dev, &config, &peer), -EINVAL);
	random_key(config.public_key);
	config.allowed_count = 1;
	config.allowed = &long4;
	assert_int_equal(wg_device_add_peer(dev, &config, &peer), -EINVAL);
	config.allowed = &long6;
	assert_int_equal(wg_device_add_peer(dev, &config, &peer), -EINVAL);
	config.allowed_count = WG_PREFIXES_MAX + 1;
	config.allowed = calloc(config.allowed_count, sizeof(*config.allowed));
	assert_int_equal(wg_device_add_peer(dev, &config, &peer), -E2BIG);
	free((void *)config.allowed);
	config.allowed_count = 0;
	assert_int_equal(wg_device_add_peer(dev, &config, &peer), 0);
	assert_int_equal(wg_device_add_peer(dev, &config, &second), -EEXIST);
	wg_device_remove_peer(dev, peer);
	assert_int_equal(wg_device_add_peer(dev, &config, &peer), 0);
	wg_device_destroy(dev);
	wg_device_destroy(NULL);
}

static void test_a_peer_may_change_more_than_half_of_all_prefixes(void **state)
{
	unsigned count = WG_PREFIXES_MAX / 2 + 1;
	struct ip_prefix *prefixes = calloc(count, sizeof(*prefixes));
	struct wg_device *dev = quiet_device();
	struct wg_peer_config config = { .allowed = prefixes, .allowed_count = count };
	struct wg_peer *peer;
	struct ip_addr old, new;

	(void)state;
	random_key(config.public_key);
	for (unsigned i = 0; i < count; i++)
		prefixes[i] = (struct ip_prefix){ ip_from_v4(i), 32 };
	old = prefixes[7].addr;
	assert_int_equal(wg_device_add_peer(dev, &config, &peer), 0);
	for (unsigned i = 0; i < count; i++)
		prefixes[i].addr = ip_from_v4(count + i);
	new = prefixes[7].addr;
	assert_int_equal(wg_peer_set_allowed(peer, prefixes, count), 0);
	assert_null(wg_device_route(dev, &old));
	assert_ptr_equal(wg_device_route(dev, &new), peer);
	/* No more than the bound in all, as before. */
	random_key(config.public_key);
	assert_int_equal(wg_device_add_peer(dev, &config, &peer), -E2BIG);
	wg_device_destroy(dev);
	free(prefixes);
}

static void test_prefixes_that_have_room_need_no_memory(void **state)
{
	struct ip_prefix prefixes[1000];
	struct wg_device *dev = quiet_device();
	struct wg_peer_config config = { .keepalive_s = 0 };
	struct wg_peer *peer[2];

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(prefixes); i++)
		prefixes[i] = (struct ip_prefix){ ip_from_v4(i), 32 };
	for (int i = 0; i < 2; i++) {
		random_key(config.public_key);
		assert_int_equal(wg_device_add_peer(dev, &config, &peer[i]), 0);
	}
	assert_int_equal(wg_device_reserve(dev, WG_PREFIXES_MAX + 1), -E2BIG);
	assert_int_equal(wg_device_reserve(dev, ARRAY_LEN(prefixes)), 0);
	fail_after = 0;
	assert_int_equal(wg_peer_set_allowed(peer[0], prefixes, ARRAY_LEN(prefixes) / 2), 0);
	/* Half of them change sides. */
	assert_int_equal(wg_peer_set_allowed(peer[1], prefixes + ARRAY_LEN(prefixes) / 4,
					     ARRAY_LEN(prefixes) / 2),
			 0);
	assert_int_equal(fail_after, 0);
	fail_after = -1;
	assert_ptr_equal(wg_device_route(dev, &prefixes[0].addr), peer[0]);
	assert_ptr_equal(wg_device_route(dev, &prefixes[ARRAY_LEN(prefixes) / 2].addr), peer[1]);
	wg_device_destroy(dev);
}

static void test_an_ephemeral_of_low_order_is_refused(void **state)
{
	struct world *w = world_create(&(struct world_options){ 0 });
	struct node *b = &w->node[1];
	struct wg_initiation msg;
	uint8_t copy[2048];

	(void)state;
	wg_peer_wake(w->node[0].peer, w->now_ns);
	world_peek(w, 0, WG_INITIATION, copy);
	memcpy(&msg, copy, sizeof(msg));
	memset(&msg.ephemeral, 0, sizeof(msg.ephemeral));
	wg_macs_sign(&w->node[0].peer->macs, w->node[0].dev->engine, &msg, sizeof(msg), w->now_ns);
	world_inject(w, 1, &msg, sizeof(msg), &w->node[0].at);
	assert_int_equal(b->transmits, 0);
	assert_int_equal(b->dev->indices.count, 0);
	world_destroy(w);
}

static void test_a_stranger_gets_no_answer(void **state)
{
	struct world *w = world_create(&(struct world_options){ 0 });
	struct world *other = world_create(&(struct world_options){ 0 });
	struct wg_peer_config config = { .has_endpoint = true, .endpoint = w->node[1].at };
	struct wg_peer *peer;
	uint8_t msg[2048];
	uint32_t len;

	(void)state;
	/* It knows our public key, and we not its. */
	memcpy(config.public_key, w->node[1].public_key, WG_KEY_LEN);
	assert_int_equal(wg_device_add_peer(other->node[0].dev, &config, &peer), 0);
	wg_peer_wake(peer, other->now_ns);
	len = world_peek(other, 0, WG_INITIATION, msg);
	assert_int_equal(len, sizeof(struct wg_initiation));
	world_inject(w, 1, msg, len, &other->node[0].at);
	assert_int_equal(w->node[1].transmits, 0);
	world_destroy(other);
	world_destroy(w);
}

/* Counts down from n; true when there was nothing left to fail. */
static bool nothing_failed(void)
{
	bool nothing = fail_after >= 0;

	fail_after = -1;
	return nothing;
}

static void test_creation_survives_any_allocation_failing(void **state)
{
	unsigned failures = 0;

	(void)state;
	for (long n = 0;; n++) {
		struct wg_device *dev;

		fail_after = n;
		dev = quiet_device();
		failures += !dev;
		if (nothing_failed()) {
			assert_non_null(dev);
			wg_device_destroy(dev);
			break;
		}
		wg_device_destroy(dev);
	}
	assert_true(failures >= 7);
}

static void test_adding_a_peer_survives_any_allocation_failing(void **state)
{
	struct wg_device *dev = quiet_device();
	struct wg_peer_config config = { .keepalive_s = 0 };
	struct wg_peer *peer;
	unsigned failures = 0;

	(void)state;
	for (long n = 0;; n++) {
		int err;

		random_key(config.public_key);
		fail_after = n;
		err = wg_device_add_peer(dev, &config, &peer);
		failures += err == -ENOMEM;
		if (nothing_failed()) {
			assert_int_equal(err, 0);
			break;
		}
		assert_int_equal(err, -ENOMEM);
		assert_int_equal(HASH_CNT(by_key, dev->peers), 0);
	}
	/* Some are OpenSSL's own: 3.5 makes fewer than 3.0. */
	assert_true(failures >= (OPENSSL_VERSION_NUMBER < 0x30100000L ? 6 : 4));
	assert_int_equal(HASH_CNT(by_key, dev->peers), 1);
	wg_device_destroy(dev);
}

static void test_handshakes_survive_any_allocation_failing(void **state)
{
	(void)state;
	for (long n = 0;; n++) {
		struct world *w = world_create(&(struct world_options){ 0 });
		bool never_failed;

		fail_after = n;
		world_send(w, 0, 1, 1, 100);
		world_settle(w);
		never_failed = nothing_failed();
		/* Whatever was lost, the next try is whole. */
		world_run(w, 12 * NS_PER_S);
		world_send(w, 0, 2, 1, 100);
		world_settle(w);
		assert_int_equal(w->node[1].seq[w->node[1].received - 1], 2);
		assert_true(w->node[0].dev->indices.count <= 2);
		assert_true(w->node[1].dev->indices.count <= 3);
		world_destroy(w);
		if (never_failed)
			break;
		assert_true(n < 2000);
	}
}

struct hub {
	struct world *w;
	struct wg_device *dev;
	struct wg_peer *peer[MANY];
	unsigned transmits, received;
	struct packet_batch batch;
};

static void hub_transmit(void *owner, struct wg_peer *peer, const struct endpoint *to,
			 const uint8_t *bytes, size_t len, size_t segment_len)
{
	struct hub *h = owner;

	(void)bytes, (void)segment_len;
	assert_true(len > 0 && to->port == 51820 && peer);
	h->transmits++;
}

static void test_five_thousand_peers(void **state)
{
	static const struct wg_callbacks callbacks = { hub_transmit, ignore_receive, NULL,
						       fixed_clock };
	struct hub *h = calloc(1, sizeof(*h));
	uint8_t key[WG_KEY_LEN];
	uint64_t now_ns = NS_PER_S;

	(void)state;
	randombytes_buf(key, sizeof(key));
	h->dev = wg_device_create(key, MTU, true, &callbacks, h);
	h->batch.mtu = MTU;
	for (uint32_t i = 0; i < MANY; i++) {
		struct ip_prefix allowed[] = {
			{ ip_from_v4(0x64400000 + i), 32 },
			{ { { 0xfd, [14] = (uint8_t)(i >> 8), [15] = (uint8_t)i } }, 128 },
		};
		struct wg_peer_config config = {
			.allowed = allowed,
			.allowed_count = 2,
			.has_endpoint = true,
			.endpoint = { ip_from_v4(0x0a000000 + i), 51820 },
		};

		random_key(config.public_key);
		assert_int_equal(wg_device_add_peer(h->dev, &config, &h->peer[i]), 0);
	}
	for (uint32_t i = 0; i < MANY; i++) {
		struct ip_addr v4 = ip_from_v4(0x64400000 + i);
		struct ip_addr v6 = { { 0xfd, [14] = (uint8_t)(i >> 8), [15] = (uint8_t)i } };
		uint8_t *p;

		assert_ptr_equal(wg_device_route(h->dev, &v4), h->peer[i]);
		assert_ptr_equal(wg_device_route(h->dev, &v6), h->peer[i]);
		batch_reset(&h->batch);
		p = batch_reserve(&h->batch, 64);
		memset(p, 0, 64);
		p[0] = 0x45;
		store_be32(p + 16, 0x64400000 + i);
		batch_commit(&h->batch, 64);
		wg_device_send(h->dev, &h->batch, now_ns);
	}
	assert_int_equal(h->transmits, MANY);
	/* Nobody answers: everybody is tried 20 times and then left alone. */
	while (wg_device_deadline(h->dev) < now_ns + 120 * NS_PER_S) {
		uint64_t due_ns = wg_device_deadline(h->dev);

		assert_true(due_ns > now_ns || due_ns >= NS_PER_S);
		wg_device_expire(h->dev, due_ns);
		if (h->transmits > 3 * MANY)
			break; /* the rest is the same */
	}
	for (uint32_t i = 0; i < MANY; i += 2)
		wg_device_remove_peer(h->dev, h->peer[i]);
	for (uint32_t i = 0; i < MANY; i++) {
		struct ip_addr v4 = ip_from_v4(0x64400000 + i);

		assert_ptr_equal(wg_device_route(h->dev, &v4), i % 2 ? h->peer[i] : NULL);
	}
	wg_device_destroy(h->dev);
	free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_impossible_peers_are_refused),
		cmocka_unit_test(test_a_peer_may_change_more_than_half_of_all_prefixes),
		cmocka_unit_test(test_prefixes_that_have_room_need_no_memory),
		cmocka_unit_test(test_an_ephemeral_of_low_order_is_refused),
		cmocka_unit_test(test_a_stranger_gets_no_answer),
		cmocka_unit_test(test_creation_survives_any_allocation_failing),
		cmocka_unit_test(test_adding_a_peer_survives_any_allocation_failing),
		cmocka_unit_test(test_handshakes_survive_any_allocation_failing),
		cmocka_unit_test(test_five_thousand_peers),
	};

	/* Before OpenSSL allocates anything, or it will not have them. */
	if (!CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) ||
	    sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
