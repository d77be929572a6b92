/*
 * The control protocol's only parsers. A message is right in every field or it
 * is refused: exact size, magic, version, known type, known flags, zero
 * padding, no trailing bytes. So a newer shim meets an older daemon with a
 * clear EPROTO instead of a half-understood question.
 */
#include "shared/ipc.h"

#include <errno.h>
#include <string.h>

#define LOOPBACK_NET 127u

static uint32_t allowed_request_flags(uint16_t type)
{
	return type == IPC_UDP_OPEN ? IPC_UDP_V6ONLY : type == IPC_CONNECT ? IPC_CONNECT_FIRST : 0;
}

static bool is_known_type(uint16_t type)
{
	return type >= IPC_CONNECT && type <= IPC_READY;
}

/* Both ends of a program's stream. */
static bool has_both_ends(const struct ipc_request *r)
{
	return ip_is_loopback(&r->local) && r->local_port != 0 && r->remote_port != 0;
}

int ipc_check_request(const void *bytes, size_t len, struct ipc_request *out)
{
	struct ipc_request r;

	if (len != sizeof(r))
		return -EPROTO;
	memcpy(&r, bytes, sizeof(r));
	if (r.magic != IPC_MAGIC || r.version != IPC_VERSION)
		return -EPROTO;
	if (!is_known_type(r.type) || (r.flags & ~allowed_request_flags(r.type)) != 0)
		return -EINVAL;
	if (r.type == IPC_CONNECT && !has_both_ends(&r))
		return -EINVAL;
	if (r.type == IPC_UDP_OPEN && r.remote_port == 0)
		return -EINVAL;
	*out = r;
	return 0;
}

static bool is_keepalive(const struct ipc_patience *p)
{
	if (p->idle_s == 0)
		return p->interval_s == 0 && p->count == 0;
	return p->idle_s <= IPC_IDLE_S_MAX && p->interval_s >= 1 &&
	       p->interval_s <= IPC_IDLE_S_MAX && p->count >= 1 && p->count <= IPC_COUNT_MAX;
}

int ipc_check_patience(const void *bytes, size_t len, struct ipc_patience *out)
{
	struct ipc_patience p;
	uint32_t flags;

	if (len != sizeof(p))
		return -EPROTO;
	memcpy(&p, bytes, sizeof(p));
	if (p.request.magic != IPC_MAGIC || p.request.version != IPC_VERSION)
		return -EPROTO;
	if (p.request.type != IPC_CONNECT && p.request.type != IPC_PATIENCE)
		return -EINVAL;
	flags = p.request.type == IPC_CONNECT ? IPC_CONNECT_FIRST : IPC_ACCEPTED;
	if ((p.request.flags & ~flags) || !has_both_ends(&p.request) || !is_keepalive(&p) ||
	    p.user_timeout_ms > IPC_USER_TIMEOUT_MAX || p.pad != 0)
		return -EINVAL;
	*out = p;
	return 0;
}

int ipc_check_post(const void *bytes, size_t len, struct ipc_post *out)
{
	struct ipc_post p;
	int err;

	if (len != sizeof(p))
		return -EPROTO;
	memcpy(&p, bytes, sizeof(p));
	err = ipc_check_patience(&p.dial, sizeof(p.dial), &p.dial);
	if (err)
		return err;
	if (p.dial.request.type != IPC_CONNECT || p.dial.request.flags != 0 ||
	    !ip_is_v4(&p.dial.request.local) || p.mirror >> 24 != LOOPBACK_NET)
		return -EINVAL;
	*out = p;
	return 0;
}

int ipc_check_reply(const void *bytes, size_t len, enum ipc_type type, struct ipc_reply *out)
{
	struct ipc_reply r;

	if (len != sizeof(r))
		return -EPROTO;
	memcpy(&r, bytes, sizeof(r));
	if (r.magic != IPC_MAGIC || r.version != IPC_VERSION || r.type != type)
		return -EPROTO;
	if (r.error < 0 || r.error > 4095 || r.pad != 0 || (r.flags & ~IPC_REPLY_DIALLED) != 0)
		return -EINVAL;
	/* What a program is sent to must be loopback, whoever answers. */
	if (r.error == 0 && type != IPC_READY && (!ip_is_loopback(&r.mirror) || r.mirror_port == 0))
		return -EINVAL;
	*out = r;
	return 0;
}

static bool is_zero(const void *bytes, size_t len)
{
	const uint8_t *b = bytes;

	for (size_t i = 0; i < len; i++)
		if (b[i])
			return false;
	return true;
}

int ipc_check_lookup(const void *bytes, size_t len, struct ipc_lookup *out)
{
	const uint32_t families = IPC_LOOKUP_V4 | IPC_LOOKUP_V6;
	struct ipc_lookup l;
	size_t name_len;

	if (len != sizeof(l))
		return -EPROTO;
	memcpy(&l, bytes, sizeof(l));
	if (l.magic != IPC_MAGIC || l.version != IPC_VERSION || l.type != IPC_LOOKUP)
		return -EPROTO;
	name_len = strnlen(l.name, sizeof(l.name));
	if ((l.flags & ~families) || !(l.flags & families) || name_len == 0 ||
	    name_len == sizeof(l.name) || !is_zero(l.name + name_len, sizeof(l.name) - name_len))
		return -EINVAL;
	*out = l;
	return 0;
}

int ipc_check_found(const void *bytes, size_t len, struct ipc_found *out)
{
	struct ipc_found f;

	if (len != sizeof(f))
		return -EPROTO;
	memcpy(&f, bytes, sizeof(f));
	if (f.magic != IPC_MAGIC || f.version != IPC_VERSION || f.type != IPC_LOOKUP)
		return -EPROTO;
	if (f.error < 0 || f.error > 4095 || f.count > IPC_LOOKUP_MAX ||
	    (f.error == 0) != (f.count > 0) ||
	    !is_zero(f.addr + f.count, (IPC_LOOKUP_MAX - f.count) * sizeof(f.addr[0])))
		return -EINVAL;
	*out = f;
	return 0;
}

int ipc_make_lookup(struct ipc_lookup *out, const char *name, uint32_t flags)
{
	size_t len = strnlen(name, sizeof(out->name));

	if (len == sizeof(out->name))
		return -ENAMETOOLONG;
	memset(out, 0, sizeof(*out));
	out->magic = IPC_MAGIC;
	out->version = IPC_VERSION;
	out->type = IPC_LOOKUP;
	out->flags = flags;
	memcpy(out->name, name, len);
	return 0;
}

void ipc_make_request(struct ipc_request *out, enum ipc_type type, const struct endpoint *local,
		      const struct endpoint *remote, uint32_t flags)
{
	memset(out, 0, sizeof(*out));
	out->magic = IPC_MAGIC;
	out->version = IPC_VERSION;
	out->type = (uint16_t)type;
	out->flags = flags;
	if (local) {
		out->local = local->addr;
		out->local_port = local->port;
	}
	if (remote) {
		out->remote = remote->addr;
		out->remote_port = remote->port;
	}
}
