/*
 * The WireGuard file: wg-quick's keys, plus comments that name nodes.
 *
 *     [Interface]
 *     # Name = node-a          this node's mesh name
 *     # Domain = mesh          names also end in this; default "mesh"
 *     PrivateKey = ...
 *     Address = 100.64.0.1/10, fd7a:115c:a1e0::1/48
 *     ListenPort = 51820
 *     MTU = 1420
 *
 *     [Peer]
 *     # Name = node-b           one that is no host name is a plain comment
 *     PublicKey = ...
 *     AllowedIPs = 100.64.0.2/32, fd7a:115c:a1e0::2/128
 *     Endpoint = 192.0.2.7:51820
 */
#ifndef MESHWRAP_DAEMON_CONFIG_H
#define MESHWRAP_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/wg/device.h"
#include "shared/endpoint.h"

#define CONFIG_NAME_MAX    64 /* one DNS label, with the terminator */
#define CONFIG_MAX_PEERS   8192
#define CONFIG_MAX_OWN     16
#define CONFIG_MAX_ALLOWED 65536
#define CONFIG_MAX_BYTES   (8u << 20)

struct config_peer {
	char name[CONFIG_NAME_MAX]; /* "" when the file gives none */
	uint8_t public_key[WG_KEY_LEN];
	uint8_t preshared_key[WG_KEY_LEN];
	struct ip_prefix *allowed;
	unsigned allowed_count;
	/* Host and port as written; the host may be a name, resolved by the caller. */
	char endpoint_host[256];
	uint16_t endpoint_port; /* 0: none */
	uint16_t keepalive_s;
	unsigned line; /* where its section starts */
};

struct config {
	char name[CONFIG_NAME_MAX];
	char domain[256];
	uint8_t private_key[WG_KEY_LEN]; /* wiped by config_finish() */
	struct ip_prefix own[CONFIG_MAX_OWN];
	unsigned own_count;
	uint16_t listen_port; /* 0: any */
	uint32_t mtu;
	struct config_peer *peers;
	unsigned peer_count;
	bool is_exposed; /* others may read or write the file */
	/* One line each, "" when there is nothing to say: */
	char unused[512];    /* keys we accept but do not act on (PostUp, Table ...) */
	char bad_names[512]; /* comments that say Name, but are no host names: nobody has them */
};

/*
 * Parses a whole file. On failure -EINVAL (or -ENOMEM), and error holds one
 * sentence with the line number that says what is wrong and what to do; it
 * never quotes a key. config must be finished in either case.
 */
int config_parse(const char *text, size_t len, struct config *config, char error[static 256]);
void config_finish(struct config *config);

#endif
