/* The Internet checksum (RFC 1071), in parts: sums of parts add up to the sum of the whole. Pure.
 */
#ifndef MESHWRAP_DAEMON_TCP_SUM_H
#define MESHWRAP_DAEMON_TCP_SUM_H

#include <stddef.h>
#include <stdint.h>

/*
 * Partial one's complement sum, in memory byte order. Parts but the last have an even length; of an
 * odd one the missing byte counts as 0. Exact up to 64 KiB a part and 2^16 parts.
 */
uint64_t tcp_sum(const void *bytes, size_t len);
uint16_t tcp_sum_fold(uint64_t sum);

#endif
