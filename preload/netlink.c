/*
 * One more interface in an rtnetlink dump.
 *
 * Nothing is remembered of the request, so the answer itself must say what was
 * asked. Every list of links has lo in it, and every list of addresses its
 * 127.0.0.1 or ::1, just once: our entry follows that one, with the same sequence
 * number and port. The list of all routes has one to each of these two; ours, which follow
 * it, are those the kernel would have made of the interface's addresses, and where these have
 * no network (/32), routes to the peers. A list that was filtered for another
 * interface, or for one table of routes, has none of these, and gets nothing; one of lo's
 * addresses alone says that it is filtered. A question for the mesh interface alone is answered
 * "no such device", with the question inside (or, for a list of addresses, with nothing else: only
 * an interface that does not exist is answered so).
 *
 * The route to one address is another way to ask for this machine's own: its source
 * is shown as primary.h says. To an address of the mesh it is by our interface, also where the
 * kernel knows none, and says so with the question inside.
 *
 * The kernel's last word, NLMSG_DONE, cannot be the place: it does not say what
 * the list was of.
 */
#include "preload/netlink.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "preload/meshif.h"
#include "preload/primary.h"
#include "shared/util.h"

#define ARPHRD_NONE  0xfffe
#define ENTRY_MAX    512
#define ADDED_MAX    512 /* to one datagram */
#define QUEUE_LENGTH 500 /* of a TUN device */

/* A message being put together; it fits by construction. */
struct entry {
	_Alignas(struct nlmsghdr) unsigned char bytes[ENTRY_MAX];
	size_t len;
};

static void begin(struct entry *e, const struct nlmsghdr *like, uint16_t type, const void *body,
		  size_t body_len)
{
	struct nlmsghdr head = *like;

	memset(e, 0, sizeof(*e));
	head.nlmsg_type = type;
	memcpy(e->bytes, &head, sizeof(head));
	memcpy(e->bytes + NLMSG_HDRLEN, body, body_len);
	e->len = NLMSG_LENGTH(NLMSG_ALIGN(body_len));
}

static void add(struct entry *e, uint16_t type, const void *value, size_t len)
{
	struct rtattr attribute = { .rta_len = (uint16_t)RTA_LENGTH(len), .rta_type = type };

	memcpy(e->bytes + e->len, &attribute, sizeof(attribute));
	memcpy(e->bytes + e->len + RTA_LENGTH(0), value, len);
	e->len += RTA_SPACE(len);
}

static size_t end(struct entry *e)
{
	uint32_t len = (uint32_t)e->len;

	memcpy(e->bytes + offsetof(struct nlmsghdr, nlmsg_len), &len, sizeof(len));
	return e->len;
}

/*
 * What every link of the kernel has, and programs take for granted. The counters
 * are nought: what the mesh carried, lo has counted. is_short: without them, for a
 * buffer with little room.
 */
static size_t make_link(struct entry *e, const struct map *map, const char *name,
			const struct nlmsghdr *like, bool is_short)
{
	static const struct rtnl_link_stats64 stats64;
	static const struct rtnl_link_stats stats;
	const struct ifinfomsg body = { .ifi_family = AF_UNSPEC,
					.ifi_type = ARPHRD_NONE,
					.ifi_index = (int)MESHIF_INDEX,
					.ifi_flags = MESHIF_FLAGS | 0x10000 /* IFF_LOWER_UP */ };
	const uint32_t mtu = map_dir(map)->mtu, queue = QUEUE_LENGTH, none = 0, one = 1;
	const uint8_t state = 0; /* unknown, as a tunnel's is */
	const uint8_t carrier = 1, mode = 0;

	begin(e, like, RTM_NEWLINK, &body, sizeof(body));
	add(e, IFLA_IFNAME, name, strlen(name) + 1);
	add(e, IFLA_TXQLEN, &queue, sizeof(queue));
	add(e, IFLA_OPERSTATE, &state, sizeof(state));
	add(e, IFLA_MTU, &mtu, sizeof(mtu));
	if (is_short)
		return end(e);
	add(e, IFLA_LINKMODE, &mode, sizeof(mode));
	add(e, IFLA_GROUP, &none, sizeof(none));
	add(e, IFLA_PROMISCUITY, &none, sizeof(none));
	add(e, IFLA_NUM_TX_QUEUES, &one, sizeof(one));
	add(e, IFLA_NUM_RX_QUEUES, &one, sizeof(one));
	add(e, IFLA_CARRIER, &carrier, sizeof(carrier));
	add(e, IFLA_CARRIER_CHANGES, &none, sizeof(none));
	add(e, IFLA_STATS64, &stats64, sizeof(stats64));
	add(e, IFLA_STATS, &stats, sizeof(stats));
	return end(e);
}

