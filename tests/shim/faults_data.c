/* The sweep's other half: calls that send and receive. */
#include "tests/shim/faults.h"

#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static int waiting(int fd)
{
	int n = -1;

	assert_int_equal(ioctl(fd, FIONREAD, &n), 0);
	return n;
}

/* Data that waits to be read: more than any header that somebody may look for. */
static void put_data(const int pair[2], int type)
{
	static const char data[200];
	int before = type == SOCK_STREAM ? waiting(pair[1]) : 0;

	assert_int_equal(send(pair[0], data, sizeof(data), 0), sizeof(data));
	while (waiting(pair[1]) < before + (int)sizeof(data))
		usleep(1000);
}

static void sweep_sends(int type)
{
	static const size_t sizes[] = { 0, 1, 16, 70000, INT_MAX, SIZE_MAX };
	int pair[2], other = bound(SOCK_DGRAM), fd = new_socket(AF_INET, SOCK_DGRAM);
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);

	open_pair(type, pair);
	assert_int_equal(getsockname(other, (struct sockaddr *)&addr, &len), 0);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
			TRY(send(pair[0], wrong[i], sizes[k], MSG_DONTWAIT | MSG_NOSIGNAL),
			    "send %d %zu of wrong %zu", type, sizes[k], i);
			TRY(sendto(fd, wrong[i], sizes[k], 0, (struct sockaddr *)&addr, len),
			    "sendto %zu of wrong %zu", sizes[k], i);
		}
		for (size_t k = 0; k < ARRAY_LEN(lengths); k++)
			if (wrong[i]) {
				TRY(sendto(fd, "x", 1, 0, wrong[i], (socklen_t)lengths[k]),
				    "sendto at wrong %zu, %d", i, lengths[k]);
				TRY(sendto(pair[0], "x", 1, MSG_NOSIGNAL, wrong[i],
					   (socklen_t)lengths[k]),
				    "sendto %d connected, at wrong %zu, %d", type, i, lengths[k]);
			}
	}
	for (int n = 0; n <= 16; n++)
		TRY(sendto(fd, at_edge("x", 1), 1, 0, memcpy(edge - 1 - n, &addr, (size_t)n),
			   (socklen_t)n),
		    "sendto first %d", n);
	close_pair(pair);
	close(other);
	close(fd);
}

static struct msghdr message(void *name, void *iov, size_t count, void *control)
{
	return (struct msghdr){ .msg_name = name,
				.msg_namelen = name ? 16 : 0,
				.msg_iov = iov,
				.msg_iovlen = count,
				.msg_control = control,
				.msg_controllen = control ? 64 : 0 };
}

