/*
 * Pings of mesh peers that somebody asked for: which kind, and how it went. The local API
 * and the coordination server ask alike, and know nothing of one another.
 */
#ifndef MESHWRAP_DAEMON_PONG_H
#define MESHWRAP_DAEMON_PONG_H

#include <stdbool.h>
#include <stdint.h>

enum ping_type { PING_DISCO, PING_TSMP, PING_ICMP };

/* How a ping went. Texts are read at once; NULL is "". */
struct pong {
	const char *node_ip, *node_name; /* who answered */
	const char *error;               /* a sentence; then nothing else counts */
	double latency_s;
	const char *endpoint; /* "1.2.3.4:5" when it came directly */
	int derp_region;      /* else by this relay */
	const char *derp_code;
	uint16_t peerapi_port;
	bool is_local; /* the address is our own; error says so */
};

#endif
