/* Each message is read only when it is whole: 0 asks for more, an error ends the client. */
#include "daemon/proxy/socks.h"

#include <errno.h>
#include <string.h>

enum address_type { TYPE_V4 = 1, TYPE_NAME = 3, TYPE_V6 = 4 };

int socks_parse_greeting(const uint8_t *bytes, size_t len, bool *no_auth)
{
	if (len > 0 && bytes[0] != SOCKS_VERSION)
		return -EPROTO;
	if (len < 2)
		return 0;
	if (bytes[1] == 0)
		return -EPROTO;
	if (len < 2u + bytes[1])
		return 0;
	*no_auth = memchr(bytes + 2, SOCKS_NO_AUTH, bytes[1]) != NULL;
	return 2 + bytes[1];
}

/* Type, address and port. The bytes they take, 0: more are needed, or an error. */
static int parse_place(const uint8_t *bytes, size_t len, struct target_place *place)
{
	size_t need;

	*place = (struct target_place){ .is_name = false };
	if (len < 2)
		return 0;
	if (bytes[0] == TYPE_V4)
		need = 1 + 4 + 2;
	else if (bytes[0] == TYPE_V6)
		need = 1 + 16 + 2;
	else if (bytes[0] == TYPE_NAME)
		need = 2u + bytes[1] + 2;
	else
		return -EAFNOSUPPORT;
	if (len < need)
		return 0;
	if (bytes[0] == TYPE_V4)
		place->addr = ip_from_v4((uint32_t)bytes[1] << 24 | (uint32_t)bytes[2] << 16 |
					 (uint32_t)bytes[3] << 8 | bytes[4]);
	else if (bytes[0] == TYPE_V6)
		memcpy(place->addr.byte, bytes + 1, sizeof(place->addr.byte));
	else if (!target_set_host(place, (const char *)bytes + 2, bytes[1]))
		return -EPROTO;
	place->port = (uint16_t)(bytes[need - 2] << 8 | bytes[need - 1]);
	return (int)need;
}

int socks_parse_request(const uint8_t *bytes, size_t len, struct socks_request *request)
{
	int n;

	if ((len > 0 && bytes[0] != SOCKS_VERSION) || (len > 2 && bytes[2] != 0))
		return -EPROTO;
	if (len < 4)
		return 0;
	request->command = bytes[1];
	n = parse_place(bytes + 3, len - 3, &request->place);
	return n > 0 ? n + 3 : n;
}

static size_t put_place(const struct endpoint *ep, uint8_t *out)
{
	size_t n = 1;

	if (ip_is_v4(&ep->addr)) {
		out[0] = TYPE_V4;
		memcpy(out + 1, ep->addr.byte + 12, 4);
		n += 4;
	} else {
		out[0] = TYPE_V6;
		memcpy(out + 1, ep->addr.byte, 16);
		n += 16;
	}
	out[n++] = (uint8_t)(ep->port >> 8);
	out[n++] = (uint8_t)ep->port;
	return n;
}

size_t socks_put_reply(enum socks_code code, const struct endpoint *bound,
		       uint8_t out[static SOCKS_REPLY_MAX])
{
	const struct endpoint none = { ip_from_v4(0), 0 };

	out[0] = SOCKS_VERSION;
	out[1] = (uint8_t)code;
	out[2] = 0;
	return 3 + put_place(bound ? bound : &none, out + 3);
}

enum socks_code socks_code_of(int error)
{
	switch (error) {
	case 0:
		return SOCKS_DONE;
	case ENETUNREACH:
	case ENETDOWN:
		return SOCKS_NET_UNREACHABLE;
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ENOENT:
	case ENODATA:
	case EAGAIN: /* name servers that do not answer */
		return SOCKS_HOST_UNREACHABLE;
	case ECONNREFUSED:
		return SOCKS_REFUSED;
	case ETIMEDOUT:
		return SOCKS_TIMED_OUT;
	case EACCES:
	case EPERM:
		return SOCKS_NOT_ALLOWED;
	case EOPNOTSUPP:
		return SOCKS_NO_COMMAND;
	case EAFNOSUPPORT:
		return SOCKS_NO_ADDRESS_TYPE;
	default:
		return SOCKS_FAILURE;
	}
}

int socks_parse_datagram(const uint8_t *bytes, size_t len, struct target_place *place)
{
	int n;

	/* Two reserved bytes, then the fragment's number, which must be none. */
	if (len < 4 || bytes[0] || bytes[1] || bytes[2])
		return -EPROTO;
	n = parse_place(bytes + 3, len - 3, place);
	return n > 0 && place->port ? n + 3 : -EPROTO;
}

size_t socks_put_datagram_head(const struct endpoint *from, uint8_t out[static SOCKS_REPLY_MAX])
{
	memset(out, 0, 3);
	return 3 + put_place(from, out + 3);
}
