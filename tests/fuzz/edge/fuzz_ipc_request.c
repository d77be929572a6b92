/* The control protocol's parsers: what passes keeps the promises of shared/ipc.h. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shared/ipc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_request(const uint8_t *data, size_t size)
{
	struct ipc_request r;

	if (ipc_check_request(data, size, &r) != 0)
		return;
	assert(size == sizeof(r) && memcmp(data, &r, size) == 0);
	assert(r.magic == IPC_MAGIC && r.version == IPC_VERSION);
	if (r.type == IPC_CONNECT)
		assert(ip_is_loopback(&r.local) && r.local_port != 0 && r.remote_port != 0);
	if (r.flags)
		assert((r.type == IPC_UDP_OPEN && r.flags == IPC_UDP_V6ONLY) ||
		       (r.type == IPC_CONNECT && r.flags == IPC_CONNECT_FIRST));
}

static void check_reply(const uint8_t *data, size_t size, enum ipc_type type)
{
	struct ipc_reply r;

	if (ipc_check_reply(data, size, type, &r) != 0)
		return;
	assert(size == sizeof(r) && r.type == type && r.error >= 0);
	if (r.error == 0 && type != IPC_READY)
		assert(ip_is_loopback(&r.mirror) && r.mirror_port != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_request(data, size);
	check_reply(data, size, IPC_CONNECT);
	check_reply(data, size, IPC_UDP_OPEN);
	check_reply(data, size, IPC_READY);
	return 0;
}
