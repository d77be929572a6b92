/*
 * The shared map: what the shim may know of the mesh, in one file.
 *
 * The daemon is its only writer; every wrapped process maps it read-only. It
 * lies in the runtime folder (paths.h), has one fixed size, and is never
 * truncated. A daemon that starts again rewrites the file of its predecessor
 * in place, so old mappings stay right; a file of another version is retired
 * (the flag below) and replaced, and readers then map the new one.
 *
 * Three ideas:
 * - The mirror is a bijection. Every mesh address, IPv4 or IPv6, has exactly
 *   one loopback IPv4 address that stands for it (its mirror), and the
 *   reverse. IPv4 ranges are mirrored as ranges (100.64.0.0/10 as
 *   127.64.0.0/10, bit for bit, where no other daemon of this network
 *   namespace has it), IPv6 addresses one by one.
 * - No reader ever waits. The directory (own addresses, ranges, names) is there
 *   twice: readers use one while the daemon writes the other and then gives it
 *   the turn. Flows are under a sequence lock each, pairs are two atomic words.
 * - Life is one word: the daemon holds a robust mutex inside the file, and the
 *   kernel itself marks that word when the daemon dies, however it dies.
 *
 * All functions here are async-signal-safe and allocate nothing.
 */
#ifndef MESHWRAP_SHARED_MAP_H
#define MESHWRAP_SHARED_MAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/endpoint.h"

#define MAP_MAGIC   0x4d574d31u /* "MWM1" */
#define MAP_VERSION 4u

#define MAP_MAX_OWN      16
#define MAP_MAX_RANGES   16384
#define MAP_MAX_NAMES    16384
#define MAP_MAX_SUFFIXES 4096
#define MAP_MAX_SEARCH   32
#define MAP_MAX_SERVERS  8
#define MAP_NAME_MAX     256 /* with the terminator */
#define MAP_NAME_BYTES   (2u << 20)
#define MAP_FLOW_SLOTS   65536
#define MAP_PAIR_SLOTS   32768
#define MAP_PROBE_LIMIT  64 /* slots looked at before a look-up gives up */
#define MAP_IFNAME_MAX   16
#define MAP_DNS_PORT     53

/* One of this node's own addresses. */
struct map_own {
	struct ip_addr addr;
	uint32_t mirror;     /* host byte order, as all mirrors here */
	uint32_t prefix_len; /* of the interface address, in the address's own family */
};

/*
 * Mesh addresses first..last (inclusive, same family). mirror is that of
 * first, the rest follow one by one; 0: these belong to the mesh but cannot be
 * reached (the shim fails closed). A range with mirror != 0 in IPv6 holds one
 * address. Sorted by first, disjoint.
 */
struct map_range {
	struct ip_addr first, last;
	uint32_t mirror;
	uint32_t count; /* addresses in the range; 0 when mirror is 0 */
};

/* A reverse index over ranges with a mirror, sorted by mirror. */
struct map_mirror {
	uint32_t first; /* mirror of ranges[range].first */
	uint32_t range;
};

/*
 * A mesh name, lower case, without the trailing dot; sorted bytewise by name. A
 * name with several addresses of a family has several entries, one after another.
 */
struct map_name {
	uint32_t name_off; /* into text, zero-terminated */
	uint32_t flags;    /* MAP_NAME_* */
	struct ip_addr v4; /* all zero when there is none */
	struct ip_addr v6;
};
#define MAP_NAME_SELF      1u /* this node's own name */
#define MAP_NAME_CANONICAL 2u /* what a reverse look-up answers before other names */
#define MAP_NAME_HIDE_V4   4u /* v4 is for reverse look-ups only */
#define MAP_NAME_HIDE_V6   8u

/* Names that end so are not libc's to look up; "" is every name. Sorted bytewise. */
struct map_suffix {
	uint32_t name_off;
	uint32_t is_zone; /* 1: names holds all there are; 0: the daemon knows whom to ask */
};

/*
 * A name server of this machine: while the daemon lives, its port 53 (and no
 * other) is at the mirror, where the daemon answers in its place.
 */
struct map_server {
	struct ip_addr addr;
	uint32_t mirror;
};

