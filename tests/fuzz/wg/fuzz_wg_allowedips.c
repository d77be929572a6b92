/* Fuzzes the routing trie: any sequence of insertions and removals, against a list. */
#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "daemon/wg/allowedips.h"
#include "shared/wire.h"

#define ENTRIES 64
#define PEERS   4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct entry {
	struct ip_addr addr;
	unsigned len;
	int peer; /* -1: removed */
};

static struct wg_peer *peer_at(int i)
{
	return (struct wg_peer *)(uintptr_t)(i + 1);
}

static bool covers(const struct entry *e, const struct ip_addr *addr)
{
	unsigned len = e->len + (ip_is_v4(&e->addr) ? 96 : 0);

	if (ip_is_v4(addr) != ip_is_v4(&e->addr))
		return false;
	for (unsigned i = 0; i < len; i++)
		if ((addr->byte[i / 8] ^ e->addr.byte[i / 8]) & (0x80 >> i % 8))
			return false;
	return true;
}

static struct wg_peer *slow_lookup(const struct entry *e, int count, const struct ip_addr *addr)
{
	const struct entry *best = NULL;

	for (int i = 0; i < count; i++)
		if (e[i].peer >= 0 && covers(&e[i], addr) && (!best || e[i].len > best->len))
			best = &e[i];
	return best ? peer_at(best->peer) : NULL;
}

/* Two bytes spread over an address, so that the fuzzer finds prefixes of one another. */
static struct ip_addr read_addr(struct wire_reader *r, bool v4)
{
	uint16_t bits = wire_be16(r);
	struct ip_addr addr = { { 0xfd } };

	if (v4)
		return ip_from_v4((uint32_t)bits << 16 | (uint32_t)(bits & 3));
	addr.byte[1] = (uint8_t)(bits >> 8);
	addr.byte[8] = (uint8_t)bits;
	addr.byte[15] = (uint8_t)(bits & 3);
	return addr;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_reader r = wire_reader(data, size);
	struct wg_allowed_list list[PEERS] = { 0 };
	struct entry entry[ENTRIES];
	struct wg_allowedips a = { 0 };
	int count = 0;

	while (wire_left(&r) >= 4 && count < ENTRIES) {
		uint8_t head = wire_u8(&r), byte = wire_u8(&r);
		struct ip_addr addr = read_addr(&r, head & 1);
		unsigned len = byte % (ip_is_v4(&addr) ? 33 : 129);
		int peer = head >> 1 & 3;

		if (head & 0x80) {
			wg_allowedips_remove_all(&a, &list[peer]);
			for (int i = 0; i < count; i++)
				if (entry[i].peer == peer)
					entry[i].peer = -1;
		} else if (wg_allowedips_reserve(&a, 1, NULL) == 0) {
			wg_allowedips_insert(&a, &addr, (uint8_t)len, peer_at(peer), &list[peer]);
			for (int i = 0; i < count; i++)
				if (entry[i].len == len && covers(&entry[i], &addr))
					entry[i].peer = -1;
			entry[count++] = (struct entry){ addr, len, peer };
		}
		for (int i = 0; i < count; i++)
			assert(wg_allowedips_lookup(&a, &entry[i].addr) ==
			       slow_lookup(entry, count, &entry[i].addr));
	}
	for (int i = 0; i < PEERS; i++)
		wg_allowedips_remove_all(&a, &list[i]);
	assert(!a.root[0] && !a.root[1] && !a.prefixes);
	wg_allowedips_finish(&a);
	return 0;
}