static size_t make_address(struct entry *e, const struct map_own *own, const char *name,
			   const struct nlmsghdr *like)
{
	bool v4 = ip_is_v4(&own->addr);
	const struct ifa_cacheinfo forever = { .ifa_prefered = UINT32_MAX,
					       .ifa_valid = UINT32_MAX };
	const struct ifaddrmsg body = { .ifa_family = v4 ? AF_INET : AF_INET6,
					.ifa_prefixlen = (uint8_t)own->prefix_len,
					.ifa_flags = IFA_F_PERMANENT,
					.ifa_scope = RT_SCOPE_UNIVERSE,
					.ifa_index = MESHIF_INDEX };
	const uint8_t *address = own->addr.byte + (v4 ? 12 : 0);
	uint32_t flags = IFA_F_PERMANENT;

	begin(e, like, RTM_NEWADDR, &body, sizeof(body));
	add(e, IFA_ADDRESS, address, v4 ? 4 : 16);
	if (v4) {
		add(e, IFA_LOCAL, address, 4);
		add(e, IFA_LABEL, name, strlen(name) + 1);
	}
	add(e, IFA_FLAGS, &flags, sizeof(flags));
	add(e, IFA_CACHEINFO, &forever, sizeof(forever));
	return end(e);
}

/* A route by the mesh interface to the network that addr is in; own NULL: the route says no source.
 */
static size_t make_route(struct entry *e, const struct ip_addr *addr, unsigned prefix_len,
			 const struct map_own *own, const struct nlmsghdr *like)
{
	bool v4 = ip_is_v4(addr);
	const unsigned skip = v4 ? 12 : 0, bytes = v4 ? 4 : 16;
	const struct rtmsg body = { .rtm_family = v4 ? AF_INET : AF_INET6,
				    .rtm_dst_len = (uint8_t)prefix_len,
				    .rtm_table = RT_TABLE_MAIN,
				    .rtm_protocol = RTPROT_KERNEL,
				    .rtm_scope = v4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
				    .rtm_type = RTN_UNICAST };
	const uint32_t table = RT_TABLE_MAIN, index = MESHIF_INDEX;
	uint8_t network[16];

	memcpy(network, addr->byte + skip, bytes);
	for (unsigned i = 0; i < bytes; i++) {
		unsigned bits = prefix_len > 8 * i ? MIN(prefix_len - 8 * i, 8u) : 0;

		network[i] &= (uint8_t)(0xff << (8 - bits));
	}
	begin(e, like, RTM_NEWROUTE, &body, sizeof(body));
	add(e, RTA_TABLE, &table, sizeof(table));
	add(e, RTA_DST, network, bytes);
	if (own)
		add(e, RTA_PREFSRC, own->addr.byte + skip, bytes);
	add(e, RTA_OIF, &index, sizeof(index));
	return end(e);
}

