/*
 * Fuzzes what comes back for one query: nothing but a response with its id is
 * ever taken, and only an error may lack its question.
 */
#include <assert.h>
#include <string.h>

#include "daemon/dns/exchange.h"
#include "daemon/dns/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t query[] = "\x12\x34\x01\x00\0\1\0\0\0\0\0\0\1b\4corp\0\0\1\0\1";
	const size_t query_len = sizeof(query) - 1;
	enum exchange_verdict verdict = exchange_judge(query, query_len, data, size);
	struct dns_question q;

	if (verdict == EXCHANGE_FOREIGN)
		return 0;
	assert(size >= DNS_HEADER_LEN && dns_message_id(data) == 0x1234);
	assert(dns_message_flags(data) & DNS_FLAG_QR);
	if (dns_message_question(data, size, &q))
		assert(strcmp(q.name, "b.corp") == 0 && q.type == 1 && q.class == 1);
	else
		assert((dns_message_flags(data) & DNS_FLAG_RCODE) != DNS_NOERROR);
	return 0;
}
