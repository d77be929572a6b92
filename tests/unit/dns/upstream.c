/* What answers the resolver under test, well or badly. */
#include "upstream.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/dns/message.h"
#include "shared/util.h"
#include "shared/wire.h"

size_t upstream_reply(const struct upstream *u, const uint8_t *query, size_t len, unsigned rcode,
		      bool truncated, uint8_t *out)
{
	struct dns_writer w = { out, 0, 512, false };
	struct dns_question q;

	if (!dns_message_question(query, len, &q))
		return 0;
	dns_put_header(&w, dns_message_id(query),
		       (uint16_t)(DNS_FLAG_QR | DNS_FLAG_RD | DNS_FLAG_RA |
				  (truncated ? DNS_FLAG_TC : 0) | rcode),
		       1, rcode == 0 && q.type == DNS_TYPE_A, 0);
	dns_put_question(&w, q.name, q.type, q.class);
	if (rcode == 0 && q.type == DNS_TYPE_A) {
		dns_put_question(&w, q.name, DNS_TYPE_A, DNS_CLASS_IN);
		dns_put_u32(&w, 30);
		dns_put_u16(&w, 4);
		dns_put_bytes(&w, u->address, 4);
	}
	return w.len;
}

static void serve_udp(struct upstream *u)
{
	uint8_t query[4096], out[4096];
	struct sockaddr_storage from;
	socklen_t from_len = sizeof(from);
	ssize_t n = recvfrom(u->udp, query, sizeof(query), 0, (struct sockaddr *)&from, &from_len);
	size_t len;

	u->asked++;
	if (strcmp(u->habit, "lossy") == 0 && u->asked <= 2)
		return;
	if (n > 0 && strcmp(u->habit, "choosy") == 0 && memmem(query, (size_t)n, "corp", 4))
		return;
	if (n < 0 || strcmp(u->habit, "silent") == 0 || strcmp(u->habit, "large") == 0)
		return;
	len = upstream_reply(u, query, (size_t)n,
			     strcmp(u->habit, "servfail") == 0  ? DNS_SERVFAIL
			     : strcmp(u->habit, "refused") == 0 ? DNS_REFUSED
								: DNS_NOERROR,
			     strcmp(u->habit, "truncates") == 0, out);
	if (strcmp(u->habit, "forger") == 0) {
		uint8_t forged[4096];

		/* Another id, another question, one in other letters, none, too short, a query. */
		memcpy(forged, out, len);
		forged[0] ^= 1;
		sendto(u->udp, forged, len, 0, (struct sockaddr *)&from, from_len);
		memcpy(forged, out, len);
		forged[DNS_HEADER_LEN + 1] = 'x';
		sendto(u->udp, forged, len, 0, (struct sockaddr *)&from, from_len);
		memcpy(forged, out, len);
		forged[DNS_HEADER_LEN + 1] ^= 0x20;
		sendto(u->udp, forged, len, 0, (struct sockaddr *)&from, from_len);
		memcpy(forged, out, DNS_HEADER_LEN);
		memset(forged + 4, 0, DNS_HEADER_LEN - 4);
		sendto(u->udp, forged, DNS_HEADER_LEN, 0, (struct sockaddr *)&from, from_len);
		forged[3] |= DNS_NXDOMAIN;
		sendto(u->udp, forged, DNS_HEADER_LEN, 0, (struct sockaddr *)&from, from_len);
		sendto(u->udp, out, 7, 0, (struct sockaddr *)&from, from_len);
		sendto(u->udp, query, (size_t)n, 0, (struct sockaddr *)&from, from_len);
		out[len - 1] = 99; /* the true one is told from them */
	}
	sendto(u->udp, out, len, 0, (struct sockaddr *)&from, from_len);
}

static void serve_tcp(struct upstream *u)
{
	static uint8_t out[2 + UINT16_MAX];
	uint8_t query[4098];
	int fd = accept(u->tcp, NULL, NULL);
	ssize_t n;
	size_t len;

	if (fd < 0)
		return;
	u->asked_tcp++;
	n = recv(fd, query, sizeof(query), 0);
	if (n > 2 && !u->is_dead) {
		len = upstream_reply(u, query + 2, (size_t)n - 2, DNS_NOERROR, false, out + 2);
		if (strcmp(u->habit, "large") == 0)
			len = UPSTREAM_LARGE;
		store_be16(out, (uint16_t)len);
		if (send(fd, out, 2 + len, MSG_NOSIGNAL) < 0)
			abort();
	}
	close(fd);
}

static void *run_upstream(void *arg)
{
	struct upstream *u = arg;
	struct pollfd ready[2] = { { u->udp, POLLIN, 0 }, { u->tcp, POLLIN, 0 } };

	while (!u->stop) {
		if (poll(ready, 2, 20) <= 0)
			continue;
		if (ready[0].revents)
			serve_udp(u);
		if (ready[1].revents)
			serve_tcp(u);
	}
	return NULL;
}

/* A UDP and a TCP socket on one port of which both were free. */
static void bind_both(struct upstream *u)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int err = -1;

	for (int i = 0; i < 20 && err != 0; i++) {
		u->udp = socket(AF_INET, SOCK_DGRAM, 0);
		u->tcp = socket(AF_INET, SOCK_STREAM, 0);
		len = endpoint_to_sockaddr(&u->at, AF_INET, &ss);
		assert_int_equal(bind(u->udp, (struct sockaddr *)&ss, len), 0);
		len = sizeof(ss);
		getsockname(u->udp, (struct sockaddr *)&ss, &len);
		err = bind(u->tcp, (struct sockaddr *)&ss, len);
		if (err != 0) {
			close(u->udp);
			close(u->tcp);
		}
	}
	assert_int_equal(err, 0);
	endpoint_from_sockaddr(&ss, len, &u->at);
}

void upstream_open(struct upstream *u, const char *habit)
{
	*u = (struct upstream){ .habit = habit,
				.address = "\xc0\x00\x02\x37",
				.at.addr = ip_from_v4(0x7f000001) };
	bind_both(u);
	listen(u->tcp, 8);
	pthread_create(&u->thread, NULL, run_upstream, u);
}

void upstream_close(struct upstream *u)
{
	u->stop = true;
	pthread_join(u->thread, NULL);
	close(u->udp);
	close(u->tcp);
}
