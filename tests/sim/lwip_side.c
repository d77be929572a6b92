/*
 * lwIP by its raw API, single-threaded: initialised directly, its timers called
 * by hand, and its clock ours: sys_now() below takes the place of its port's.
 */
#include "lwip_side.h"

#include <stdio.h>
#include <string.h>

#include <lwip/inet.h>
#include <lwip/init.h>
#include <lwip/ip.h>
#include <lwip/netif.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/sys.h>
#include <lwip/tcp.h>
#include <lwip/timeouts.h>

#include "shared/util.h"

#define MTU 1280

static struct {
	void (*output)(void *owner, const uint8_t *packet, size_t len);
	void *owner;
	uint64_t now_ns;
	struct netif netif;
	const struct test_case *test;
	struct tcp_pcb *pcb, *listener;
	uint64_t sent, received, close_ns;
	uint64_t resume_ns;      /* the window stays shut before */
	size_t withheld;         /* bytes that the window was not opened for */
	bool is_open;            /* the handshake is through */
	bool has_ended, is_shut; /* the peer's direction, ours */
	bool is_over;
	const char *wrong;
} side;

u32_t sys_now(void)
{
	return (u32_t)(side.now_ns / NS_PER_MS);
}

static void over(const char *wrong)
{
	if (wrong && !side.wrong)
		side.wrong = wrong;
	side.pcb = NULL;
	side.is_over = true;
}

static void let_go(struct tcp_pcb *pcb)
{
	tcp_arg(pcb, NULL);
	tcp_recv(pcb, NULL);
	tcp_sent(pcb, NULL);
	tcp_poll(pcb, NULL, 0);
	tcp_err(pcb, NULL);
	over(NULL);
}

static bool may_shut(void)
{
	if (!side.is_open || side.sent < side.test->up)
		return false;
	switch (side.test->order) {
	case WE_CLOSE:
		return side.has_ended;
	case BOTH_CLOSE:
		return side.now_ns >= side.close_ns;
	case PEER_CLOSES:
		break;
	}
	return true;
}

static void send_more(void)
{
	uint8_t bytes[4096];
	size_t n;

	while (side.is_open && side.sent < side.test->up && tcp_sndbuf(side.pcb) > 0) {
		n = MIN(MIN(tcp_sndbuf(side.pcb), sizeof(bytes)), side.test->up - side.sent);
		content_fill(bytes, n, side.sent, true);
		/* Its queue may be full of segments: tcp_sent will tell. */
		if (tcp_write(side.pcb, bytes, (u16_t)n, TCP_WRITE_FLAG_COPY) != ERR_OK)
			break;
		side.sent += n;
	}
}

static void go_on(void)
{
	struct tcp_pcb *pcb = side.pcb;

	if (!pcb)
		return;
	if (side.withheld > 0 && side.now_ns >= side.resume_ns) {
		for (; side.withheld > 0; side.withheld -= MIN(side.withheld, 0xffff))
			tcp_recved(pcb, (u16_t)MIN(side.withheld, 0xffff));
	}
	send_more();
	if (!side.is_shut && may_shut() && tcp_shutdown(pcb, 0, 1) == ERR_OK)
		side.is_shut = true;
	tcp_output(pcb);
	if (side.has_ended && side.is_shut) {
		if (side.received != side.test->down)
			side.wrong = "lwIP: the stream ended early";
		let_go(pcb);
		if (tcp_close(pcb) != ERR_OK)
			side.wrong = "lwIP: tcp_close";
	}
}

static err_t received(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
	uint64_t from = side.received;

	(void)arg;
	if (err != ERR_OK)
		side.wrong = "lwIP: recv";
	if (!p) {
		side.has_ended = true;
		go_on();
		return ERR_OK;
	}
	if (side.test->special == PEER_RESETS) {
		pbuf_free(p);
		let_go(pcb);
		tcp_abort(pcb);
		return ERR_ABRT;
	}
	for (const struct pbuf *q = p; q; q = q->next) {
		if (!content_is_right(q->payload, q->len, side.received, false))
			side.wrong = "lwIP: a wrong byte";
		side.received += q->len;
	}
	pbuf_free(p);
	side.withheld += side.received - from;
	go_on();
	return ERR_OK;
}

static err_t sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
	(void)arg;
	(void)pcb;
	(void)len;
	go_on();
	return ERR_OK;
}

static err_t polled(void *arg, struct tcp_pcb *pcb)
{
	return sent(arg, pcb, 0);
}

/* The connection is gone already. */
static void failed(void *arg, err_t err)
{
	bool is_right = err == ERR_RST && (side.test->special == WE_RESET ||
					   (side.test->special == REFUSED && !side.is_open));

	(void)arg;
	over(is_right ? NULL : "lwIP: the connection failed");
}

static void opened(struct tcp_pcb *pcb)
{
	side.pcb = pcb;
	side.is_open = true;
	if (side.test->special == PEER_READS_LATE)
		side.resume_ns = side.now_ns + 2 * NS_PER_S;
	tcp_nagle_disable(pcb);
	tcp_recv(pcb, received);
	tcp_sent(pcb, sent);
	tcp_poll(pcb, polled, 1);
	tcp_err(pcb, failed);
	go_on();
}

