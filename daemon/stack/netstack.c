/*
 * The network stack of one node: who a packet is for, and what it is.
 *
 * In: parse, check that it is for us and from somebody else, then hand it to
 * tcp/, to the owner (UDP), or answer it (ICMP, TSMP). Out: everything is written
 * straight into one batch (output.h), TCP's segments included. With a filter each
 * packet is judged as it came, before reassembly, and each datagram sent is told to it.
 *
 * There is no routing, no neighbour discovery and no port table here: the tunnel
 * is the only link, its other side is known by AllowedIPs, and which ports are
 * taken is the owner's knowledge. A UDP datagram nobody takes comes back through
 * netstack_refuse_udp().
 *
 * While output is blocked no deadline but reassembly's is reported, since TCP
 * could not act on its own; the flush that follows the unblocking catches up.
 */
#include "daemon/stack/netstack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/stack/filter.h"
#include "daemon/stack/icmp.h"
#include "daemon/stack/ip.h"
#include "daemon/stack/output.h"
#include "daemon/stack/reassembly.h"
#include "daemon/tcp/sum.h"
#include "shared/util.h"
#include "shared/wire.h"

#define UDP_HEADER 8u

struct netstack {
	struct netstack_callbacks callbacks;
	void (*tcp_incoming)(void *owner, struct tcp_conn *conn, const struct endpoint *local,
			     const struct endpoint *remote);
	void (*tcp_event)(void *owner, struct tcp_conn *conn, void *user, unsigned events);
	void (*tcp_cancelled)(void *owner, struct tcp_conn *conn);
	void *owner;
	struct tcp *tcp;
	struct reassembly *reassembly;
	struct filter *filter;
	const struct filter_source *source; /* of what is coming in */
	struct netstack_tsmp_callbacks tsmp;
	struct icmp_gate icmp_gate, reject_gate;
	struct netstack_stats stats;
	unsigned own_count;
	struct ip_addr own[NETSTACK_OWN_MAX];
	struct output output;
};

/* ---- tcp's callbacks: ours is its owner, so that it can write into our batch ---- */

static uint8_t *reserve_for_tcp(void *owner, size_t len)
{
	struct netstack *ns = owner;

	return output_reserve(&ns->output, len);
}

static void commit_for_tcp(void *owner, size_t len)
{
	struct netstack *ns = owner;

	output_commit(&ns->output, len);
}

static void pass_incoming(void *owner, struct tcp_conn *conn, const struct endpoint *local,
			  const struct endpoint *remote)
{
	struct netstack *ns = owner;

	ns->tcp_incoming(ns->owner, conn, local, remote);
}

static void pass_event(void *owner, struct tcp_conn *conn, void *user, unsigned events)
{
	struct netstack *ns = owner;

	ns->tcp_event(ns->owner, conn, user, events);
}

static void pass_cancelled(void *owner, struct tcp_conn *conn)
{
	struct netstack *ns = owner;

	ns->tcp_cancelled(ns->owner, conn);
}

static void send_batch(void *owner, struct packet_batch *batch)
{
	struct netstack *ns = owner;

	ns->callbacks.output(ns->owner, batch);
}

struct netstack *
netstack_create(const struct ip_addr *own, unsigned own_count, const struct tcp_config *tcp_config,
		const struct netstack_callbacks *callbacks,
		void (*tcp_incoming)(void *owner, struct tcp_conn *conn,
				     const struct endpoint *local, const struct endpoint *remote),
		void (*tcp_event)(void *owner, struct tcp_conn *conn, void *user, unsigned events),
		void (*tcp_cancelled)(void *owner, struct tcp_conn *conn), void *owner)
{
	const struct tcp_callbacks tcp_callbacks = { reserve_for_tcp, commit_for_tcp, pass_incoming,
						     pass_event, pass_cancelled };
	struct netstack *ns = own_count <= NETSTACK_OWN_MAX ? calloc(1, sizeof(*ns)) : NULL;

	if (!ns)
		return NULL;
	ns->callbacks = *callbacks;
	ns->tcp_incoming = tcp_incoming;
	ns->tcp_event = tcp_event;
	ns->tcp_cancelled = tcp_cancelled;
	ns->owner = owner;
	ns->own_count = own_count;
	memcpy(ns->own, own, own_count * sizeof(*own));
	ns->output.send = send_batch;
	ns->output.owner = ns;
	ns->output.batch.mtu = tcp_config->mtu;
	ns->output.next_id = load_le32(tcp_config->secret + 28);
	ns->reassembly = reassembly_create();
	ns->tcp = tcp_create(tcp_config, &tcp_callbacks, ns);
	if (!ns->reassembly || !ns->tcp) {
		netstack_destroy(ns);
		return NULL;
	}
	return ns;
}

