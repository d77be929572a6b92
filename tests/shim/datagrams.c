#include "tests/shim/datagrams.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

int datagram(int family)
{
	struct timeval wait = { 2, 0 };
	int fd = new_socket(family, SOCK_DGRAM);

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)), 0);
	return fd;
}

void bind_to(int fd, int family, const char *ip)
{
	struct harness_addr addr = at(family, ip, 0);

	assert_int_equal(bind(fd, sa(&addr), addr.len), 0);
}

void format_mirror(const char *mesh, char text[static IP_TEXT_MAX])
{
	struct ip_addr ip = ip_from_v4(mirror_of(mesh));

	ip_format(&ip, text);
}

void assert_answer(int fd, const char *source, const char *data, const char *from)
{
	char got[128], wanted[128];
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	ssize_t n = recvfrom(fd, got, sizeof(got) - 1, 0, (struct sockaddr *)&addr, &len);

	assert_true(n > 0);
	got[n] = '\0';
	snprintf(wanted, sizeof(wanted), "%s %u %s", source, local_port(fd), data);
	assert_string_equal(got, wanted);
	assert_string_equal(sockaddr_text(&addr, len), from);
}

void send_to(int fd, int family, const char *ip, const char *data)
{
	struct harness_addr to = at(family, ip, PORT);

	assert_int_equal(sendto(fd, data, strlen(data), 0, sa(&to), to.len), strlen(data));
}
