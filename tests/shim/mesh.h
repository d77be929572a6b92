/*
 * The mesh the shim's tests live on, and how a test says what a peer shall do.
 *
 * This node is 100.64.0.2 / fd7a:115c:a1e0::2, named node-a. node-b is .3 in
 * both families, node-c is 100.64.0.4 only, node-d is fd7a:115c:a1e0::5 only.
 * All of 100.64.0.0/16 has mirrors; the rest of 100.64.0.0/10 and of the IPv6
 * prefix belongs to the mesh and has none.
 */
#ifndef MESHWRAP_TESTS_SHIM_MESH_H
#define MESHWRAP_TESTS_SHIM_MESH_H

#define SELF_V4    "100.64.0.2"
#define SELF_V6    "fd7a:115c:a1e0::2"
#define PEER_V4    "100.64.0.3"
#define PEER_V6    "fd7a:115c:a1e0::3"
#define NODE_C_V4  "100.64.0.4"
#define NODE_D_V6  "fd7a:115c:a1e0::5"
#define SERVER_V4  "192.0.2.53" /* a name server of this machine: its port 53 echoes at once */
#define NOWHERE_V4 "100.65.1.1"
#define NOWHERE_V6 "fd7a:115c:a1e0::99"

/* The port a program dials decides how the dial ends. */
#define PORT_ECHO        20000 /* + ms: an echo service that answers after so long */
#define PORT_FAIL_LATER  21000 /* + errno: held, then failed with it */
#define PORT_FAIL_SOONER 22000 /* + errno: failed as fast as can be */
#define PORT_REFUSE      23000 /* + errno: refused by the daemon's reply */
#define PORT_HOLD        24000 /* never answered */
#define PORT_OVERTAKEN   25000 /* another dials PORT_ECHO from the same port meanwhile */
#define PORT_ASKED       26000 /* as PORT_ECHO; refused with EPROTO where it is posted */
#define PORT_POSTED      27000 /* the other way round */
/* UDP: any port echoes "FROM-ADDRESS FROM-PORT DATA". */

#define FAIL_LATER_MS 40

/* Files of the test's folder beside the daemon's own. */
#define FILE_PID    "pid"
#define FILE_TCP_IN "tcp_in" /* "PORT REAL": peer's loopback port, and the one it stands for */
#define TCP_IN_REAL 12345

#endif