void netstack_destroy(struct netstack *ns)
{
	if (!ns)
		return;
	tcp_destroy(ns->tcp);
	reassembly_destroy(ns->reassembly);
	free(ns);
}

struct tcp *netstack_tcp(struct netstack *ns)
{
	return ns->tcp;
}

void netstack_set_filter(struct netstack *ns, struct filter *filter)
{
	ns->filter = filter;
}

void netstack_set_own(struct netstack *ns, const struct ip_addr *own, unsigned own_count)
{
	ns->own_count = MIN(own_count, NETSTACK_OWN_MAX);
	if (ns->own_count)
		memcpy(ns->own, own, ns->own_count * sizeof(*own));
}

void netstack_set_tsmp(struct netstack *ns, const struct netstack_tsmp_callbacks *callbacks)
{
	ns->tsmp = *callbacks;
}

/* ---- in ---- */

static bool is_own(const struct netstack *ns, const struct ip_addr *ip)
{
	for (unsigned i = 0; i < ns->own_count; i++) {
		if (ip_equal(&ns->own[i], ip))
			return true;
	}
	return false;
}

static void input_udp(struct netstack *ns, const struct ip_packet *p)
{
	const uint8_t *udp = ip_payload(p);
	uint32_t len = p->payload_len >= UDP_HEADER ? load_be16(udp + 4) : 0;
	struct endpoint local = { .addr = p->dst }, remote = { .addr = p->src };
	bool has_sum;

	if (len < UDP_HEADER || len > p->payload_len)
		goto bad;
	has_sum = load_be16(udp + 6) != 0;
	if (!has_sum && p->is_v6)
		goto bad;
	if (has_sum && tcp_sum_fold(ip_pseudo_sum(&p->src, &p->dst, IP_PROTOCOL_UDP, len) +
				    tcp_sum(udp, len)) != 0xffff)
		goto bad;
	remote.port = load_be16(udp);
	local.port = load_be16(udp + 2);
	if (remote.port == 0 || local.port == 0)
		goto bad;
	ns->stats.udp_in++;
	ns->callbacks.udp_received(ns->owner, &local, &remote, udp + UDP_HEADER, len - UDP_HEADER);
	return;
bad:
	ns->stats.bad_packets++;
}

static void input_icmp_error(struct netstack *ns, const struct icmp_message *m, uint64_t now_ns)
{
	struct ip_packet q;
	struct endpoint local, remote;
	const uint8_t *ports;

	if (ip_packet_parse_quoted(m->data, m->data_len, &q) < 0 || !is_own(ns, &q.src))
		return;
	if (ns->callbacks.serves && !ns->callbacks.serves(ns->owner, ns->source, &q.dst)) {
		ns->stats.errors_disbelieved++;
		return;
	}
	if (q.is_v6 && q.protocol != IP_PROTOCOL_TCP && m->error == EMSGSIZE)
		path_mtus_learn(&ns->output.path_mtus, &q.dst, m->mtu, now_ns);
	if (q.is_fragment && q.fragment.offset > 0)
		return;
	if (q.protocol == IP_PROTOCOL_TCP) {
		tcp_icmp_error(ns->tcp, m->data, m->data_len, m->error, m->mtu, now_ns);
		return;
	}
	if (q.protocol != IP_PROTOCOL_UDP || q.payload_len < UDP_HEADER)
		return;
	ports = ip_payload(&q);
	local = (struct endpoint){ q.src, load_be16(ports) };
	remote = (struct endpoint){ q.dst, load_be16(ports + 2) };
	ns->callbacks.udp_failed(ns->owner, &local, &remote, m->error);
}

static void input_icmp(struct netstack *ns, const struct ip_packet *p, uint64_t now_ns)
{
	struct icmp_message m;

	if (icmp_parse(p, &m) < 0) {
		ns->stats.bad_packets++;
		return;
	}
	ns->stats.icmp_in++;
	switch (m.kind) {
	case ICMP_ECHO:
		if (icmp_send_echo(&ns->output, &p->dst, &p->src, true, &m) == 0)
			ns->stats.icmp_out++;
		break;
	case ICMP_ECHO_REPLY:
		if (ns->callbacks.pong)
			ns->callbacks.pong(ns->owner, &p->src, m.id, m.seq, m.data, m.data_len);
		break;
	case ICMP_ERROR:
		input_icmp_error(ns, &m, now_ns);
		break;
	case ICMP_OTHER:
		ns->stats.unsupported++;
		break;
	}
}

