/*
 * A region lives in one block: the struct, its nodes, then all text. So a copy is freed
 * by free() and fails in one place.
 *
 * Names of a node go into a request head: one with white space or control characters is
 * no name of anything, and the node is not used.
 */
#include "daemon/derp/copy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/util.h"

#define PIN_PREFIX "sha256-raw:"
#define NODE_TEXTS 6

static void node_texts(struct derp_node *node, const char **texts[NODE_TEXTS])
{
	texts[0] = &node->name;
	texts[1] = &node->host_name;
	texts[2] = &node->cert_name;
	texts[3] = &node->ipv4;
	texts[4] = &node->ipv6;
	texts[5] = &node->stun_test_ip;
}

static void move_text(const char **text, char **to)
{
	size_t len = strlen(*text) + 1;

	memcpy(*to, *text, len);
	*text = *to;
	*to += len;
}

struct derp_region *derp_region_copy(const struct derp_region *region)
{
	unsigned count = MIN(region->node_count, DERP_NODES_MAX);
	size_t len = sizeof(*region) + count * sizeof(region->nodes[0]);
	const char **texts[NODE_TEXTS];
	struct derp_region *copy;
	char *text;

	len += strlen(region->code) + strlen(region->name) + 2;
	for (unsigned i = 0; i < count; i++) {
		node_texts(&region->nodes[i], texts);
		for (unsigned k = 0; k < NODE_TEXTS; k++)
			len += strlen(*texts[k]) + 1;
	}
	copy = malloc(len);
	if (!copy)
		return NULL;
	*copy = *region;
	copy->node_count = count;
	copy->nodes = (struct derp_node *)(copy + 1);
	memcpy(copy->nodes, region->nodes, count * sizeof(copy->nodes[0]));
	text = (char *)(copy->nodes + count);
	move_text(&copy->code, &text);
	move_text(&copy->name, &text);
	for (unsigned i = 0; i < count; i++) {
		node_texts(&copy->nodes[i], texts);
		for (unsigned k = 0; k < NODE_TEXTS; k++)
			move_text(texts[k], &text);
	}
	return copy;
}

static bool node_same(struct derp_node *a, struct derp_node *b)
{
	const char **ta[NODE_TEXTS], **tb[NODE_TEXTS];

	node_texts(a, ta);
	node_texts(b, tb);
	for (unsigned k = 0; k < NODE_TEXTS - 1; k++) /* STUN is another matter */
		if (strcmp(*ta[k], *tb[k]) != 0)
			return false;
	return a->derp_port == b->derp_port && a->is_stun_only == b->is_stun_only &&
	       a->is_insecure == b->is_insecure;
}

bool derp_region_same(const struct derp_region *a, const struct derp_region *b)
{
	unsigned count = MIN(a->node_count, DERP_NODES_MAX);

	if (a->id != b->id || count != MIN(b->node_count, DERP_NODES_MAX))
		return false;
	for (unsigned i = 0; i < count; i++)
		if (!node_same(&a->nodes[i], &b->nodes[i]))
			return false;
	return true;
}

static bool is_plain(const char *text, size_t max)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return false;
	return len < max;
}

/* One family: an address to use; "": none given; anything else disables it. */
static unsigned add_candidate(struct derp_target *target, unsigned count, const char *text,
			      const struct derp_node *node, bool v4)
{
	struct endpoint *ep = &target->candidate[count];

	if (ip_parse(text, &ep->addr) != 0 || ip_is_v4(&ep->addr) != v4)
		return count;
	ep->port = (uint16_t)node->derp_port;
	return count + 1;
}

bool derp_node_target(const struct derp_node *node, const struct tls_context *tls,
		      struct derp_target *target)
{
	struct net_stream_options *o = &target->options;
	unsigned count = 0;

	*target = (struct derp_target){ 0 };
	if (node->is_stun_only || node->derp_port <= 0 || node->derp_port > 65535 ||
	    !node->host_name[0] || !is_plain(node->host_name, 254) || !is_plain(node->name, 64))
		return false;
	count = add_candidate(target, count, node->ipv4, node, true);
	count = add_candidate(target, count, node->ipv6, node, false);
	if (count == 0 && node->ipv4[0] && node->ipv6[0])
		return false; /* both families are disabled */
	o->host = node->host_name;
	o->port = (uint16_t)node->derp_port;
	o->candidates = count > 0 ? target->candidate : NULL;
	o->candidate_count = count;
	o->tls = tls;
	o->is_insecure = node->is_insecure;
	if (strncmp(node->cert_name, PIN_PREFIX, strlen(PIN_PREFIX)) == 0)
		o->pin_sha256 = node->cert_name + strlen(PIN_PREFIX);
	else
		o->verify_name = node->cert_name;
	return true;
}

void derp_node_authority(const struct derp_node *node, char text[static 300])
{
	struct ip_addr ip;
	bool is_v6 = ip_parse(node->host_name, &ip) == 0 && !ip_is_v4(&ip);
	int len = snprintf(text, 300, is_v6 ? "[%.253s]" : "%.253s", node->host_name);

	if (node->derp_port != 443)
		snprintf(text + len, (size_t)(300 - len), ":%d", node->derp_port);
}
