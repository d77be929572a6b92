/* Socket options that name the mesh interface. */
#ifndef MESHWRAP_PRELOAD_OPTIONS_H
#define MESHWRAP_PRELOAD_OPTIONS_H

#include <netinet/in.h>
#include <sys/socket.h>

/* The kernel's numbers, which not every libc has. */
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif
#ifndef IPV6_UNICAST_IF
#define IPV6_UNICAST_IF 76
#endif

/* The kernel's answer to SO_BINDTODEVICE, of *len bytes in room, as the program must see it. */
void options_show_device(int fd, void *value, socklen_t room, socklen_t *len);
/* The same for SO_BINDTOIFINDEX. */
void options_show_index(int fd, int *index);

#endif