/* The value of an attribute of a message, or NULL; head is the length of its fixed part. */
static const unsigned char *attribute(const unsigned char *msg, size_t len, size_t head,
				      uint16_t type, size_t *value_len)
{
	struct rtattr a;

	for (size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(head); at + sizeof(a) <= len;) {
		memcpy(&a, msg + at, sizeof(a));
		if (a.rta_len < sizeof(a) || a.rta_len > len - at)
			return NULL;
		if (a.rta_type == type) {
			*value_len = a.rta_len - RTA_LENGTH(0);
			return msg + at + RTA_LENGTH(0);
		}
		at += RTA_ALIGN(a.rta_len);
	}
	return NULL;
}

static bool is_lo(int family, const unsigned char *address, size_t n)
{
	static const unsigned char v4[4] = { 127, 0, 0, 1 }, v6[16] = { [15] = 1 };

	return (family == AF_INET && n == 4 && memcmp(address, v4, 4) == 0) ||
	       (family == AF_INET6 && n == 16 && memcmp(address, v6, 16) == 0);
}

/* 127.0.0.1 or ::1 on lo; *family is which. */
static bool is_lo_address(const unsigned char *msg, size_t len, int *family)
{
	const unsigned char *address;
	struct ifaddrmsg body;
	size_t n;

	if (len < NLMSG_LENGTH(sizeof(body)))
		return false;
	memcpy(&body, msg + NLMSG_HDRLEN, sizeof(body));
	address = attribute(msg, len, sizeof(body), IFA_ADDRESS, &n);
	*family = body.ifa_family;
	return address && body.ifa_index == MESHIF_LO_INDEX && is_lo(body.ifa_family, address, n);
}

static bool is_lo_link(const unsigned char *msg, size_t len)
{
	struct ifinfomsg body;

	if (len < NLMSG_LENGTH(sizeof(body)))
		return false;
	memcpy(&body, msg + NLMSG_HDRLEN, sizeof(body));
	return body.ifi_index == (int)MESHIF_LO_INDEX && body.ifi_family == AF_UNSPEC;
}

/* The route to 127.0.0.1 or ::1 itself, of the table of local ones; *family is which. */
static bool is_lo_route(const unsigned char *msg, size_t len, int *family)
{
	const unsigned char *to;
	struct rtmsg body;
	size_t n;

	if (len < NLMSG_LENGTH(sizeof(body)))
		return false;
	memcpy(&body, msg + NLMSG_HDRLEN, sizeof(body));
	to = attribute(msg, len, sizeof(body), RTA_DST, &n);
	*family = body.rtm_family;
	return to && body.rtm_table == RT_TABLE_LOCAL && body.rtm_type == RTN_LOCAL &&
	       body.rtm_dst_len == 8 * n && is_lo(body.rtm_family, to, n);
}

/* "No such device", to a question for the link of the mesh interface. */
static bool is_refused_link(const unsigned char *msg, size_t len, const char *name)
{
	const size_t at = NLMSG_HDRLEN + offsetof(struct nlmsgerr, msg);
	const unsigned char *asked;
	struct ifinfomsg body;
	struct nlmsghdr question;
	int32_t error;
	size_t n;

	if (len < at + NLMSG_LENGTH(sizeof(body)))
		return false;
	memcpy(&error, msg + NLMSG_HDRLEN, sizeof(error));
	memcpy(&question, msg + at, sizeof(question));
	memcpy(&body, msg + at + NLMSG_HDRLEN, sizeof(body));
	if (error != -ENODEV || question.nlmsg_type != RTM_GETLINK || question.nlmsg_len > len - at)
		return false;
	if (body.ifi_index)
		return body.ifi_index == (int)MESHIF_INDEX;
	asked = attribute(msg + at, question.nlmsg_len, sizeof(body), IFLA_IFNAME, &n);
	return asked && strnlen((const char *)asked, n) == strlen(name) &&
	       memcmp(asked, name, strlen(name)) == 0;
}

/*
 * The end of a list of addresses of which there was nothing, since there is no such device. One
 * of routes ends so, too, but without the flag.
 */
