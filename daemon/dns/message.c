/*
 * The codec.
 *
 * Names are read with two bounds: a pointer must lead to before the place where
 * the labels it interrupts began, so no loop is possible, and a name ends at
 * 255 bytes. Text with dots stands for a name everywhere else, so a label that
 * itself holds a dot (or a NUL) is refused: it could pass for another name.
 */
#include "daemon/dns/message.h"

#include <string.h>

#include "shared/util.h"
#include "shared/wire.h"

#define POINTER_BITS 0xc0u
#define CNAMES_MAX   16

uint16_t dns_message_id(const uint8_t *bytes)
{
	return load_be16(bytes);
}

uint16_t dns_message_flags(const uint8_t *bytes)
{
	return load_be16(bytes + 2);
}

void dns_message_set_flags(uint8_t *bytes, uint16_t flags)
{
	store_be16(bytes + 2, flags);
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_label(const uint8_t *label, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (label[i] == '.' || label[i] == '\0')
			return false;
	return true;
}

bool dns_message_name(const uint8_t *bytes, size_t len, size_t *at,
		      char name[static DNS_NAME_MAX + 1])
{
	size_t pos = *at, began = *at, used = 0, after = 0;

	for (;;) {
		uint8_t n;

		if (pos >= len)
			return false;
		n = bytes[pos];
		if (n == 0)
			break;
		if ((n & POINTER_BITS) == POINTER_BITS) {
			if (pos + 1 >= len)
				return false;
			if (after == 0)
				after = pos + 2;
			pos = load_be16(bytes + pos) & 0x3fff;
			if (pos >= began)
				return false;
			began = pos;
			continue;
		}
		/* One byte for the dot before it; the wire's 255 leave 253 of text. */
		if (n > DNS_LABEL_MAX || pos + 1 + n > len ||
		    used + (used > 0) + n > DNS_NAME_MAX - 1 || !is_label(bytes + pos + 1, n))
			return false;
		if (used)
			name[used++] = '.';
		memcpy(name + used, bytes + pos + 1, n);
		used += n;
		pos += 1 + (size_t)n;
	}
	name[used] = '\0';
	*at = after ? after : pos + 1;
	return true;
}

bool dns_message_question(const uint8_t *bytes, size_t len, struct dns_question *q)
{
	size_t at = DNS_HEADER_LEN;

	if (len < DNS_HEADER_LEN || load_be16(bytes + 4) == 0 ||
	    !dns_message_name(bytes, len, &at, q->name) || at + 4 > len)
		return false;
	for (size_t i = 0;; i++) {
		q->lower[i] = lower(q->name[i]);
		if (q->name[i] == '\0')
			break;
	}
	q->type = load_be16(bytes + at);
	q->class = load_be16(bytes + at + 2);
	q->end = at + 4;
	return true;
}

/* Behind the name at at, whatever it is; 0: it leaves the message. */
static size_t skip_name(const uint8_t *bytes, size_t len, size_t at)
{
	while (at < len && bytes[at] != 0 && bytes[at] < 0x40)
		at += 1u + bytes[at];
	if (at >= len || (bytes[at] != 0 && bytes[at] < POINTER_BITS))
		return 0;
	at += bytes[at] ? 2 : 1;
	return at <= len ? at : 0;
}

/* Behind the record at at; 0: it leaves the message. */
static size_t skip_record(const uint8_t *bytes, size_t len, size_t at)
{
	at = skip_name(bytes, len, at);
	if (at == 0 || len - at < 10)
		return 0;
	at += 10u + load_be16(bytes + at + 8);
	return at <= len ? at : 0;
}

/* Where the OPT record begins (with the root, as its name); 0: there is none of version 0. */
static size_t find_opt(const uint8_t *bytes, size_t len)
{
	size_t at = DNS_HEADER_LEN;
	unsigned records;

	if (len < DNS_HEADER_LEN)
		return 0;
	for (unsigned i = load_be16(bytes + 4); i > 0; i--) {
		at = skip_name(bytes, len, at);
		if (at == 0 || len - at < 4)
			return 0;
		at += 4;
	}
	records = load_be16(bytes + 6) + load_be16(bytes + 8);
	for (; records > 0 && at; records--)
		at = skip_record(bytes, len, at);
	for (unsigned i = load_be16(bytes + 10); i > 0 && at; i--) {
		size_t next = skip_record(bytes, len, at);

		if (next && bytes[at] == 0 && load_be16(bytes + at + 1) == DNS_TYPE_OPT)
			return bytes[at + 6] == 0 ? at : 0;
		at = next;
	}
	return 0;
}

size_t dns_message_udp_limit(const uint8_t *query, size_t len)
{
	size_t opt = find_opt(query, len);
	size_t limit = opt ? load_be16(query + opt + 3) : 0;

	return MIN(MAX(limit, (size_t)DNS_UDP_PLAIN), (size_t)DNS_UDP_LARGEST);
}

void dns_message_clamp_opt(uint8_t *bytes, size_t len)
{
	size_t opt = find_opt(bytes, len);

	if (opt && load_be16(bytes + opt + 3) > DNS_UDP_MAX)
		store_be16(bytes + opt + 3, DNS_UDP_MAX);
}

size_t dns_message_cut(uint8_t *bytes, size_t len)
{
	struct dns_question q;
	bool has_question = dns_message_question(bytes, len, &q);

	if (len < DNS_HEADER_LEN)
		return len;
	store_be16(bytes + 4, has_question);
	memset(bytes + 6, 0, 6);
	return has_question ? q.end : DNS_HEADER_LEN;
}

/* ---- answers ---- */

static bool is_same_name(const char *a, const char *b)
{
	while (*a && lower(*a) == lower(*b)) {
		a++;
		b++;
	}
	return *a == '\0' && *b == '\0';
}

/* One record; *at moves behind it. */
struct record {
	char name[DNS_NAME_MAX + 1];
	uint16_t type, class;
	size_t data, data_len;
};

static bool next_record(const uint8_t *bytes, size_t len, size_t *at, struct record *r)
{
	if (!dns_message_name(bytes, len, at, r->name) || *at + 10 > len)
		return false;
	r->type = load_be16(bytes + *at);
	r->class = load_be16(bytes + *at + 2);
	r->data_len = load_be16(bytes + *at + 8);
	r->data = *at + 10;
	if (r->data + r->data_len > len)
		return false;
	*at = r->data + r->data_len;
	return true;
}

static bool address_of(const uint8_t *bytes, const struct record *r, struct ip_addr *ip)
{
	if (r->type == DNS_TYPE_A && r->data_len == 4) {
		*ip = ip_from_v4(load_be32(bytes + r->data));
		return true;
	}
	if (r->type == DNS_TYPE_AAAA && r->data_len == 16) {
		memcpy(ip->byte, bytes + r->data, 16);
		return true;
	}
	return false;
}

/* One pass over the records for this name; a CNAME replaces the name. */
static unsigned collect(const uint8_t *bytes, size_t len, size_t at, uint16_t type,
			char name[static DNS_NAME_MAX + 1], bool *is_alias, struct ip_addr *ips,
			unsigned max)
{
	unsigned answers = load_be16(bytes + 6), count = 0;
	struct record r;

	*is_alias = false;
	for (unsigned i = 0; i < answers && next_record(bytes, len, &at, &r); i++) {
		size_t data = r.data;
		char target[DNS_NAME_MAX + 1];

		if (r.class != DNS_CLASS_IN || !is_same_name(r.name, name))
			continue;
		if (r.type == DNS_TYPE_CNAME && dns_message_name(bytes, len, &data, target)) {
			memcpy(name, target, sizeof(target));
			*is_alias = true;
		} else if (r.type == type && count < max && address_of(bytes, &r, &ips[count])) {
			count++;
		}
	}
	return count;
}

unsigned dns_message_addresses(const uint8_t *bytes, size_t len, const char *name, uint16_t type,
			       struct ip_addr *ips, unsigned max)
{
	char current[DNS_NAME_MAX + 1];
	struct dns_question q;
	size_t name_len = strlen(name);
	bool is_alias = true;
	unsigned count = 0;

	if (name_len > DNS_NAME_MAX || !dns_message_question(bytes, len, &q) ||
	    load_be16(bytes + 4) != 1)
		return 0;
	memcpy(current, name, name_len + 1);
	for (unsigned i = 0; i < CNAMES_MAX && count == 0 && is_alias; i++)
		count = collect(bytes, len, q.end, type, current, &is_alias, ips, max);
	return count;
}

/* ---- writing ---- */

void dns_put_bytes(struct dns_writer *w, const void *bytes, size_t len)
{
	if (w->failed || len > w->room - w->len) {
		w->failed = true;
		return;
	}
	memcpy(w->bytes + w->len, bytes, len);
	w->len += len;
}

void dns_put_u16(struct dns_writer *w, uint16_t value)
{
	uint8_t b[2];

	store_be16(b, value);
	dns_put_bytes(w, b, sizeof(b));
}

void dns_put_u32(struct dns_writer *w, uint32_t value)
{
	uint8_t b[4];

	store_be32(b, value);
	dns_put_bytes(w, b, sizeof(b));
}

void dns_put_header(struct dns_writer *w, uint16_t id, uint16_t flags, unsigned questions,
		    unsigned answers, unsigned authorities)
{
	dns_put_u16(w, id);
	dns_put_u16(w, flags);
	dns_put_u16(w, (uint16_t)questions);
	dns_put_u16(w, (uint16_t)answers);
	dns_put_u16(w, (uint16_t)authorities);
	dns_put_u16(w, 0);
}

void dns_put_name(struct dns_writer *w, const char *name)
{
	size_t began = w->len;

	while (*name) {
		size_t n = strcspn(name, ".");
		uint8_t len = (uint8_t)n;

		if (n == 0 || n > DNS_LABEL_MAX || w->len - began + n + 2 > 255) {
			w->failed = true;
			return;
		}
		dns_put_bytes(w, &len, 1);
		dns_put_bytes(w, name, n);
		if (w->failed)
			return;
		name += n;
		if (*name == '.')
			name++;
	}
	dns_put_bytes(w, "", 1);
}

void dns_put_question(struct dns_writer *w, const char *name, uint16_t type, uint16_t class)
{
	dns_put_name(w, name);
	dns_put_u16(w, type);
	dns_put_u16(w, class);
}
