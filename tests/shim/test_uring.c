/*
 * Programs that watch their sockets through io_uring (libuv does): the shim
 * sees nothing of it, so the socket itself must tell the truth. Those that would
 * also connect through it are told that they cannot.
 */
#include "tests/shim/harness.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/io_uring.h>

#define DELAY_MS 200

struct ring {
	int fd;
	struct io_uring_params p;
	char *sq, *cq;
	struct io_uring_sqe *sqes;
};

/* False: not here, as in most containers. */
static bool ring_open(struct ring *r)
{
	memset(r, 0, sizeof(*r));
	r->fd = (int)syscall(SYS_io_uring_setup, 4, &r->p);
	if (r->fd < 0)
		return false;
	r->sq = mmap(NULL, r->p.sq_off.array + r->p.sq_entries * sizeof(uint32_t),
		     PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe),
		     PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, r->p.sq_entries * sizeof(*r->sqes), PROT_READ | PROT_WRITE, MAP_SHARED,
		       r->fd, IORING_OFF_SQES);
	assert_true(r->sq != MAP_FAILED && r->cq != MAP_FAILED && r->sqes != MAP_FAILED);
	return true;
}

/* Submits one entry and waits for its result. */
static int ring_do(struct ring *r, const struct io_uring_sqe *entry, bool wait)
{
	_Atomic uint32_t *tail = (_Atomic uint32_t *)(r->sq + r->p.sq_off.tail);
	uint32_t mask = *(uint32_t *)(r->sq + r->p.sq_off.ring_mask), at = atomic_load(tail) & mask;

	r->sqes[at] = *entry;
	((uint32_t *)(r->sq + r->p.sq_off.array))[at] = at;
	atomic_fetch_add(tail, 1);
	return (int)syscall(SYS_io_uring_enter, r->fd, 1, wait, wait ? IORING_ENTER_GETEVENTS : 0,
			    NULL, 0);
}

static int ring_wait(struct ring *r)
{
	_Atomic uint32_t *head = (_Atomic uint32_t *)(r->cq + r->p.cq_off.head);
	_Atomic uint32_t *tail = (_Atomic uint32_t *)(r->cq + r->p.cq_off.tail);
	uint32_t mask = *(uint32_t *)(r->cq + r->p.cq_off.ring_mask);
	const struct io_uring_cqe *cqes = (struct io_uring_cqe *)(r->cq + r->p.cq_off.cqes);
	int result;

	while (atomic_load(head) == atomic_load(tail))
		syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	result = cqes[atomic_load(head) & mask].res;
	atomic_fetch_add(head, 1);
	return result;
}

static void ring_close(struct ring *r)
{
	munmap(r->sq, r->p.sq_off.array + r->p.sq_entries * sizeof(uint32_t));
	munmap(r->cq, r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe));
	munmap(r->sqes, r->p.sq_entries * sizeof(*r->sqes));
	close(r->fd);
}

static void test_a_poll_by_io_uring_waits_for_the_dial(void **state)
{
	struct harness_addr to = at(AF_INET, PEER_V4, PORT_ECHO + DELAY_MS);
	int fd = new_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
	struct io_uring_sqe poll = { .opcode = IORING_OP_POLL_ADD,
				     .fd = fd,
				     .poll32_events = POLLOUT };
	uint64_t begun = now_ms();
	struct ring ring;

	(void)state;
	if (!ring_open(&ring))
		skip();
	assert_int_equal(connect(fd, sa(&to), to.len), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(ring_do(&ring, &poll, false), 1);
	assert_int_equal(ring_wait(&ring), POLLOUT);
	assert_true(now_ms() - begun >= DELAY_MS - 5);
	assert_int_equal(so_error(fd), 0);
	assert_string_equal(peer_ip(fd), PEER_V4);
	ring_close(&ring);
	close(fd);
}

static void test_an_epoll_filled_by_io_uring_tells_of_a_refusal(void **state)
{
	struct harness_addr to = at(AF_INET, PEER_V4, PORT_FAIL_LATER + ECONNREFUSED);
	int fd = new_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK),
	    ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLOUT | EPOLLET };
	struct io_uring_sqe add = { .opcode = IORING_OP_EPOLL_CTL,
				    .fd = ep,
				    .off = (uint64_t)fd,
				    .len = EPOLL_CTL_ADD,
				    .addr = (uint64_t)(uintptr_t)&event };
	struct ring ring;
	int ready;

	(void)state;
	if (!ring_open(&ring))
		skip();
	assert_int_equal(connect(fd, sa(&to), to.len), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(ring_do(&ring, &add, true), 1);
	assert_int_equal(ring_wait(&ring), 0);
	do {
		ready = epoll_wait(ep, &event, 1, 3000);
	} while (ready < 0 &&
		 errno == EINTR); /* the ring of the test before is still being undone */
	assert_int_equal(ready, 1);
	assert_true(event.events & (EPOLLERR | EPOLLOUT)); /* OUT alone: see dial_verdict() */
	assert_int_equal(so_error(fd), ECONNREFUSED);
	ring_close(&ring);
	close(ep);
	close(fd);
}

static bool probe_says(const struct io_uring_probe *probe, unsigned op)
{
	return op < probe->ops_len && (probe->ops[op].flags & IO_URING_OP_SUPPORTED);
}

/*
 * Netty asks a ring what it can do, and takes epoll where it cannot connect.
 * The shim cannot lead a connect of a ring's, so they are to take epoll.
 */
static void test_who_asks_hears_that_a_ring_cannot_name_addresses(void **state)
{
	static const unsigned named[] = { IORING_OP_ACCEPT, IORING_OP_CONNECT, IORING_OP_SENDMSG,
					  IORING_OP_RECVMSG };
	static const unsigned others[] = { IORING_OP_POLL_ADD, IORING_OP_EPOLL_CTL, IORING_OP_READ,
					   IORING_OP_SEND, IORING_OP_RECV };
	_Alignas(struct io_uring_probe) char
		room[sizeof(struct io_uring_probe) + 256 * sizeof(struct io_uring_probe_op)];
	struct io_uring_probe *probe = (struct io_uring_probe *)room;
	const unsigned short lens[] = { 256, IORING_OP_CONNECT + 1, IORING_OP_SENDMSG, 0 };
	struct ring ring;

	(void)state;
	if (!ring_open(&ring))
		skip();
	for (size_t n = 0; n < sizeof(lens) / sizeof(*lens); n++) {
		memset(room, 0, sizeof(room));
		assert_int_equal(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_PROBE,
					 probe, lens[n]),
				 0);
		assert_true(probe->ops_len <= lens[n]);
		for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++)
			assert_false(probe_says(probe, named[i]));
		for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
			assert_int_equal(probe_says(probe, others[i]), others[i] < probe->ops_len);
	}
	/* Its failures are the kernel's. */
	errno = 0;
	assert_int_equal(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_PROBE, NULL, 8),
			 -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(syscall(SYS_io_uring_register, 1 << 20, IORING_REGISTER_PROBE, probe, 8),
			 -1);
	assert_int_equal(errno, EBADF);
	ring_close(&ring);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_asks_hears_that_a_ring_cannot_name_addresses),
		cmocka_unit_test(test_a_poll_by_io_uring_waits_for_the_dial),
		cmocka_unit_test(test_an_epoll_filled_by_io_uring_tells_of_a_refusal),
	};

	(void)argc;
	harness_enter(argv, HARNESS_DAEMON);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