struct map_directory {
	uint32_t own_count, range_count, mirror_count;
	uint32_t name_count, suffix_count, search_count, server_count, text_len;
	uint32_t mtu;
	char ifname[MAP_IFNAME_MAX]; /* of the interface the program is shown */
	struct map_own own[MAP_MAX_OWN];
	struct map_server servers[MAP_MAX_SERVERS];
	uint32_t search[MAP_MAX_SEARCH]; /* into text: domains that short names are tried in */
	struct map_suffix suffixes[MAP_MAX_SUFFIXES];
	struct map_range ranges[MAP_MAX_RANGES];
	struct map_mirror mirrors[MAP_MAX_RANGES];
	struct map_name names[MAP_MAX_NAMES];
	char text[MAP_NAME_BYTES];
};

/*
 * Both ends of a program's TCP socket as its kernel names them, 0 standing for ::1: its own (own
 * mirror, or 127.0.0.1), and where it is led (a mirror at the hold port, or at another one).
 */
struct map_ends {
	uint32_t local_addr, peer_addr;
	uint16_t local_port, peer_port;
};

/*
 * Outbound TCP flows, found by those ends: several may share a local one.
 * FREE -> HELD -> OPEN | FAILED; any -> HELD when the ends are used anew. A
 * FAILED flow stays readable until its slot is needed.
 *
 * A flow that was open and ended because its far side fell silent is LOST: error says so, where
 * the kernel has a reset only. For inbound ones that is their only entry; local is the
 * program's end, and remote the own mesh address then.
 */
enum map_flow_state { MAP_FLOW_FREE, MAP_FLOW_HELD, MAP_FLOW_OPEN, MAP_FLOW_FAILED, MAP_FLOW_LOST };

struct map_flow {
	_Atomic uint32_t seq; /* odd while written */
	uint32_t generation;
	struct map_ends ends;
	uint16_t remote_port; /* on the mesh */
	uint8_t state;        /* enum map_flow_state */
	uint8_t error;        /* of FAILED and LOST: a positive errno */
	struct ip_addr remote;
};

/*
 * Pairs of (loopback address, port): which one stands for which. Key and
 * value are packed by map_pack(). Address 0 stands for ::1, which the daemon
 * uses towards listeners that take IPv6 only.
 */
enum map_table {
	/* (mirror of a mesh address, port on the mesh) -> loopback socket of the daemon */
	MAP_UDP_OUT,
	/* as MAP_UDP_OUT, for sockets that are IPv6-only: the value is on ::1 */
	MAP_UDP_OUT6,
	/* loopback socket of the daemon -> (mirror of the peer, its port on the mesh) */
	MAP_UDP_IN,
	/* the same for inbound TCP flows whose loopback source is not (mirror, port) of the peer */
	MAP_TCP_IN,
	MAP_TABLES
};

struct map_pair {
	_Atomic uint64_t key; /* 0 free, MAP_PAIR_GONE deleted */
	_Atomic uint64_t value;
};
#define MAP_PAIR_GONE UINT64_MAX

struct map {
	uint32_t magic, version;
	uint64_t size;             /* of the whole file */
	_Atomic uint32_t retired;  /* 1: replaced by a new file, open that one */
	_Atomic uint32_t ready;    /* 1: the mesh is usable */
	_Atomic uint32_t life_off; /* file offset of the futex word of the robust mutex */
	uint32_t hold_port;        /* TCP port of SYN hold, 0: it does not work here */
	uint64_t boot_id;          /* random, new at each daemon start */
	uint32_t dial_port;        /* of the ordinary listener, for those who are dialled first */
	_Atomic uint32_t takes_posts; /* 1: held dials may be posted, see ipc.h */
	_Alignas(64) uint8_t mutex[64];
	_Atomic uint32_t pair_count[MAP_TABLES]; /* 0 spares the look-up */
	_Atomic uint32_t turn;                   /* its lowest bit: which directory is to be read */
	struct map_directory dir[2];
	struct map_flow flows[MAP_FLOW_SLOTS];
	struct map_pair pairs[MAP_TABLES][MAP_PAIR_SLOTS];
};

/* Where programs that connect to the mesh are led, on the peer's mirror. */
static inline bool map_is_dial_port(const struct map *map, uint16_t port)
{
	return port != 0 && (port == map->hold_port || port == map->dial_port);
}

