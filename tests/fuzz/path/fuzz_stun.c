/* Fuzzes STUN: what is accepted can be made again. */
#include <assert.h>
#include <string.h>

#include "tests/unit/path/stun_relay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t txid[STUN_TXID_LEN], again[STUN_TXID_LEN], made[STUN_RESPONSE_MAX];
	struct endpoint mapped, remade;
	uint8_t request[STUN_REQUEST_LEN];

	if (stun_parse_request(data, size, txid) == 0) {
		stun_make_request(txid, request);
		assert(stun_parse_request(request, sizeof(request), again) == 0);
	}
	if (stun_parse_response(data, size, txid, &mapped) == 0) {
		size_t len = stun_make_response(txid, &mapped, made);

		assert(stun_parse_response(made, len, again, &remade) == 0);
		assert(endpoint_equal(&mapped, &remade) && memcmp(txid, again, sizeof(txid)) == 0);
	}
	return 0;
}