static void sweep_sent_messages(void)
{
	int other = bound(SOCK_DGRAM), fd = new_socket(AF_INET, SOCK_DGRAM);
	static const size_t controls[] = { 1, 15, 64, 300, INT_MAX, (size_t)INT_MAX + 1, SIZE_MAX };
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	struct iovec data = { (void *)"x", 1 };
	struct msghdr msg;
	struct mmsghdr many[2];

	assert_int_equal(getsockname(other, (struct sockaddr *)&addr, &len), 0);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct iovec lost = { wrong[i], 16 };

		TRY(sendmsg(fd, wrong[i], 0), "sendmsg wrong %zu", i);
		TRY(sendmmsg(fd, wrong[i], 1, 0), "sendmmsg wrong %zu", i);
		TRY(sendmmsg(fd, wrong[i], UINT_MAX, 0), "sendmmsg many wrong %zu", i);
		TRY(sendmmsg(fd, wrong[i], 0, 0), "sendmmsg none of wrong %zu", i);
		msg = message(&addr, wrong[i], 1, NULL);
		TRY(sendmsg(fd, &msg, 0), "sendmsg list wrong %zu", i);
		msg = message(&addr, &lost, 1, NULL);
		TRY(sendmsg(fd, &msg, 0), "sendmsg data wrong %zu", i);
		many[0].msg_hdr = message(&addr, &data, 1, NULL);
		many[1].msg_hdr = message(&addr, &lost, 1, NULL);
		TRY(sendmmsg(fd, many, 2, 0), "sendmmsg data wrong %zu", i);
		for (size_t k = 0; k < ARRAY_LEN(lengths); k++) {
			msg = message(wrong[i], &data, 1, NULL);
			msg.msg_namelen = (socklen_t)lengths[k];
			TRY(sendmsg(fd, &msg, 0), "sendmsg name wrong %zu, %d", i, lengths[k]);
		}
		for (size_t k = 0; k < ARRAY_LEN(controls); k++) {
			msg = message(&addr, &data, 1, wrong[i]);
			msg.msg_controllen = controls[k];
			TRY(sendmsg(fd, &msg, 0), "sendmsg control wrong %zu, %zu", i, controls[k]);
		}
	}
	msg = message(&addr, &data, SIZE_MAX, NULL);
	TRY(sendmsg(fd, &msg, 0), "sendmsg of too many parts");
	msg = message(&addr, &data, 1025, NULL);
	TRY(sendmsg(fd, &msg, 0), "sendmsg of one part too many");
	data.iov_len = SIZE_MAX;
	msg = message(&addr, &data, 1, NULL);
	TRY(sendmsg(fd, &msg, 0), "sendmsg of too much");
	data.iov_len = 1;
	for (size_t k = 0; k < ARRAY_LEN(lengths); k++) {
		if (lengths[k] >= 0 && lengths[k] < 16)
			continue; /* a name that is too short: see sendto */
		msg = message(&addr, &data, 1, NULL);
		msg.msg_namelen = (socklen_t)lengths[k];
		TRY(sendmsg(fd, &msg, 0), "sendmsg to a name of %d", lengths[k]);
	}
	close(other);
	close(fd);
}

/* What is thrown away (MSG_TRUNC) is written nowhere, and needs no memory. */
static void sweep_receives(int type)
{
	static const int flags[] = { 0, MSG_PEEK, MSG_TRUNC, MSG_PEEK | MSG_TRUNC };
	static const size_t sizes[] = { 0, 1, 16, 4096, INT_MAX, SIZE_MAX };
	struct sockaddr_storage name;
	char room[300];
	int pair[2];

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		for (size_t f = 0; f < ARRAY_LEN(flags); f++)
			for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
				open_pair(type, pair);
				put_data(pair, type);
				TRY(recv(pair[1], wrong[i], sizes[k], flags[f] | MSG_DONTWAIT),
				    "recv %d %zu into wrong %zu, flags %x", type, sizes[k], i,
				    flags[f]);
				put_data(pair, type);
				TRY(recvfrom(pair[1], wrong[i], sizes[k], flags[f] | MSG_DONTWAIT,
					     (struct sockaddr *)&name, length(128)),
				    "recvfrom %d %zu into wrong %zu, flags %x", type, sizes[k], i,
				    flags[f]);
				close_pair(pair);
			}
	open_pair(type, pair);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		put_data(pair, type);
		TRY(recvfrom(pair[1], room, 20, MSG_DONTWAIT, wrong[i], length(16)),
		    "recvfrom %d name wrong %zu", type, i);
		put_data(pair, type);
		TRY(recvfrom(pair[1], room, 20, MSG_DONTWAIT, wrong[i], length(128)),
		    "recvfrom %d long name wrong %zu", type, i);
		put_data(pair, type);
		TRY(recvfrom(pair[1], room, 20, MSG_DONTWAIT, (struct sockaddr *)&name, wrong[i]),
		    "recvfrom %d length wrong %zu", type, i);
	}
	for (size_t k = 0; k < ARRAY_LEN(lengths); k++) {
		socklen_t *len = length(lengths[k]);

		put_data(pair, type);
		TRY(recvfrom(pair[1], edge - 20, 20, MSG_DONTWAIT,
			     lengths[k] < 0 || lengths[k] > 128 ? (void *)&name
								: edge - 20 - lengths[k],
			     len),
		    "recvfrom %d name of %d", type, lengths[k]);
		say("\tlength %d\n", (int)*len);
	}
	close_pair(pair);
}

