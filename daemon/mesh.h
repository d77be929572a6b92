/*
 * One node of the mesh: owns every module and connects them.
 */
#ifndef MESHWRAP_DAEMON_MESH_H
#define MESHWRAP_DAEMON_MESH_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/config.h"
#include "daemon/tcp/endpoint.h"

struct event_base;
struct login_setup;
struct mesh;

#define MESH_LINE_MAX 512

/* Its texts live as long as the mesh. */
struct mesh_options {
	const char *dir;         /* the runtime folder */
	const char *config_path; /* the file, to be read again; NULL: it cannot be */
	bool allow_all_users;
	enum tcp_congestion congestion;
	unsigned workers;                /* threads that encrypt; 0: as many as are worth it here */
	bool refuse_synhold;             /* tests: as if SYN hold did not work here */
	const struct login_setup *login; /* of a tailnet's node */
	const char *socks5_listen, *http_listen; /* "ADDRESS:PORT", NULL: no proxy */
};

/*
 * Takes the folder and the port, and is ready to carry, or logging in where
 * options->login says so (config is NULL then). Takes over config's contents
 * (config_finish() is the mesh's business, also on failure). 0, or -errno and one
 * sentence for the user; nothing is left behind then.
 */
int mesh_create(struct config *config, const struct mesh_options *options, struct mesh **mesh,
		char error[static 256]);
void mesh_destroy(struct mesh *mesh);
/* Until mesh_stop(). 0 or -errno. */
int mesh_run(struct mesh *mesh);
/* The server of an ephemeral node is told first, for 2 s at most; a second call does not wait. */
void mesh_stop(struct mesh *mesh);
/* For signals. */
struct event_base *mesh_base(struct mesh *mesh);
/* "node NAME ready at ADDRESS, udp port N, SYN hold: yes". */
void mesh_describe(const struct mesh *mesh, char line[static MESH_LINE_MAX]);
/* What degrades the node but does not stop it, logged as warnings. */
void mesh_log_warnings(struct mesh *mesh);

#endif