static err_t accepted(void *arg, struct tcp_pcb *pcb, err_t err)
{
	(void)arg;
	if (err != ERR_OK || !pcb || side.is_open) {
		side.wrong = "lwIP: accept";
		return ERR_VAL;
	}
	opened(pcb);
	return ERR_OK;
}

static err_t connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
	(void)arg;
	(void)err; /* always ERR_OK */
	if (side.test->special == REFUSED)
		side.wrong = "lwIP: connected though refused";
	opened(pcb);
	return ERR_OK;
}

/* MLD, neighbour and router discovery go nowhere. */
static err_t send_packet(struct pbuf *p)
{
	uint8_t packet[MTU];
	u16_t len = pbuf_copy_partial(p, packet, sizeof(packet), 0);

	if (p->tot_len > MTU)
		side.wrong = "lwIP: a packet beyond the MTU";
	else if (len > 40 - 1 && (packet[0] >> 4 == 4 ? packet[9] : packet[6]) == IP_PROTO_TCP)
		side.output(side.owner, packet, len);
	return ERR_OK;
}

static err_t output_v4(struct netif *netif, struct pbuf *p, const ip4_addr_t *to)
{
	(void)netif;
	(void)to;
	return send_packet(p);
}

static err_t output_v6(struct netif *netif, struct pbuf *p, const ip6_addr_t *to)
{
	(void)netif;
	(void)to;
	return send_packet(p);
}

static err_t netif_init_link(struct netif *netif)
{
	memcpy(netif->name, "mw", 2);
	netif->mtu = MTU;
	netif->output = output_v4;
	netif->output_ip6 = output_v6;
	return ERR_OK;
}

static void start(void (*output)(void *owner, const uint8_t *packet, size_t len), void *owner,
		  uint64_t now_ns)
{
	ip4_addr_t v4, mask;
	ip6_addr_t v6;

	side.output = output;
	side.owner = owner;
	side.now_ns = now_ns;
	lwip_init();
	ip4addr_aton(LWIP_V4, &v4);
	IP4_ADDR(&mask, 255, 255, 255, 0);
	ip6addr_aton(LWIP_V6, &v6);
	netif_add(&side.netif, &v4, &mask, IP4_ADDR_ANY4, NULL, netif_init_link, ip_input);
	netif_ip6_addr_set(&side.netif, 0, &v6);
	netif_ip6_addr_set_state(&side.netif, 0, IP6_ADDR_PREFERRED);
	netif_set_default(&side.netif);
	netif_set_link_up(&side.netif);
	netif_set_up(&side.netif);
}

static void listen_or_dial(bool is_v6, uint16_t port)
{
	struct tcp_pcb *pcb = tcp_new_ip_type(is_v6 ? IPADDR_TYPE_V6 : IPADDR_TYPE_V4);
	ip_addr_t to;

	ipaddr_aton(is_v6 ? OURS_V6 : OURS_V4, &to);
	if (!pcb || tcp_bind(pcb, is_v6 ? IP6_ADDR_ANY : IP4_ADDR_ANY, port) != ERR_OK) {
		over("lwIP: bind");
	} else if (side.test->dials == WE_DIAL) {
		side.listener = tcp_listen(pcb);
		tcp_accept(side.listener, accepted);
	} else {
		side.pcb = pcb;
		tcp_err(pcb, failed);
		if (tcp_connect(pcb, &to, port, connected) != ERR_OK)
			over("lwIP: connect");
	}
}

static void play(const struct test_case *t, bool is_v6, uint16_t port, uint64_t close_ns)
{
	side.test = t;
	side.pcb = NULL;
	side.sent = side.received = side.resume_ns = side.withheld = 0;
	side.close_ns = close_ns;
	side.is_open = side.has_ended = side.is_shut = side.is_over = false;
	side.wrong = NULL;
	if (side.listener)
		tcp_close(side.listener);
	side.listener = NULL;
	if (t->special == REFUSED && t->dials == WE_DIAL)
		side.is_over = true; /* there is nobody */
	else
		listen_or_dial(is_v6, port);
}

static void input(const uint8_t *packet, size_t len)
{
	struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)len, PBUF_RAM);

	if (!p || pbuf_take(p, packet, (u16_t)len) != ERR_OK ||
	    side.netif.input(p, &side.netif) != ERR_OK)
		side.wrong = "lwIP: input";
}

static void run(uint64_t now_ns)
{
	side.now_ns = now_ns;
	sys_check_timeouts();
	go_on();
}

static uint64_t next_ns(void)
{
	uint64_t next = NEVER_NS;
	u32_t sleep_ms = sys_timeouts_sleeptime();

	if (sleep_ms != SYS_TIMEOUTS_SLEEPTIME_INFINITE)
		next = (side.now_ns / NS_PER_MS + sleep_ms) * NS_PER_MS;
	if (side.pcb && side.withheld > 0)
		next = MIN(next, side.resume_ns);
	if (side.pcb && !side.is_shut && side.test->order == BOTH_CLOSE &&
	    side.close_ns > side.now_ns)
		next = MIN(next, side.close_ns);
	return next;
}

static bool is_over(void)
{
	return side.is_over && !tcp_active_pcbs;
}

static const char *wrong(void)
{
	return side.wrong;
}

static uint64_t received_bytes(void)
{
	return side.received;
}

const struct lwip_side lwip_side = { start,   play,    input, run,
				     next_ns, is_over, wrong, received_bytes };