static bool is_refused_list(const unsigned char *msg, size_t len, const struct nlmsghdr *head)
{
	int32_t error;

	if (head->nlmsg_type != NLMSG_DONE || !(head->nlmsg_flags & NLM_F_DUMP_FILTERED) ||
	    len < NLMSG_LENGTH(sizeof(error)))
		return false;
	memcpy(&error, msg + NLMSG_HDRLEN, sizeof(error));
	return error == -ENODEV;
}

/* The question in an error that says there is no route; its place, or 0: it is no such. */
static size_t unrouted_question(const unsigned char *msg, size_t len)
{
	const size_t at = NLMSG_HDRLEN + offsetof(struct nlmsgerr, msg);
	struct nlmsghdr question;
	int32_t error;

	if (len < at + sizeof(question))
		return 0;
	memcpy(&error, msg + NLMSG_HDRLEN, sizeof(error));
	memcpy(&question, msg + at, sizeof(question));
	if ((error != -ENETUNREACH && error != -EHOSTUNREACH) ||
	    question.nlmsg_type != RTM_GETROUTE || question.nlmsg_flags & NLM_F_DUMP ||
	    question.nlmsg_len > len - at)
		return 0;
	return at;
}

/* The address to which msg is the route that was asked for, or to which there is none. */
static bool route_is_to(const unsigned char *msg, const struct nlmsghdr *head, struct ip_addr *to)
{
	size_t at = 0, len = head->nlmsg_len, n;
	const unsigned char *address;
	struct rtmsg body;

	if (head->nlmsg_type == NLMSG_ERROR)
		at = unrouted_question(msg, len);
	if ((head->nlmsg_type != RTM_NEWROUTE && !at) || len - at < NLMSG_LENGTH(sizeof(body)))
		return false;
	memcpy(&body, msg + at + NLMSG_HDRLEN, sizeof(body));
	address = attribute(msg + at, len - at, sizeof(body), RTA_DST, &n);
	if (!address || n != (body.rtm_family == AF_INET ? 4u : 16u))
		return false;
	/* News of a route that was added or removed is not flagged so. */
	if (!at && (body.rtm_type != RTN_UNICAST || body.rtm_dst_len != 8 * n ||
		    (n == 4 && !(body.rtm_flags & RTM_F_CLONED))))
		return false;
	*to = ip_from_v4(0);
	memcpy(to->byte + sizeof(to->byte) - n, address, n);
	return n == 4 || !ip_is_v4(to);
}

/* The route to an address of the mesh; false: there is none. */
static bool make_route_answer(struct entry *e, const struct map *map, const struct ip_addr *to,
			      const struct nlmsghdr *like)
{
	bool is_v4 = ip_is_v4(to);
	struct map_own own;
	struct rtmsg body;
	uint32_t mirror;

	if (map_to_mirror(map, to, &mirror) == MAP_OUTSIDE || !map_own(map, !is_v4, &own))
		return false;
	make_route(e, to, is_v4 ? 32 : 128, &own, like);
	memcpy(&body, e->bytes + NLMSG_HDRLEN, sizeof(body));
	body.rtm_flags = RTM_F_CLONED;
	body.rtm_scope = RT_SCOPE_UNIVERSE;
	body.rtm_protocol = RTPROT_UNSPEC;
	memcpy(e->bytes + NLMSG_HDRLEN, &body, sizeof(body));
	end(e);
	return true;
}

/* The source that a route to elsewhere says, unless the program has chosen it. */
static void show_source(const struct map *map, unsigned char *msg, size_t len,
			const struct ip_addr *to)
{
	static const unsigned char any[16]; /* so the kernel says of IPv6 that nothing was chosen */
	const size_t head = sizeof(struct rtmsg);
	bool is_v4 = ip_is_v4(to);
	const unsigned char *source;
	struct ip_addr own;
	size_t n;

	source = attribute(msg, len, head, RTA_SRC, &n);
	if (source && (n > sizeof(any) || memcmp(source, any, n) != 0))
		return;
	source = attribute(msg, len, head, RTA_PREFSRC, &n);
	if (source && n == (is_v4 ? 4u : 16u) && primary_source(map, to, &own))
		memcpy(msg + (source - msg), own.byte + (is_v4 ? 12 : 0), n);
}

