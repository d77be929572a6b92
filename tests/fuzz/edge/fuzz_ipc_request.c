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

static void check_patience(const uint8_t *data, size_t size)
{
	struct ipc_patience p;

	if (ipc_check_patience(data, size, &p) != 0)
		return;
	assert(size == sizeof(p) && memcmp(data, &p, size) == 0);
	assert(p.request.magic == IPC_MAGIC && p.request.version == IPC_VERSION);
	assert(ip_is_loopback(&p.request.local) && p.request.local_port && p.request.remote_port);
	assert(p.request.type == IPC_CONNECT
		       ? !(p.request.flags & ~IPC_CONNECT_FIRST)
		       : p.request.type == IPC_PATIENCE && !(p.request.flags & ~IPC_ACCEPTED));
	assert((p.idle_s == 0) == (p.interval_s == 0) && (p.idle_s == 0) == (p.count == 0));
	assert(p.idle_s <= 32767 && p.interval_s <= 32767 && p.count <= 127);
	assert(p.user_timeout_ms <= INT32_MAX);
}

static void check_post(const uint8_t *data, size_t size)
{
	struct ipc_post p;

	if (ipc_check_post(data, size, &p) != 0)
		return;
	assert(size == sizeof(p) && memcmp(data, &p, size) == 0);
	check_patience(data, sizeof(p.dial));
	assert(p.dial.request.type == IPC_CONNECT && p.dial.request.flags == 0);
	assert(ip_is_v4(&p.dial.request.local) && p.mirror >> 24 == 127);
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
	check_patience(data, size);
	check_post(data, size);
	check_reply(data, size, IPC_CONNECT);
	check_reply(data, size, IPC_UDP_OPEN);
	check_reply(data, size, IPC_READY);
	return 0;
}
