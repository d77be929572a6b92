/* What maps cost in processor time: 5,000 peers whole, one-peer deltas; memory of a peer. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common.h"
#include "daemon/netmap/status.h"

#define PEERS  5000
#define DELTAS 1000
#define ROUTES 100 /* that all of them announce */

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void put_peer(FILE *f, unsigned i, unsigned port)
{
	fprintf(f,
		"{\"ID\":%u,\"StableID\":\"%u\",\"Name\":\"host-%u.tail.example.\",\"User\":%u,"
		"\"Key\":\"nodekey:%064x\",\"Machine\":\"mkey:%064x\",\"DiscoKey\":\"discokey:%064x\","
		"\"Addresses\":[\"100.%u.%u.%u/32\",\"fd7a:115c:a1e0::%x/128\"],"
		"\"AllowedIPs\":[\"100.%u.%u.%u/32\",\"fd7a:115c:a1e0::%x/128\"],"
		"\"Endpoints\":[\"192.0.2.1:%u\",\"198.51.100.4:5\",\"[2001:db8::1]:41641\"],"
		"\"HomeDERP\":900,\"Hostinfo\":{\"OS\":\"linux\",\"OSVersion\":\"6.1\","
		"\"Hostname\":\"host-%u\",\"NetInfo\":{\"PreferredDERP\":900,\"WorkingUDP\":true},"
		"\"Services\":[{\"Proto\":\"peerapi4\",\"Port\":5000}]},"
		"\"Created\":\"2026-11-21T03:13:03.045538454Z\",\"Cap\":113,\"Online\":true,"
		"\"MachineAuthorized\":true,\"CapMap\":{\"https://tailscale.com/cap/file-sharing\":[],"
		"\"https://tailscale.com/cap/is-admin\":[],\"https://tailscale.com/cap/ssh\":[]}}",
		i, i, i, i % 50, i, i, i, 64 + (i >> 16), i >> 8 & 255, i & 255, i, 64 + (i >> 16),
		i >> 8 & 255, i & 255, i, 1 + port, i);
}

static double apply_ms(struct netmap *nm, const char *json, size_t len)
{
	struct netmap_changes changes;
	double start = now_ms();

	if (netmap_apply(nm, json, len, WALL_S, &changes) < 0)
		abort();
	netmap_changes_finish(&changes);
	return now_ms() - start;
}

/* Everybody announces the same routes; all keys from this number on. */
static char *shared_routes(unsigned first_key, size_t *len)
{
	char *json = NULL;
	FILE *f = open_memstream(&json, len);

	fprintf(f,
		"{\"Node\":{\"ID\":1,\"Name\":\"me.tail.example.\",\"Key\":\"nodekey:%064x\"},"
		"\"Peers\":[",
		1 << 20);
	for (unsigned i = 2; i < PEERS + 2; i++) {
		fprintf(f, "%s{\"ID\":%u,\"Key\":\"nodekey:%064x\",\"AllowedIPs\":[",
			i > 2 ? "," : "", i, first_key + i);
		for (unsigned k = 0; k < ROUTES; k++)
			fprintf(f, "%s\"10.1.%u.0/24\"", k ? "," : "", k);
		fputs("]}", f);
	}
	fputs("]}", f);
	fclose(f);
	return json;
}

static void bench_shared_routes(void)
{
	struct netmap *nm = netmap_create();
	struct ip_prefix out[ROUTES];
	unsigned accepted = 0;
	double start;

	for (unsigned round = 0; round < 2; round++) {
		size_t len;
		char *json = shared_routes(round * 2 * PEERS, &len);

		netmap_stream_started(nm);
		printf("all with the same %u routes, %.1f MB: %.0f ms\n", ROUTES, (double)len / 1e6,
		       apply_ms(nm, json, len));
		free(json);
	}
	start = now_ms();
	for (unsigned i = 0; i < PEERS; i++)
		accepted += netmap_node_accepted(nm, netmap_peer_at(nm, i), true, out);
	printf("who may have them: %.0f ms, %u are had\n", now_ms() - start, accepted);
	netmap_destroy(nm);
}

int main(void)
{
	struct netmap *nm = netmap_create();
	struct status_source source = { .version = "1",
					.backend_state = "Running",
					.auth_url = "" };
	struct json_object *status;
	size_t before, after, len;
	double start, delta = 0, worst = 0;
	char *json = NULL;
	FILE *f = open_memstream(&json, &len);

	fprintf(f,
		"{\"Node\":{\"ID\":1,\"Name\":\"me.tail.example.\",\"Key\":\"nodekey:%064x\"},"
		"\"Peers\":[",
		1 << 20);
	for (unsigned i = 2; i < PEERS + 2; i++) {
		fputs(i > 2 ? "," : "", f);
		put_peer(f, i, 1);
	}
	fputs("]}", f);
	fclose(f);
	malloc_trim(0);
	before = mallinfo2().uordblks;
	printf("%u peers, %.1f MB: %.0f ms\n", PEERS, (double)len / 1e6, apply_ms(nm, json, len));
	after = mallinfo2().uordblks;
	printf("%.1f KiB a peer\n", (double)(after - before) / 1024 / PEERS);
	netmap_stream_started(nm);
	printf("the same again: %.0f ms\n", apply_ms(nm, json, len));
	free(json);
	for (unsigned i = 0; i < DELTAS; i++) {
		char text[4096];
		double ms;

		f = fmemopen(text, sizeof(text), "w");
		fputs("{\"PeersChanged\":[", f);
		put_peer(f, 2 + i % (PEERS + 100), i);
		fputs("]}", f);
		fputc('\0', f);
		fclose(f);
		ms = apply_ms(nm, text, strlen(text));
		delta += ms;
		worst = ms > worst ? ms : worst;
	}
	printf("one-peer delta: %.3f ms, worst %.3f ms\n", delta / DELTAS, worst);
	start = now_ms();
	json = netmap_export(nm, &len);
	printf("export: %.0f ms\n", now_ms() - start);
	free(json);
	start = now_ms();
	status = status_build(nm, &source);
	printf("status: %.0f ms\n", now_ms() - start);
	json_object_put(status);
	netmap_destroy(nm);
	bench_shared_routes();
	return 0;
}