/* A datagram that is being changed. */
struct list {
	const struct map *map;
	char name[MAP_IFNAME_MAX];
	unsigned char *data;
	size_t len, room;
};

/* Puts e in at a place; false: no room. */
static bool insert(struct list *l, size_t at, const struct entry *e)
{
	if (e->len > l->room - l->len)
		return false;
	memmove(l->data + at + e->len, l->data + at, l->len - at);
	memcpy(l->data + at, e->bytes, e->len);
	l->len += e->len;
	return true;
}

/* Puts e in the stead of the message from at to next, if there is room; what comes next. */
static size_t replace(struct list *l, size_t at, size_t next, const struct entry *e)
{
	if (e->len > l->room - (l->len - (next - at)))
		return next;
	memmove(l->data + at, l->data + next, l->len - next);
	l->len -= next - at;
	insert(l, at, e);
	return at + e->len;
}

/* Our addresses of a family (AF_UNSPEC: all) at a place; the place behind them. */
static size_t insert_addresses(struct list *l, size_t at, int family, const struct nlmsghdr *like)
{
	struct map_own own;
	struct entry e;

	for (uint32_t i = 0; i < MAP_MAX_OWN && map_own_at(l->map, i, &own); i++) {
		if (family != AF_UNSPEC && (family == AF_INET) != ip_is_v4(&own.addr))
			continue;
		make_address(&e, &own, l->name, like);
		if (!insert(l, at, &e))
			break;
		at += e.len;
	}
	return at;
}

static bool insert_route(struct list *l, size_t *at, const struct ip_addr *to, unsigned prefix_len,
			 const struct map_own *own, const struct nlmsghdr *like)
{
	struct entry e;

	make_route(&e, to, prefix_len, own, like);
	if (!insert(l, *at, &e))
		return false;
	*at += e.len;
	return true;
}

/* Routes to all of a range, as few as say it; false: no room. */
static bool insert_range(struct list *l, size_t *at, const struct map_range *r,
			 const struct nlmsghdr *like)
{
	uint64_t next, end, size;
	struct ip_addr to;
	unsigned len;

	if (!ip_is_v4(&r->first))
		return insert_route(l, at, &r->first, 128, NULL, like);
	next = ip_v4(&r->first);
	for (end = (uint64_t)ip_v4(&r->last) + 1; next < end; next += size) {
		for (len = 32, size = 1; len > 0 && next % (2 * size) == 0; len--, size *= 2)
			if (next + 2 * size > end)
				break;
		to = ip_from_v4((uint32_t)next);
		if (!insert_route(l, at, &to, len, NULL, like))
			return false;
	}
	return true;
}

/* What leads into the mesh, of a family, at a place; the place behind it. */
static size_t insert_routes(struct list *l, size_t at, int family, const struct nlmsghdr *like)
{
	bool is_v4 = family == AF_INET, is_alone = false;
	struct map_range range;
	struct map_own own;

	for (uint32_t i = 0; i < MAP_MAX_OWN && map_own_at(l->map, i, &own); i++) {
		if (ip_is_v4(&own.addr) != is_v4)
			continue;
		is_alone |= own.prefix_len == (is_v4 ? 32 : 128);
		if (!insert_route(l, &at, &own.addr, own.prefix_len, &own, like))
			return at;
	}
	for (uint32_t i = 0; is_alone && map_range_at(l->map, i, &range); i++)
		if (ip_is_v4(&range.first) == is_v4 && range.mirror &&
		    !insert_range(l, &at, &range, like))
			break;
	return at;
}