/* ---- TSMP ---- */

static int send_tsmp(struct netstack *ns, const struct ip_addr *src, const struct ip_addr *dst,
		     const struct tsmp_message *m)
{
	uint8_t bytes[TSMP_MAX];
	const struct output_payload payload = { bytes, 0, bytes, tsmp_write(m, bytes) };

	return output_datagram(&ns->output, src, dst, TSMP_PROTOCOL, &payload);
}

/* The flow is local -> remote; only one that is not open yet believes it. */
static void input_reject(struct netstack *ns, const struct ip_packet *p,
			 const struct tsmp_message *m, uint64_t now_ns)
{
	const struct endpoint local = { p->dst, m->src_port }, remote = { p->src, m->dst_port };

	ns->stats.rejects_in++;
	if (m->maybe_broken)
		return;
	if (m->protocol == IP_PROTOCOL_TCP)
		tcp_refused(ns->tcp, &local, &remote, ECONNREFUSED, now_ns);
	else if (m->protocol == IP_PROTOCOL_UDP)
		ns->callbacks.udp_failed(ns->owner, &local, &remote, ECONNREFUSED);
}

static void input_tsmp(struct netstack *ns, const struct ip_packet *p, uint64_t now_ns)
{
	static const uint8_t no_key[TSMP_KEY_LEN];
	struct tsmp_message m;

	if (tsmp_parse(ip_payload(p), p->payload_len, &m) < 0) {
		ns->stats.bad_packets++;
		return;
	}
	ns->stats.tsmp_in++;
	switch (m.kind) {
	case TSMP_PING:
		m.kind = TSMP_PONG;
		send_tsmp(ns, &p->dst, &p->src, &m);
		break;
	case TSMP_PONG:
		if (ns->tsmp.pong)
			ns->tsmp.pong(ns->owner, &p->src, m.data, m.peerapi_port);
		break;
	case TSMP_REJECT:
		input_reject(ns, p, &m, now_ns);
		break;
	case TSMP_DISCO_KEY:
		if (ns->tsmp.disco_key && memcmp(m.disco_key, no_key, sizeof(no_key)) != 0)
			ns->tsmp.disco_key(ns->owner, &p->src, m.disco_key);
		break;
	}
}

/* Tells the sender of an IPv4 TCP SYN that our rules refused it. */
static void send_reject(struct netstack *ns, const struct packet *packet, uint64_t now_ns)
{
	struct tsmp_message m = { .kind = TSMP_REJECT,
				  .protocol = IP_PROTOCOL_TCP,
				  .reason = TSMP_REASON_ACL };
	struct ip_packet p;

	if (ip_packet_parse(packet->data, packet->len, &p) < 0 || p.is_v6 ||
	    p.protocol != IP_PROTOCOL_TCP || p.payload_len < 20 || !is_own(ns, &p.dst) ||
	    !ip_is_valid_source(&p.src) || is_own(ns, &p.src))
		return;
	m.src_port = load_be16(ip_payload(&p));
	m.dst_port = load_be16(ip_payload(&p) + 2);
	if (icmp_gate_pass(&ns->reject_gate, now_ns) && send_tsmp(ns, &p.dst, &p.src, &m) == 0)
		ns->stats.rejects_out++;
}

static void send_error(struct netstack *ns, const struct ip_addr *src, const struct ip_addr *dst,
		       enum icmp_reason reason, uint32_t pointer,
		       const struct output_payload *quoted, uint64_t now_ns)
{
	if (icmp_gate_pass(&ns->icmp_gate, now_ns) &&
	    icmp_send_error(&ns->output, src, dst, reason, pointer, quoted) == 0)
		ns->stats.icmp_out++;
}

static void input_unsupported(struct netstack *ns, const struct ip_packet *p, uint64_t now_ns)
{
	const struct output_payload quoted = { p->header, 0, p->header,
					       p->header_len + p->payload_len };

	ns->stats.unsupported++;
	if (p->protocol != IP_PROTOCOL_NONE)
		send_error(ns, &p->dst, &p->src, ICMP_PROTOCOL_UNREACHABLE, p->protocol_at, &quoted,
			   now_ns);
}

