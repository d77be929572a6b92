/* A network namespace of one's own with one TUN device in it. */
#ifndef MESHWRAP_TESTS_SIM_TUN_H
#define MESHWRAP_TESTS_SIM_TUN_H

#define TUN_SKIP 77 /* what a test exits with that cannot run here */

/*
 * Moves the process into a new network namespace and returns a device there, not
 * blocking, whose other end is the kernel with v4/24 and, if not NULL, v6/64. Needs
 * root and /dev/net/tun; without them it says so and exits with TUN_SKIP.
 */
int tun_open(const char *v4, const char *v6, int mtu);

#endif
