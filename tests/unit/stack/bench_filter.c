/* What a verdict costs in processor time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/stack/filter.h"
#include "daemon/stack/ip.h"
#include "daemon/tcp/segment.h"
#include "shared/wire.h"

#define RULES 1000
#define RUNS  2000000u

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static size_t make(uint8_t *out, uint8_t protocol, uint16_t port, uint8_t flags)
{
	struct ip_addr src = ip_from_v4(0x64400002), dst = ip_from_v4(0x64400001);
	uint8_t transport[20] = { [12] = 0x50 };
	size_t header = ip_header_write(out, &src, &dst, protocol, sizeof(transport), NULL);

	store_be16(transport, port);
	store_be16(transport + 2, 80);
	transport[13] = flags;
	memcpy(out + header, transport, sizeof(transport));
	return header + sizeof(transport);
}

static void measure(struct filter *f, const char *what, uint8_t protocol, unsigned ports,
		    uint8_t flags, unsigned runs)
{
	uint8_t packet[2][64];
	size_t len = 0;
	double start;

	for (unsigned i = 0; i < 2; i++)
		len = make(packet[i], protocol, (uint16_t)(1 + i % ports), flags);
	start = now_ns();
	for (unsigned i = 0; i < runs; i++)
		filter_in(f, NULL, packet[i & 1], len);
	printf("%-36s %8.1f ns\n", what, (now_ns() - start) / runs);
}

int main(void)
{
	static const uint8_t secret[16];
	static struct netmap_range src[RULES][4];
	static struct netmap_rule rules[RULES];
	uint8_t tcp[] = { 6 };
	struct netmap_dst dst = { { ip_from_v4(0x64400001), ip_from_v4(0x64400001) }, 80, 80 };
	struct ip_prefix own = { ip_from_v4(0x64400001), 32 };
	struct filter *f = filter_create(FILTER_FLOWS, secret);

	/* No rule has the sender: each must be tried. */
	for (unsigned i = 0; i < RULES; i++) {
		for (unsigned k = 0; k < 4; k++)
			src[i][k].first = src[i][k].last = ip_from_v4(0x64500000 + i * 8 + k * 2);
		rules[i] = (struct netmap_rule){ src[i], 4, NULL, 0, tcp, 1, &dst, 1, "" };
	}
	if (!f || filter_set(f, rules, RULES, &own, 1) < 0)
		abort();
	for (uint16_t port = 1; port <= 2; port++)
		filter_flow_out(f, IP_PROTOCOL_UDP, &(struct endpoint){ own.addr, 80 },
				&(struct endpoint){ ip_from_v4(0x64400002), port });
	measure(f, "TCP, no SYN", IP_PROTOCOL_TCP, 1, TCP_ACK, RUNS);
	measure(f, "UDP, one known flow", IP_PROTOCOL_UDP, 1, 0, RUNS);
	measure(f, "UDP, two known flows by turns", IP_PROTOCOL_UDP, 2, 0, RUNS);
	measure(f, "TCP SYN, 1,000 rules of 4 sources", IP_PROTOCOL_TCP, 1, TCP_SYN, 20000);
	filter_destroy(f);
	return 0;
}
