/*
 * How the shared map is read while another process writes it.
 *
 * Locked data is read with plain loads between acquire loads of the sequence
 * number, as the kernel's seqlocks are; the fence keeps them in place. The
 * directory's number is its turn: it says which of the two copies is whole, and
 * has changed when the one that was being read is being written again. So a
 * reader tries again only after two changes, and a writer that died in the
 * middle of one is not noticed at all.
 */
#ifndef MESHWRAP_SHARED_MAP_READ_H
#define MESHWRAP_SHARED_MAP_READ_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/map.h"

#define READ_TRIES 1000

/* The sequence number before a read; false when the writer is at it. */
static inline bool read_begin(const _Atomic uint32_t *lock, uint32_t *seq)
{
	*seq = atomic_load_explicit(lock, memory_order_acquire);
	return (*seq & 1) == 0;
}

static inline bool read_ended_well(const _Atomic uint32_t *lock, uint32_t seq)
{
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(lock, memory_order_relaxed) == seq;
}

static inline const struct map_directory *read_directory(const struct map *map, uint32_t *turn)
{
	*turn = atomic_load_explicit(&map->turn, memory_order_acquire);
	return &map->dir[*turn & 1];
}

#endif
