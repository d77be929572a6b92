/*
 * What this node was started with, in the status: its file, and the options that hold until it
 * ends.
 *
 * Who starts a program with other options than these hears of it from meshrun, which takes the
 * daemon that runs as it is. Each is told under its name and as text, as one would
 * write it; "" where there is none. A node of a file knows nothing of a login's.
 */
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "daemon/login.h"
#include "daemon/mesh_private.h"
#include "shared/paths.h"

static void add_text(json_object *to, const char *name, const char *text)
{
	json_object_object_add(to, name, json_object_new_string(text ? text : ""));
}

static void add_flag(json_object *to, const char *name, bool flag)
{
	add_text(to, name, flag ? "true" : "false");
}

/* 0: none. */
static void add_number(json_object *to, const char *name, unsigned number)
{
	char text[16] = "";

	if (number)
		snprintf(text, sizeof(text), "%u", number);
	add_text(to, name, text);
}

/* As it is called from any folder; not at all where nobody can tell. */
static void add_path(json_object *to, const char *name, const char *path)
{
	char absolute[PATH_MAX];

	if (paths_absolute(path, absolute, sizeof(absolute)) == 0)
		add_text(to, name, absolute);
}

static void add_tags(json_object *to, const struct login_setup *login)
{
	char list[4096] = "";
	size_t len = 0;

	for (unsigned i = 0; i < login->tag_count && len < sizeof(list); i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i ? "," : "",
					login->tags[i]);
	add_text(to, "advertise-tags", list);
}

static void add_login(json_object *to, const struct mesh *mesh)
{
	const struct login_setup *login = mesh->options.login;

	add_text(to, "hostname", login->hostname);
	add_text(to, "state", login->state_dir);
	if (login->ca_file && *login->ca_file)
		add_path(to, "ca", login->ca_file);
	else
		add_text(to, "ca", "");
	add_flag(to, "accept-routes", login->accept_routes);
	add_flag(to, "accept-dns", login->accept_dns);
	add_flag(to, "shields-up", login->shields_up);
	add_tags(to, login);
	add_number(to, "port", login->port ? login->port : udp_path_port(mesh->udp));
	add_flag(to, "trust-new-server-key", login->trusts_new_server_key);
	add_number(to, "capability-version", login->capability_version);
}

void mesh_status_add_options(const struct mesh *mesh, json_object *status)
{
	const struct mesh_options *o = &mesh->options;
	json_object *options = json_object_new_object();

	if (o->config_path)
		add_path(status, "ConfigFile", o->config_path);
	add_text(options, "socks5-server", o->socks5_listen);
	add_text(options, "outbound-http-proxy-listen", o->http_listen);
	add_flag(options, "allow-all-users", o->allow_all_users);
	add_text(options, "congestion", o->congestion == TCP_RATE ? "rate" : "cubic");
	add_number(options, "workers", o->workers);
	add_text(options, "log-level", log_level_name(log_level()));
	if (o->login)
		add_login(options, mesh);
	json_object_object_add(status, "Options", options);
}
