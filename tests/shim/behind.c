/* Behind the shim in the order of libraries, in front of libc. */
#include "tests/shim/behind.h"

#include <dlfcn.h>
#include <stddef.h>
#include <sys/socket.h>

int behind_calls;

int behind_bind(int fd, const struct sockaddr *addr, socklen_t len) __asm__("bind");
int behind_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	int (*real)(int, const struct sockaddr *, socklen_t);

	*(void **)&real = dlsym(dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD), "bind");
	behind_calls++;
	return real(fd, addr, len);
}

const char *behind_path(void)
{
	Dl_info info;

	return dladdr((void *)behind_path, &info) ? info.dli_fname : NULL;
}
