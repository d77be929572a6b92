/* Fuzzes queries: whatever comes, the answer is bounded and a second look can read it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/dns/answer.h"
#include "daemon/dns/message.h"
#include "shared/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct dns_table *make_table(void)
{
	struct ip_addr ips[] = { ip_from_v4(0x64400001), ip_from_v4(0x0a000001) };
	struct dns_host host = { .name = "b.t.example",
				 .ips = ips,
				 .answered = 2,
				 .count = 2,
				 .is_node = true,
				 .has_subdomains = true };
	struct dns_table *table = dns_table_create();

	dns_table_add_host(table, &host);
	dns_table_add_suffix(table, "t.example", NULL, 0);
	dns_table_add_suffix(table, "64.100.in-addr.arpa", NULL, 0);
	dns_table_add_search(table, "t.example");
	assert(dns_table_finish(table) == 0);
	return table;
}

static void check(const uint8_t *query, size_t size, const struct dns_answer *a)
{
	struct dns_question asked, told;

	assert(a->len >= DNS_HEADER_LEN && a->len <= sizeof(a->bytes));
	assert(dns_message_flags(a->bytes) & DNS_FLAG_QR);
	if (a->verdict == DNS_MALFORMED) {
		assert(a->len == DNS_HEADER_LEN);
		return;
	}
	assert(dns_message_id(a->bytes) == dns_message_id(query));
	assert(dns_message_question(query, size, &asked));
	assert(dns_message_question(a->bytes, a->len, &told));
	assert(strcmp(asked.name, told.name) == 0 && asked.type == told.type);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct dns_table *table;
	struct dns_answer a;
	struct dns_question q;
	struct ip_addr ips[4];
	uint8_t *copy = malloc(size + 1);

	if (!table)
		table = make_table();
	if (!copy)
		return 0;
	memcpy(copy, data, size);
	dns_answer(table, copy, size, 1, &a);
	if (a.verdict == DNS_FORWARD) {
		assert(dns_message_question(copy, size, &q));
		assert(!dns_name_is_below(q.lower, "t.example"));
		dns_answer_failure(copy, size, &a);
	}
	check(copy, size, &a);
	if (size >= DNS_HEADER_LEN) {
		dns_message_clamp_opt(copy, size);
		assert(dns_message_addresses(copy, size, "b.t.example", DNS_TYPE_A, ips, 4) <= 4);
		dns_answer_mark_truncated(data, size, copy, size);
	}
	free(copy);
	return 0;
}
