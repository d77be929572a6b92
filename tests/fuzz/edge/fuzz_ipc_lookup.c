/* Looking a name up through the daemon: what passes keeps the promises of shared/ipc.h. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "shared/ipc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_lookup(const uint8_t *data, size_t size)
{
	struct ipc_lookup l, again;
	size_t len;

	if (ipc_check_lookup(data, size, &l) != 0)
		return;
	assert(size == sizeof(l) && memcmp(data, &l, size) == 0);
	assert(l.magic == IPC_MAGIC && l.version == IPC_VERSION && l.type == IPC_LOOKUP);
	assert(l.flags != 0 && !(l.flags & ~(IPC_LOOKUP_V4 | IPC_LOOKUP_V6)));
	len = strnlen(l.name, sizeof(l.name));
	assert(len > 0 && len < sizeof(l.name));
	/* Nothing of the asker's memory comes along behind the name. */
	for (size_t i = len; i < sizeof(l.name); i++)
		assert(l.name[i] == '\0');
	assert(ipc_make_lookup(&again, l.name, l.flags) == 0);
	assert(memcmp(&again, &l, sizeof(l)) == 0);
}

static void check_found(const uint8_t *data, size_t size)
{
	struct ipc_found f;

	if (ipc_check_found(data, size, &f) != 0)
		return;
	assert(size == sizeof(f) && memcmp(data, &f, size) == 0);
	assert(f.error >= 0 && f.count <= IPC_LOOKUP_MAX);
	assert((f.error == 0) == (f.count > 0));
}

/* Any text as a name: it fits and is well-formed, or is refused. */
static void check_make(const uint8_t *data, size_t size)
{
	struct ipc_lookup l, out;
	char name[512];
	int err;

	if (size >= sizeof(name) || memchr(data, 0, size))
		return;
	memcpy(name, data, size);
	name[size] = '\0';
	err = ipc_make_lookup(&l, name, IPC_LOOKUP_V4);
	assert(err == (size < sizeof(l.name) ? 0 : -ENAMETOOLONG));
	if (err == 0)
		assert(ipc_check_lookup(&l, sizeof(l), &out) == (size ? 0 : -EINVAL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_lookup(data, size);
	check_found(data, size);
	if (size)
		check_make(data, size);
	return 0;
}
