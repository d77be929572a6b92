/*
 * Path MTUs: a ring of few entries, searched from end to end, since only a datagram longer
 * than PATH_MTU_LEAST asks, and nearly always nothing is known.
 */
#include "daemon/stack/path_mtu.h"

/* Its place, or m->count. */
static unsigned find(const struct path_mtus *m, const struct ip_addr *to)
{
	unsigned i = 0;

	while (i < m->count && !ip_equal(&m->entry[i].to, to))
		i++;
	return i;
}

void path_mtus_learn(struct path_mtus *m, const struct ip_addr *to, uint32_t mtu, uint64_t now_ns)
{
	unsigned i = find(m, to);

	mtu = MAX(mtu, PATH_MTU_LEAST);
	if (i == m->count) {
		i = m->next;
		m->next = (m->next + 1) % PATH_MTUS;
		m->count = MIN(m->count + 1, PATH_MTUS);
	} else if (m->entry[i].expires_ns > now_ns) {
		mtu = MIN(mtu, m->entry[i].mtu);
	}
	m->entry[i] = (struct path_mtu){ *to, mtu, now_ns + PATH_MTU_LIFE_NS };
}

uint32_t path_mtus_find(const struct path_mtus *m, const struct ip_addr *to, uint64_t now_ns)
{
	unsigned i = find(m, to);

	return i < m->count && m->entry[i].expires_ns > now_ns ? m->entry[i].mtu : UINT32_MAX;
}
