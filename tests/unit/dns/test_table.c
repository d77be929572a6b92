/* The table of the mesh's names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "daemon/dns/dns.h"
#include "daemon/dns/table.h"

static double used_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* others may have the processor */
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void test_thousands_of_names_are_a_matter_of_milliseconds(void **state)
{
	enum { N = 16000 };
	struct netmap_node *nodes = calloc(N, sizeof(*nodes));
	const struct netmap_node **peers = calloc(N, sizeof(*peers));
	struct ip_prefix *addr = calloc(N, sizeof(*addr));
	char(*names)[40] = calloc(N, sizeof(*names));
	struct dns_source source = { .self = &nodes[0], .peers = peers, .peer_count = N };
	struct dns_table *table;
	double began;
	unsigned unfit;

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		snprintf(names[i], sizeof(names[i]), "host-%u.tailnet.example", i * 7919 % N);
		addr[i] = (struct ip_prefix){ ip_from_v4(0x64400000 + i), 32 };
		nodes[i] = (struct netmap_node){ .name = names[i],
						 .addresses = &addr[i],
						 .address_count = 1 };
		peers[i] = &nodes[i];
	}
	began = used_ms();
	table = dns_table_build(&source, &unfit);
	print_message("%d names: %.1f ms\n", (int)N, used_ms() - began);
	assert_int_equal(dns_table_host_count(table), N);
	assert_int_equal(unfit, 0);
	assert_true(used_ms() - began < 1000);
	assert_string_equal(dns_table_find_ip(table, &addr[77].addr)->name, names[77]);
	dns_table_destroy(table);
	free(nodes);
	free(peers);
	free(addr);
	free(names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_thousands_of_names_are_a_matter_of_milliseconds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