/* The message at a place; what stands behind it, and behind what was put in, comes next. */
static size_t visit(struct list *l, size_t at, const struct nlmsghdr *head)
{
	size_t next = at + NLMSG_ALIGN(head->nlmsg_len), behind;
	struct nlmsghdr like = *head;
	struct ip_addr to;
	struct entry e;
	int32_t none = 0;
	int family;

	if (next > l->len)
		next = l->len;
	like.nlmsg_flags = NLM_F_MULTI;
	if (head->nlmsg_type == NLMSG_ERROR &&
	    is_refused_link(l->data + at, head->nlmsg_len, l->name)) {
		like.nlmsg_flags = 0;
		make_link(&e, l->map, l->name, &like, false);
		if (e.len > l->room - (l->len - (next - at)))
			make_link(&e, l->map, l->name, &like, true);
		return replace(l, at, next, &e);
	}
	if (!(head->nlmsg_flags & NLM_F_MULTI)) {
		like.nlmsg_flags = 0;
		if (!route_is_to(l->data + at, head, &to))
			return next;
		if (make_route_answer(&e, l->map, &to, &like))
			return replace(l, at, next, &e);
		if (head->nlmsg_type == RTM_NEWROUTE)
			show_source(l->map, l->data + at, head->nlmsg_len, &to);
		return next;
	}
	if (at == 0 && is_refused_list(l->data, head->nlmsg_len, head)) {
		behind = insert_addresses(l, 0, AF_UNSPEC, &like);
		if (behind)
			memcpy(l->data + behind + NLMSG_HDRLEN, &none, sizeof(none));
		return l->len;
	}
	if (head->nlmsg_type == RTM_NEWLINK && is_lo_link(l->data + at, head->nlmsg_len)) {
		make_link(&e, l->map, l->name, &like, false);
		if (e.len > l->room - l->len)
			make_link(&e, l->map, l->name, &like, true);
		return insert(l, next, &e) ? next + e.len : next;
	}
	/* With the flag only lo's were asked for. Routes may have it all the same. */
	if (head->nlmsg_type == RTM_NEWADDR && !(head->nlmsg_flags & NLM_F_DUMP_FILTERED) &&
	    is_lo_address(l->data + at, head->nlmsg_len, &family))
		return insert_addresses(l, next, family, &like);
	if (head->nlmsg_type == RTM_NEWROUTE && is_lo_route(l->data + at, head->nlmsg_len, &family))
		return insert_routes(l, next, family, &like);
	return next;
}

size_t netlink_told_len(size_t len, size_t room, int flags)
{
	const int asks = MSG_PEEK | MSG_TRUNC;

	/* The last word alone is no list. */
	if ((flags & asks) != asks || len <= NLMSG_LENGTH(sizeof(int)) || len + ADDED_MAX <= room)
		return len;
	return len + ADDED_MAX;
}

bool netlink_is_list(const void *data, size_t len)
{
	struct nlmsghdr head;

	if (len < sizeof(head))
		return false;
	memcpy(&head, data, sizeof(head));
	return head.nlmsg_len >= sizeof(head) && head.nlmsg_len <= len &&
	       (head.nlmsg_type == RTM_NEWLINK || head.nlmsg_type == RTM_NEWADDR ||
		head.nlmsg_type == RTM_NEWROUTE || head.nlmsg_type == NLMSG_ERROR ||
		head.nlmsg_type == NLMSG_DONE);
}

size_t netlink_show_mesh(const struct map *map, void *data, size_t len, size_t room)
{
	struct list l = { .map = map, .data = data, .len = len, .room = room };
	struct nlmsghdr head;

	if (len > room || !meshif_name(map, l.name))
		return len;
	for (size_t at = 0; at + sizeof(head) <= l.len;) {
		memcpy(&head, l.data + at, sizeof(head));
		if (head.nlmsg_len < sizeof(head) || head.nlmsg_len > l.len - at)
			break;
		at = visit(&l, at, &head);
	}
	return l.len;
}