static inline uint64_t map_pack(uint32_t addr, uint16_t port)
{
	return (uint64_t)1 << 63 | (uint64_t)addr << 16 | port; /* the high bit: never 0 */
}

/* The directory to be read now; what was read of it may be torn, see read_ended_well() in map.c. */
static inline const struct map_directory *map_dir(const struct map *map)
{
	return &map->dir[atomic_load_explicit(&map->turn, memory_order_acquire) & 1];
}

/* ---- reading (shim, meshrun, meshctl) ---- */

/*
 * Is this memory a map of our version and of at least size bytes? The file
 * may have been written by anybody: everything later is bounds-checked too.
 */
bool map_is_valid(const struct map *map, uint64_t size);
/* The daemon that wrote it still lives. */
bool map_is_alive(const struct map *map);

enum map_verdict {
	MAP_OUTSIDE,  /* not a mesh address: leave the call alone */
	MAP_OWN,      /* this node's own address, *mirror set */
	MAP_PEER,     /* another mesh address, *mirror set */
	MAP_NO_MIRROR /* a mesh address nobody can reach (or the directory is torn) */
};
enum map_verdict map_to_mirror(const struct map *map, const struct ip_addr *mesh, uint32_t *mirror);
/* The mirror of a name server's port 53; false when the address is none of ours to answer for. */
bool map_server_mirror(const struct map *map, const struct ip_addr *addr, uint32_t *mirror);
/* The mesh address (or name server) for a loopback address; false when it is no mirror. */
bool map_from_mirror(const struct map *map, uint32_t mirror, struct ip_addr *mesh);
/* The own address of a family (want_v6), and its mirror; false when there is none. */
bool map_own(const struct map *map, bool want_v6, struct map_own *own);
/* A copy of the i-th own address; false past the end. */
bool map_own_at(const struct map *map, uint32_t i, struct map_own *own);
/* A copy of the i-th range; false past the end. */
bool map_range_at(const struct map *map, uint32_t i, struct map_range *range);
/* The IPv4 address of the node that has this IPv6 address (by its name entry); false if none. */
bool map_v4_of_v6(const struct map *map, const struct ip_addr *v6, struct ip_addr *v4);

/* name: any case, with or without trailing dot. The first of its entries. */
bool map_find_name(const struct map *map, const char *name, struct map_name *found);
/* As it is, else in the search domains if it has no dot: what a person may type. */
bool map_find_host(const struct map *map, const char *name, struct map_name *found);
/* All of them, as far as there is room; 0: it is no name of the mesh. */
unsigned map_find_names(const struct map *map, const char *name, struct map_name *found,
			unsigned max);

enum map_suffix_kind {
	MAP_SUFFIX_NONE,    /* libc's affair */
	MAP_SUFFIX_ZONE,    /* a name that is not in the map does not exist */
	MAP_SUFFIX_ROUTE,   /* the daemon is to be asked, and nobody else */
	MAP_SUFFIX_DEFAULT, /* the daemon is to be asked; without it, libc */
};
/* What the longest suffix around the name says. */
enum map_suffix_kind map_suffix_of(const struct map *map, const char *name);
/* The i-th search domain; false past the end. */
bool map_search_domain(const struct map *map, uint32_t i, char domain[static MAP_NAME_MAX]);
/* The name of an address, a node's rather than another record's, into name. */
bool map_name_of(const struct map *map, const struct ip_addr *addr, char name[static MAP_NAME_MAX]);

static inline bool map_ends_equal(const struct map_ends *a, const struct map_ends *b)
{
	return a->local_addr == b->local_addr && a->peer_addr == b->peer_addr &&
	       a->local_port == b->local_port && a->peer_port == b->peer_port;
}

/* A consistent copy of the flow between these ends. */
bool map_find_flow(const struct map *map, const struct map_ends *ends, struct map_flow *found);
bool map_find_pair(const struct map *map, enum map_table table, uint32_t addr, uint16_t port,
		   uint32_t *value_addr, uint16_t *value_port);

/* Where flows and pairs are hashed to; shared with the writer. */
uint32_t map_flow_slot(const struct map_ends *ends);
uint32_t map_pair_slot(uint64_t key);

#endif
