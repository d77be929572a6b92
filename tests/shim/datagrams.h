/* UDP sockets of the shim's tests, and the peer that says what it got, and from whom. */
#ifndef MESHWRAP_TESTS_SHIM_DATAGRAMS_H
#define MESHWRAP_TESTS_SHIM_DATAGRAMS_H

#include "tests/shim/harness.h"

#define PORT 5353

/* Waits for 2 s at most. */
int datagram(int family);
void bind_to(int fd, int family, const char *ip);
void format_mirror(const char *mesh, char text[static IP_TEXT_MAX]);
/* The peer's answer: that it saw us as source:port, and who answered. */
void assert_answer(int fd, const char *source, const char *data, const char *from);
/* To PORT there. */
void send_to(int fd, int family, const char *ip, const char *data);

#endif