/* tcp/ knows IPv6 without extension headers: they are cut out, in place. */
static void input_tcp(struct netstack *ns, const struct ip_packet *p, uint8_t *bytes,
		      uint64_t now_ns)
{
	if (p->is_v6 && p->header_len > IPV6_HEADER) {
		bytes += p->header_len - IPV6_HEADER;
		ip_header_write(bytes, &p->src, &p->dst, IP_PROTOCOL_TCP, p->payload_len, NULL);
		tcp_input(ns->tcp, bytes, IPV6_HEADER + p->payload_len, now_ns);
		return;
	}
	tcp_input(ns->tcp, bytes, p->header_len + p->payload_len, now_ns);
}

/* A packet that was parsed, is whole and for us; bytes is where it stands. */
static void input_whole(struct netstack *ns, const struct ip_packet *p, uint8_t *bytes,
			uint64_t now_ns)
{
	if (p->protocol == IP_PROTOCOL_TCP)
		input_tcp(ns, p, bytes, now_ns);
	else if (p->protocol == IP_PROTOCOL_UDP)
		input_udp(ns, p);
	else if (p->protocol == (p->is_v6 ? IP_PROTOCOL_ICMPV6 : IP_PROTOCOL_ICMP))
		input_icmp(ns, p, now_ns);
	else if (p->protocol == TSMP_PROTOCOL)
		input_tsmp(ns, p, now_ns);
	else
		input_unsupported(ns, p, now_ns);
}

static void input_fragment(struct netstack *ns, const struct ip_packet *fragment, uint64_t now_ns)
{
	struct ip_packet p;
	uint8_t *whole;
	size_t len;

	ns->stats.fragments_in++;
	if (reassembly_add(ns->reassembly, ns->source, fragment, now_ns, &whole, &len) < 0) {
		ns->stats.reassembly_failed++;
		return;
	}
	if (!whole)
		return;
	/* Addresses are those of the fragments, and checked; a fragment in it would be an attack.
	 */
	if (ip_packet_parse(whole, len, &p) < 0 || p.is_fragment) {
		ns->stats.bad_packets++;
		return;
	}
	ns->stats.reassembled++;
	input_whole(ns, &p, whole, now_ns);
}

static void input_packet(struct netstack *ns, struct packet *packet, uint64_t now_ns)
{
	struct ip_packet p;
	int err = ip_packet_parse(packet->data, packet->len, &p);

	if (err < 0) {
		if (err == -EPROTONOSUPPORT)
			ns->stats.unsupported++;
		else
			ns->stats.bad_packets++;
	} else if (!is_own(ns, &p.dst)) {
		ns->stats.not_for_us++;
	} else if (!ip_is_valid_source(&p.src) || is_own(ns, &p.src)) {
		ns->stats.bad_packets++;
	} else if (p.is_fragment) {
		input_fragment(ns, &p, now_ns);
	} else {
		input_whole(ns, &p, packet->data, now_ns);
	}
}

static bool passes_filter(struct netstack *ns, const struct filter_source *source,
			  const struct packet *packet, uint64_t now_ns)
{
	enum filter_verdict verdict =
		ns->filter ? filter_in(ns->filter, source, packet->data, packet->len)
			   : FILTER_ACCEPT;

	if (verdict == FILTER_ACCEPT)
		return true;
	ns->stats.filtered++;
	if (verdict == FILTER_DROP_RULES)
		send_reject(ns, packet, now_ns);
	return false;
}

void netstack_input(struct netstack *ns, const struct filter_source *source, struct packet *packets,
		    unsigned count, uint64_t now_ns)
{
	ns->stats.packets_in += count;
	ns->source = source;
	tcp_set_source(ns->tcp, source);
	if (ns->filter)
		filter_set_time(ns->filter, now_ns);
	for (unsigned i = 0; i < count; i++) {
		if (passes_filter(ns, source, &packets[i], now_ns))
			input_packet(ns, &packets[i], now_ns);
	}
}

/* ---- rounds ---- */

void netstack_flush(struct netstack *ns, uint64_t now_ns)
{
	ns->output.now_ns = now_ns;
	tcp_flush(ns->tcp, now_ns);
	output_flush(&ns->output);
}

uint64_t netstack_deadline(const struct netstack *ns)
{
	uint64_t deadline_ns = reassembly_deadline(ns->reassembly);

	return ns->output.is_blocked ? deadline_ns : MIN(deadline_ns, tcp_deadline(ns->tcp));
}

