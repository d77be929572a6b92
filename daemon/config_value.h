/*
 * The values a WireGuard file is made of, each a pure function on text.
 *
 * All return 0, or -EINVAL when the text is not exactly one such value.
 */
#ifndef MESHWRAP_DAEMON_CONFIG_VALUE_H
#define MESHWRAP_DAEMON_CONFIG_VALUE_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/wg/device.h"

/* 32 bytes in base64, as wg(8) writes them; all zero is refused. */
int config_value_key(const char *text, uint8_t key[static WG_KEY_LEN]);
/* Decimal, 0..max. */
int config_value_number(const char *text, uint32_t max, uint32_t *number);
/* "ADDRESS" or "ADDRESS/LENGTH"; bits behind the length are kept. */
int config_value_prefix(const char *text, struct ip_prefix *prefix);
/* The same with the bits behind the length cleared: a network. */
void config_value_mask(struct ip_prefix *prefix);
/* "HOST:PORT" with a name, an IPv4 address, or an IPv6 address in brackets (given without). */
int config_value_endpoint(const char *text, char host[static 256], uint16_t *port);
/* Host name labels, lower-cased: one of at most 63 bytes, or several with dots between. */
int config_value_label(const char *text, char label[static 64]);
int config_value_domain(const char *text, char domain[static 256]);

#endif