static void sweep_received_messages(int type)
{
	struct sockaddr_storage name;
	char room[64], control[64];
	struct iovec data = { room, sizeof(room) };
	struct timespec *none = NULL;
	struct mmsghdr many[2];
	struct msghdr msg;
	int pair[2];

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct iovec lost = { wrong[i], 4096 };

		open_pair(type, pair);
		for (int k = 0; k < 10; k++)
			put_data(pair, type);
		TRY(recvmsg(pair[1], wrong[i], MSG_DONTWAIT), "recvmsg %d wrong %zu", type, i);
		TRY(recvmmsg(pair[1], wrong[i], 1, MSG_DONTWAIT, none), "recvmmsg %d wrong %zu",
		    type, i);
		TRY(recvmmsg(pair[1], wrong[i], UINT_MAX, MSG_DONTWAIT, none),
		    "recvmmsg %d many wrong %zu", type, i);
		TRY(recvmmsg(pair[1], wrong[i], 0, MSG_DONTWAIT, none),
		    "recvmmsg %d none of wrong %zu", type, i);
		msg = message(&name, wrong[i], 1, control);
		TRY(recvmsg(pair[1], &msg, MSG_DONTWAIT), "recvmsg %d list wrong %zu", type, i);
		msg = message(&name, &lost, 1, control);
		TRY(recvmsg(pair[1], &msg, MSG_DONTWAIT | MSG_TRUNC), "recvmsg %d data wrong %zu",
		    type, i);
		msg = message(wrong[i], &data, 1, control);
		TRY(recvmsg(pair[1], &msg, MSG_DONTWAIT), "recvmsg %d name wrong %zu", type, i);
		msg.msg_namelen = 128;
		TRY(recvmsg(pair[1], &msg, MSG_DONTWAIT), "recvmsg %d long name wrong %zu", type,
		    i);
		msg = message(&name, &data, 1, wrong[i]);
		TRY(recvmsg(pair[1], &msg, MSG_DONTWAIT), "recvmsg %d control wrong %zu", type, i);
		msg = message(&name, &data, 0, NULL);
		TRY(recvmsg(pair[1], &msg, MSG_DONTWAIT), "recvmsg %d into nothing", type);
		many[0].msg_hdr = message(&name, &data, 1, NULL);
		many[1].msg_hdr = message(wrong[i], &data, 1, NULL);
		TRY(recvmmsg(pair[1], many, 2, MSG_DONTWAIT, none), "recvmmsg %d name wrong %zu",
		    type, i);
		TRY(recvmmsg(pair[1], many, 1, MSG_DONTWAIT, i ? wrong[i] : NULL),
		    "recvmmsg %d time wrong %zu", type, i);
		close_pair(pair);
	}
	open_pair(type, pair);
	for (size_t k = 0; k < ARRAY_LEN(lengths); k++) {
		bool fits = lengths[k] >= 0 && lengths[k] <= 128;

		put_data(pair, type);
		msg = message(fits ? (void *)(edge - lengths[k]) : (void *)&name, &data, 1, NULL);
		msg.msg_namelen = (socklen_t)lengths[k];
		TRY(recvmsg(pair[1], &msg, MSG_DONTWAIT), "recvmsg %d name of %d", type,
		    lengths[k]);
		say("\tlength %d\n", (int)msg.msg_namelen);
	}
	put_data(pair, type);
	msg = message(NULL, &data, SIZE_MAX, NULL);
	TRY(recvmsg(pair[1], &msg, MSG_DONTWAIT), "recvmsg %d into too many parts", type);
	close_pair(pair);
}

void faults_sweep_data(void)
{
	sweep_sends(SOCK_STREAM);
	sweep_sends(SOCK_DGRAM);
	sweep_sent_messages();
	sweep_receives(SOCK_STREAM);
	sweep_receives(SOCK_DGRAM);
	sweep_received_messages(SOCK_STREAM);
	sweep_received_messages(SOCK_DGRAM);
}