void netstack_expire(struct netstack *ns, uint64_t now_ns)
{
	ns->stats.reassembly_failed += reassembly_expire(ns->reassembly, now_ns);
	if (tcp_deadline(ns->tcp) <= now_ns)
		tcp_expire(ns->tcp, now_ns);
	output_flush(&ns->output);
}

void netstack_set_blocked(struct netstack *ns, bool blocked)
{
	ns->output.is_blocked = blocked;
}

/* ---- datagrams out ---- */

static void write_udp_header(uint8_t out[static UDP_HEADER], const struct endpoint *src,
			     const struct endpoint *dst, size_t data_len)
{
	store_be16(out, src->port);
	store_be16(out + 2, dst->port);
	store_be16(out + 4, (uint16_t)(UDP_HEADER + data_len));
	store_be16(out + 6, 0);
}

int netstack_send_udp(struct netstack *ns, const struct endpoint *local,
		      const struct endpoint *remote, const uint8_t *data, size_t len,
		      uint64_t now_ns)
{
	uint8_t head[UDP_HEADER];
	const struct output_payload payload = { head, sizeof(head), data, len };
	uint16_t checksum;
	uint64_t sum;
	int err;

	if (ip_is_v4(&local->addr) != ip_is_v4(&remote->addr))
		return -EAFNOSUPPORT;
	if (len > UINT16_MAX - UDP_HEADER)
		return -EMSGSIZE;
	write_udp_header(head, local, remote, len);
	sum = ip_pseudo_sum(&local->addr, &remote->addr, IP_PROTOCOL_UDP, sizeof(head) + len);
	checksum = (uint16_t)~tcp_sum_fold(sum + tcp_sum(head, sizeof(head)) + tcp_sum(data, len));
	if (checksum == 0)
		checksum = 0xffff; /* zero would say: none */
	memcpy(head + 6, &checksum, sizeof(checksum));
	err = output_datagram(&ns->output, &local->addr, &remote->addr, IP_PROTOCOL_UDP, &payload);
	if (err < 0)
		return err;
	ns->stats.udp_out++;
	if (ns->filter) {
		filter_set_time(ns->filter, now_ns);
		filter_flow_out(ns->filter, IP_PROTOCOL_UDP, local, remote);
	}
	return 0;
}

void netstack_refuse_udp(struct netstack *ns, const struct endpoint *local,
			 const struct endpoint *remote, const uint8_t *data, size_t len,
			 uint64_t now_ns)
{
	uint8_t head[IP_HEADER_MAX + UDP_HEADER];
	struct output_payload quoted = { head, 0, data, len };

	if (ip_is_v4(&local->addr) != ip_is_v4(&remote->addr) || len > UINT16_MAX - UDP_HEADER)
		return;
	/* The header as it came, as far as anybody looks at it again: addresses and ports. */
	quoted.head_len = ip_header_write(head, &remote->addr, &local->addr, IP_PROTOCOL_UDP,
					  UDP_HEADER + len, NULL);
	write_udp_header(head + quoted.head_len, remote, local, len);
	quoted.head_len += UDP_HEADER;
	send_error(ns, &local->addr, &remote->addr, ICMP_PORT_UNREACHABLE, 0, &quoted, now_ns);
}

int netstack_ping(struct netstack *ns, const struct ip_addr *local, const struct ip_addr *remote,
		  uint16_t id, uint16_t seq, const uint8_t *data, size_t len)
{
	const struct icmp_message echo = {
		.id = id, .seq = seq, .data = data, .data_len = (uint32_t)len
	};
	int err = len > IP_PACKET_MAX ? -EMSGSIZE
				      : icmp_send_echo(&ns->output, local, remote, false, &echo);

	if (err == 0)
		ns->stats.icmp_out++;
	return err;
}

int netstack_tsmp_ping(struct netstack *ns, const struct ip_addr *local,
		       const struct ip_addr *remote, const uint8_t data[static TSMP_PING_DATA])
{
	struct tsmp_message ping = { .kind = TSMP_PING };

	memcpy(ping.data, data, sizeof(ping.data));
	return send_tsmp(ns, local, remote, &ping);
}

void netstack_trim(struct netstack *ns)
{
	tcp_trim(ns->tcp);
}

void netstack_get_stats(const struct netstack *ns, struct netstack_stats *stats)
{
	*stats = ns->stats;
	stats->packets_out = ns->output.packets;
	stats->reassembly_failed += reassembly_evicted(ns->reassembly);
}
