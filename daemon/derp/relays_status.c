/* What is known of each region that was ever used. */
#include "daemon/derp/client.h"
#include "daemon/derp/relays_private.h"

bool relays_status(const struct relays *r, unsigned index, struct relays_status *status)
{
	for (unsigned i = 0; i < r->region_count; i++) {
		const struct region *g = r->regions[i];

		if (!g->client && g->status.connects == 0 && g->status.failures == 0)
			continue;
		if (index-- > 0)
			continue;
		*status = g->status;
		status->region = g->map->id;
		status->is_home = region_is_home(g);
		status->is_connected = g->client && derp_client_is_up(g->client);
		status->sentence = g->sentence;
		status->node = g->client ? derp_client_node(g->client) : "";
		if (g->client)
			derp_client_remote(g->client, &status->remote);
		return true;
	}
	return false;
}
