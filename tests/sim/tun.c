/* A TUN device, set up by ioctls: no program needs to be there. */
#include "tun.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define NAME      "mw0"
#define QUEUE_LEN 20000 /* packets: a burst is not to be lost before it is read */

static void require(bool is_fine, const char *what)
{
	if (is_fine)
		return;
	fprintf(stderr, "tun: %s: %s; this test needs root and /dev/net/tun\n", what,
		strerror(errno));
	exit(TUN_SKIP);
}

static void add_v6(const char *v6)
{
	struct in6_ifreq {
		struct in6_addr address;
		uint32_t prefix_len;
		int index;
	} ifr = { .prefix_len = 64, .index = (int)if_nametoindex(NAME) };
	int s = socket(AF_INET6, SOCK_DGRAM, 0);

	inet_pton(AF_INET6, v6, &ifr.address);
	require(ioctl(s, SIOCSIFADDR, &ifr) == 0, "an IPv6 address");
	close(s);
}

int tun_open(const char *v4, const char *v6, int mtu)
{
	struct ifreq ifr = { .ifr_name = NAME, .ifr_flags = IFF_TUN | IFF_NO_PI };
	struct sockaddr_in *in = (struct sockaddr_in *)&ifr.ifr_addr;
	int tun, s;

	require(unshare(CLONE_NEWNET) == 0, "a network namespace");
	tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	require(tun >= 0, "/dev/net/tun");
	require(ioctl(tun, TUNSETIFF, &ifr) == 0, "a TUN device");
	s = socket(AF_INET, SOCK_DGRAM, 0);
	ifr.ifr_mtu = mtu;
	require(ioctl(s, SIOCSIFMTU, &ifr) == 0, "the MTU");
	ifr.ifr_qlen = QUEUE_LEN;
	require(ioctl(s, SIOCSIFTXQLEN, &ifr) == 0, "the length of its queue");
	memset(&ifr.ifr_addr, 0, sizeof(ifr.ifr_addr));
	in->sin_family = AF_INET;
	inet_pton(AF_INET, v4, &in->sin_addr);
	require(ioctl(s, SIOCSIFADDR, &ifr) == 0, "an IPv4 address");
	inet_pton(AF_INET, "255.255.255.0", &in->sin_addr);
	require(ioctl(s, SIOCSIFNETMASK, &ifr) == 0, "an IPv4 netmask");
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	require(ioctl(s, SIOCSIFFLAGS, &ifr) == 0, "the device up");
	if (v6)
		add_v6(v6);
	close(s);
	return tun;
}
