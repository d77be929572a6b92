/*
 * A ring takes addresses from memory it shares with the kernel, where the shim
 * cannot mirror them: a connect by io_uring would go to the real network. Programs
 * that can do without (Netty) ask a new ring first what it can do,
 * and take epoll where it cannot connect, as in the many containers that have no
 * io_uring at all. So what carries an address is left out of the answer. The ring
 * itself is the kernel's: what polls, reads and writes by it goes on, and who does
 * not ask is not held back from anything, since that would take other traffic, too.
 */
#include "preload/uring.h"

#include <stddef.h>

#include <linux/io_uring.h>

#include "preload/raw.h"
#include "preload/shim.h"

#define OP_BIND 56 /* since Linux 6.11 */

static const unsigned char names_addresses[] = { IORING_OP_SENDMSG, IORING_OP_RECVMSG,
						 IORING_OP_ACCEPT, IORING_OP_CONNECT, OP_BIND };

long uring_register(int fd, unsigned opcode, void *arg, unsigned arg_len)
{
	struct io_uring_probe *probe = arg;
	long result = raw_syscall(SYS_io_uring_register, fd, opcode, arg, arg_len);

	/* The upper bits tell what kind of number fd is. */
	if (result < 0 || (opcode & 0xffff) != IORING_REGISTER_PROBE || !shim_is_on())
		return result;
	for (size_t i = 0; i < sizeof(names_addresses); i++) {
		if (names_addresses[i] < probe->ops_len)
			probe->ops[names_addresses[i]].flags &=
				(unsigned short)~IO_URING_OP_SUPPORTED;
	}
	return result;
}
