/*
 * An answer must have the query's id, be a response, and repeat the question
 * byte for byte (a resolver that does not keep the case of letters is none
 * that we can tell from a forger). Only an error may come without a question, as
 * some servers send it.
 */
#include "daemon/dns/exchange.h"

#include <string.h>

#include "daemon/dns/message.h"
#include "shared/wire.h"

enum exchange_verdict exchange_judge(const uint8_t *query, size_t query_len, const uint8_t *answer,
				     size_t len)
{
	struct dns_question asked, told;
	unsigned rcode;

	if (len < DNS_HEADER_LEN || query_len < DNS_HEADER_LEN ||
	    dns_message_id(answer) != dns_message_id(query) ||
	    !(dns_message_flags(answer) & DNS_FLAG_QR))
		return EXCHANGE_FOREIGN;
	rcode = dns_message_flags(answer) & DNS_FLAG_RCODE;
	if (load_be16(answer + 4) != 0) {
		if (!dns_message_question(query, query_len, &asked) ||
		    !dns_message_question(answer, len, &told) || asked.type != told.type ||
		    asked.class != told.class || strcmp(asked.name, told.name) != 0)
			return EXCHANGE_FOREIGN;
	} else if (rcode == DNS_NOERROR || rcode == DNS_NXDOMAIN) {
		return EXCHANGE_FOREIGN;
	}
	if (rcode == DNS_SERVFAIL)
		return EXCHANGE_SERVFAIL;
	if (rcode == DNS_REFUSED)
		return EXCHANGE_REFUSED;
	return dns_message_flags(answer) & DNS_FLAG_TC ? EXCHANGE_TRUNCATED : EXCHANGE_GOOD;
}
