/* The state as one message. Parts that are kept as JSON text are put together as text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/netmap/private.h"
#include "daemon/netmap/text.h"
#include "shared/util.h"

struct buffer {
	char *text;
	size_t len, room;
	bool failed;
};

static void put_bytes(struct buffer *b, const char *bytes, size_t len)
{
	if (b->failed)
		return;
	if (len + 1 > b->room - b->len) {
		size_t room = MAX(b->room * 2, b->len + len + 1);
		char *more = realloc(b->text, room);

		if (!more) {
			b->failed = true;
			return;
		}
		b->text = more;
		b->room = room;
	}
	memcpy(b->text + b->len, bytes, len);
	b->len += len;
	b->text[b->len] = '\0';
}

static void put(struct buffer *b, const char *text)
{
	put_bytes(b, text, strlen(text));
}

static void put_user(struct buffer *b, const struct netmap_user *user)
{
	struct json_object *o = json_object_new_object();
	const char *text = NULL;

	if (o && json_object_object_add(o, "ID", json_object_new_int64(user->id)) == 0 &&
	    json_object_object_add(o, "LoginName", json_object_new_string(user->login_name)) == 0 &&
	    json_object_object_add(o, "DisplayName", json_object_new_string(user->display_name)) ==
		    0 &&
	    json_object_object_add(o, "ProfilePicURL", json_object_new_string(user->picture_url)) ==
		    0)
		text = json_object_to_json_string_ext(o, TEXT_FLAGS);
	if (text)
		put(b, text);
	else
		b->failed = true;
	json_object_put(o);
}

static void put_domain(struct buffer *b, const char *domain)
{
	struct json_object *o = json_object_new_string(domain);
	const char *text = o ? json_object_to_json_string_ext(o, TEXT_FLAGS) : NULL;

	if (text)
		put(b, text);
	else
		b->failed = true;
	json_object_put(o);
}

char *netmap_export(const struct netmap *nm, size_t *len)
{
	struct buffer b = { .text = NULL };

	put(&b, "{");
	if (nm->self) {
		put(&b, "\"Node\":");
		put(&b, nm->self->node.json);
		put(&b, ",\"DERPMap\":");
		put(&b, nm->derp->json);
		put(&b, ",\"Peers\":[");
		for (unsigned i = 0; i < nm->peer_count; i++) {
			put(&b, i ? "," : "");
			put(&b, nm->peers[i]->node.json);
		}
		put(&b, "],\"DNSConfig\":");
		put(&b, nm->dns->json);
		put(&b, ",\"PacketFilters\":");
		put(&b, nm->filter->json);
		put(&b, ",\"UserProfiles\":[");
		for (unsigned i = 0; i < nm->user_count; i++) {
			put(&b, i ? "," : "");
			put_user(&b, &nm->users[i]->user);
		}
		put(&b, "],\"Domain\":");
		put_domain(&b, nm->domain);
		/* Health and DisplayMessages, without the braces around them. */
		if (strlen(nm->health->json) > 2) {
			put(&b, ",");
			put_bytes(&b, nm->health->json + 1, strlen(nm->health->json) - 2);
		}
	}
	put(&b, "}");
	if (b.failed) {
		free(b.text);
		return NULL;
	}
	*len = b.len;
	return b.text;
}
