/*
 * One case for each option: what its value must look like, which options_value.c checks, and where
 * it goes. It does not matter who said it, but for the auth key, which is
 * refused on the command line: every user of the machine can read that.
 */
#include "daemon/options_take.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/crypto/keys.h"
#include "daemon/crypto/workers.h"
#include "daemon/options.h"

#define CAPABILITY_MAX 10000

static bool bad(struct options_reading *r, const char *sentence)
{
	snprintf(r->error, sizeof(r->error), "%s", sentence);
	return false;
}

/* What value_...() said. */
static bool fits(struct options_reading *r, const char *sentence)
{
	return !sentence || bad(r, sentence);
}

static bool take_number(struct options_reading *r, const char *text, unsigned max, unsigned *number)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || n > max) {
		snprintf(r->error, sizeof(r->error), "takes a number up to %u", max);
		return false;
	}
	*number = (unsigned)n;
	return true;
}

static bool take_level(struct options_reading *r, const char *text)
{
	enum log_level level;

	if (!fits(r, value_level(text, &level)))
		return false;
	log_set_level(level);
	return true;
}

static bool take_congestion(struct options_reading *r, const char *name)
{
	if (strcmp(name, "cubic") == 0)
		r->o->congestion = TCP_CUBIC;
	else if (strcmp(name, "rate") == 0)
		r->o->congestion = TCP_RATE;
	else
		return bad(r, "is one of rate, cubic");
	return true;
}

static bool take_state(struct options_reading *r, const char *text)
{
	struct options_memory *m = r->o->memory;

	if (!fits(r, value_state(text, m->state_dir, sizeof(m->state_dir))))
		return false;
	r->o->login.state_dir = m->state_dir[0] ? m->state_dir : NULL;
	return true;
}

static bool take_key(struct options_reading *r, enum option_id id, char *value)
{
	struct options_key *key = &r->o->memory->key;
	unsigned fd;

	if (id == OPTION_AUTH_KEY_FILE)
		return options_key_from_file(key, value, r->error) == 0;
	if (id == OPTION_AUTH_KEY_FD)
		return take_number(r, value, INT_MAX, &fd) &&
		       options_key_from_fd(key, (int)fd, r->error) == 0;
	if (r->is_command_line && strncmp(value, "file:", 5) != 0) {
		secret_wipe(value, strlen(value));
		return bad(r, "would show the key to every user of this machine; set TS_AUTHKEY, "
			      "or give --auth-key-file FILE");
	}
	return options_key_from_text(key, value, r->error) == 0;
}

static bool take_login(struct options_reading *r, enum option_id id, char *value)
{
	struct options_memory *m = r->o->memory;
	struct login_setup *login = &r->o->login;
	unsigned number;

	switch (id) {
	case OPTION_LOGIN_SERVER:
		r->seen.login = true;
		login->server_url = m->url;
		return fits(r, value_url(value, m->url, sizeof(m->url)));
	case OPTION_AUTH_KEY:
	case OPTION_AUTH_KEY_FILE:
	case OPTION_AUTH_KEY_FD:
		r->seen.login = true;
		return take_key(r, id, value);
	case OPTION_HOSTNAME:
		return fits(r, value_hostname(value, m->hostname));
	case OPTION_STATE:
		r->seen.login = true;
		return take_state(r, value);
	case OPTION_CA:
		login->ca_file = value;
		return true;
	case OPTION_ACCEPT_ROUTES:
		return fits(r, value_flag(value, &login->accept_routes));
	case OPTION_ACCEPT_DNS:
		return fits(r, value_flag(value, &login->accept_dns));
	case OPTION_SHIELDS_UP:
		return fits(r, value_flag(value, &login->shields_up));
	case OPTION_TAGS:
		return fits(r, value_tags(value, m->tags, sizeof(m->tags), login->tags,
					  LOGIN_TAGS_MAX, &login->tag_count));
	case OPTION_PORT:
		if (!take_number(r, value, UINT16_MAX, &number))
			return false;
		login->port = (uint16_t)number;
		return true;
	case OPTION_TRUST_NEW_KEY:
		login->trusts_new_server_key = true;
		return true;
	case OPTION_CAPABILITY_VERSION:
		return take_number(r, value, CAPABILITY_MAX, &login->capability_version);
	default:
		return bad(r, "is not known");
	}
}

bool options_take(struct options_reading *r, enum option_id id, char *value)
{
	struct options *o = r->o;

	switch (id) {
	case OPTION_CONFIG:
		r->seen.file = true;
		o->config_path = value;
		return true;
	case OPTION_SOCKS5:
		o->socks5_listen = *value ? value : NULL;
		return true;
	case OPTION_HTTP_PROXY:
		o->http_listen = *value ? value : NULL;
		return true;
	case OPTION_DIR:
		r->dir = value;
		return true;
	case OPTION_LEVEL:
		return take_level(r, value);
	case OPTION_CONGESTION:
		return take_congestion(r, value);
	case OPTION_WORKERS:
		return take_number(r, value, WORKERS_MAX, &o->workers);
	case OPTION_ALL_USERS:
		o->allow_all_users = true;
		return true;
	case OPTION_NO_SYN_HOLD:
		o->refuse_synhold = true;
		return true;
	default:
		r->seen.for_login = id;
		return take_login(r, id, value);
	}
}
