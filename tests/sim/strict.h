/* A far side that drops what it does not allow any more, as a kernel does. */
#ifndef MESHWRAP_TESTS_SIM_STRICT_H
#define MESHWRAP_TESTS_SIM_STRICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STRICT_CONNS 1024

struct tcp;

struct strict {
	struct strict_said {
		uint16_t local_port, remote_port;
		bool is_known;
		uint32_t ack, edge; /* as it told them last */
	} said[STRICT_CONNS];
	uint64_t drops;
};

/* What the endpoint sends. */
void strict_sent(struct strict *strict, struct tcp *tcp, const uint8_t *packet, size_t len);
/* What it is to receive; changes what a kernel would drop. Returns its length. */
size_t strict_filter(struct strict *strict, struct tcp *tcp, uint8_t *packet, size_t len);

#endif
