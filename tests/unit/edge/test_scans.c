/* A peer that sends datagrams to port after port of ours, where nobody listens. */
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shared/util.h"
#include "tests/unit/edge/fixture.h"

struct scan {
	const char *from, *to;
	uint16_t port;
	unsigned count;
};

/* In the loop, so that it is all at one moment: from so many ports of a to one of b. */
static void scan(void *arg)
{
	const struct scan *s = arg;
	struct endpoint local = mesh_endpoint(s->to, s->port), remote = mesh_endpoint(s->from, 0);

	for (unsigned i = 0; i < s->count; i++) {
		remote.port = (uint16_t)(20000 + i);
		edge_udp_received(b->edge, &local, &remote, (const uint8_t *)"x", 1);
	}
}

/* A program's socket on any address; with a time limit on receiving. */
static int open_server(uint16_t *port, uint32_t addr)
{
	struct endpoint at = sock_endpoint(addr, 0);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	program_limit(fd);
	assert_int_equal(sock_bind(fd, &at), 0);
	assert_int_equal(sock_local(fd, &at), 0);
	*port = at.port;
	return fd;
}

static void assert_receives(int fd, bool wanted)
{
	char c;

	assert_int_equal(recv(fd, &c, 1, wanted ? 0 : MSG_DONTWAIT), wanted ? 1 : -1);
}

static void test_a_scan_costs_little_and_is_in_nobodys_way(void **state)
{
	struct scan s = { A_ADDR, B_ADDR, 0, 1 };
	uint16_t known, new, closed;
	/* Where nothing of the mesh comes, and nobody else takes the port on all addresses. */
	int keeper = open_server(&closed, 0x7f000909);
	int first = open_server(&known, 0), second = open_server(&new, 0);

	(void)state;
	b->is_v6_another_peers = true;
	s.port = known;
	two_nodes_call(&t, scan, &s);
	assert_receives(first, true);
	s.port = closed;
	s.count = 1000;
	two_nodes_call(&t, scan, &s);
	assert_true(two_nodes_stats(b).udp_ignored >= 500);
	assert_true(two_nodes_stats(b).udp_ignored < 1000);
	assert_int_equal(two_nodes_stats(b).udp_endpoints, 1);
	/* Not in the way of what is known, nor of another peer, nor of its own for long. */
	s.count = 1;
	s.port = known;
	two_nodes_call(&t, scan, &s);
	assert_receives(first, true);
	s.port = new;
	s.from = A_ADDR6;
	s.to = B_ADDR6;
	two_nodes_call(&t, scan, &s);
	assert_receives(second, true);
	s.from = A_ADDR;
	s.to = B_ADDR;
	nanosleep(&(struct timespec){ 0, 200 * NS_PER_MS }, NULL);
	two_nodes_call(&t, scan, &s);
	assert_receives(second, true);
	close(first);
	close(second);
	close(keeper);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_scan_costs_little_and_is_in_nobodys_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
