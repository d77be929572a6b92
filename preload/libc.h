/*
 * The real functions behind the names we replace.
 *
 * One macro list, one table, bound all at once. Until libc_bind() has run, the
 * plain system calls in the table are made directly, those of signals too, and the rest are
 * NULL, so a library whose constructor runs before ours can already use sockets.
 */
#ifndef MESHWRAP_PRELOAD_LIBC_H
#define MESHWRAP_PRELOAD_LIBC_H

#include <dirent.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

/*
 * Gives a function the C name libc knows it by. Written so, and not as a plain
 * definition, because libc's headers declare these with argument types
 * (transparent unions) that only gcc lets one redefine.
 */
#ifndef MESHWRAP_TRACER
#define SHIM_EXPORT(ret, name, args)                                                \
	ret shim_##name args __asm__(#name) __attribute__((visibility("default"))); \
	ret shim_##name args
#else
/* In the tracer they are plain functions, and the table below makes calls in the traced program. */
#define SHIM_EXPORT(ret, name, args) ret shim_##name args
#endif

/* Plain system calls: usable at any time, from signal handlers too. */
#define LIBC_SOCKET_CALLS(X)                                                                \
	X(int, connect, (int fd, const struct sockaddr *addr, socklen_t len))               \
	X(int, bind, (int fd, const struct sockaddr *addr, socklen_t len))                  \
	X(int, accept, (int fd, struct sockaddr *addr, socklen_t *len))                     \
	X(int, accept4, (int fd, struct sockaddr *addr, socklen_t *len, int flags))         \
	X(int, getsockname, (int fd, struct sockaddr *addr, socklen_t *len))                \
	X(int, getpeername, (int fd, struct sockaddr *addr, socklen_t *len))                \
	X(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len))      \
	X(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len)) \
	X(ssize_t, sendto,                                                                  \
	  (int fd, const void *data, size_t n, int flags, const struct sockaddr *addr,      \
	   socklen_t len))                                                                  \
	X(ssize_t, sendmsg, (int fd, const struct msghdr *msg, int flags))                  \
	X(int, sendmmsg, (int fd, struct mmsghdr *msgs, unsigned count, int flags))         \
	X(ssize_t, recvfrom,                                                                \
	  (int fd, void *data, size_t n, int flags, struct sockaddr *addr, socklen_t *len)) \
	X(ssize_t, recvmsg, (int fd, struct msghdr *msg, int flags))                        \
	X(int, recvmmsg,                                                                    \
	  (int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout))

typedef int dirent_filter(const struct dirent *entry);
typedef int dirent_order(const struct dirent **a, const struct dirent **b);

#define LIBC_NAME_CALLS(X)                                                                \
	X(int, ioctl, (int fd, unsigned long request, void *arg))                         \
	X(ssize_t, recv, (int fd, void *data, size_t n, int flags))                       \
	X(ssize_t, __recv_chk, (int fd, void *data, size_t n, size_t size, int flags))    \
	X(ssize_t, __recvfrom_chk,                                                        \
	  (int fd, void *data, size_t n, size_t size, int flags, struct sockaddr *addr,   \
	   socklen_t *len))                                                               \
	X(int, getaddrinfo,                                                               \
	  (const char *node, const char *service, const struct addrinfo *hints,           \
	   struct addrinfo **list))                                                       \
	X(void, freeaddrinfo, (struct addrinfo * list))                                   \
	X(int, getnameinfo,                                                               \
	  (const struct sockaddr *addr, socklen_t len, char *host, socklen_t host_len,    \
	   char *service, socklen_t service_len, int flags))                              \
	X(struct hostent *, gethostbyname, (const char *name))                            \
	X(struct hostent *, gethostbyname2, (const char *name, int family))               \
	X(int, gethostbyname_r,                                                           \
	  (const char *name, struct hostent *ret, char *buf, size_t buf_len,              \
	   struct hostent **result, int *error))                                          \
	X(int, gethostbyname2_r,                                                          \
	  (const char *name, int family, struct hostent *ret, char *buf, size_t buf_len,  \
	   struct hostent **result, int *error))                                          \
	X(struct hostent *, gethostbyaddr, (const void *addr, socklen_t len, int family)) \
	X(int, gethostbyaddr_r,                                                           \
	  (const void *addr, socklen_t len, int family, struct hostent *ret, char *buf,   \
	   size_t buf_len, struct hostent **result, int *error))                          \
	X(int, getifaddrs, (struct ifaddrs * *list))                                      \
	X(void, freeifaddrs, (struct ifaddrs * list))                                     \
	X(unsigned, if_nametoindex, (const char *name))                                   \
	X(char *, if_indextoname, (unsigned index, char *name))                           \
	X(struct if_nameindex *, if_nameindex, (void))                                    \
	X(int, scandir,                                                                   \
	  (const char *path, struct dirent ***list, dirent_filter *filter, dirent_order *order))

#define LIBC_EXEC_CALLS(X)                                                               \
	X(int, execve, (const char *path, char *const argv[], char *const envp[]))       \
	X(int, execvpe, (const char *name, char *const argv[], char *const envp[]))      \
	X(int, fexecve, (int fd, char *const argv[], char *const envp[]))                \
	X(int, posix_spawn,                                                              \
	  (pid_t * pid, const char *path, const posix_spawn_file_actions_t *actions,     \
	   const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])) \
	X(int, posix_spawnp,                                                             \
	  (pid_t * pid, const char *name, const posix_spawn_file_actions_t *actions,     \
	   const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])) \
	X(int, pidfd_spawn,                                                              \
	  (int *pidfd, const char *path, const posix_spawn_file_actions_t *actions,      \
	   const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])) \
	X(int, pidfd_spawnp,                                                             \
	  (int *pidfd, const char *name, const posix_spawn_file_actions_t *actions,      \
	   const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])) \
	X(int, posix_spawn_file_actions_init, (posix_spawn_file_actions_t * actions))    \
	X(int, posix_spawn_file_actions_destroy, (posix_spawn_file_actions_t * actions)) \
	X(int, posix_spawn_file_actions_addchdir_np,                                     \
	  (posix_spawn_file_actions_t * actions, const char *path))                      \
	X(int, posix_spawn_file_actions_addfchdir_np,                                    \
	  (posix_spawn_file_actions_t * actions, int fd))                                \
	X(int, system, (const char *line))                                               \
	X(FILE *, popen, (const char *line, const char *type))

#define LIBC_SIGNAL_CALLS(X)                                                                   \
	X(int, sigprocmask, (int how, const sigset_t *set, sigset_t *old))                     \
	X(int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *old))                 \
	X(int, sigaction, (int number, const struct sigaction *action, struct sigaction *old)) \
	X(sighandler_t, signal, (int number, sighandler_t handler))

#define LIBC_MEMBER(ret, name, args) ret(*name) args;
struct libc_calls {
	LIBC_SOCKET_CALLS(LIBC_MEMBER)
	LIBC_NAME_CALLS(LIBC_MEMBER)
	LIBC_EXEC_CALLS(LIBC_MEMBER)
	LIBC_SIGNAL_CALLS(LIBC_MEMBER)
};
#undef LIBC_MEMBER

extern struct libc_calls libc;

#ifdef MESHWRAP_TRACER
#define LIBC_HOOK(ret, name, args) ret shim_##name args;
LIBC_SOCKET_CALLS(LIBC_HOOK)
LIBC_HOOK(int, ioctl, (int fd, unsigned long request, void *arg))
#undef LIBC_HOOK
#endif

/*
 * Is the process's libc glibc? A shim that was built for the other one may get into
 * it: by a system() or a system call that exec.c does not see.
 */
extern bool libc_is_glibc;

/*
 * glibc's pthread_atfork() is linked into who calls it, and needs this one. musl, where this
 * library may get to as well, has it not, and makes its own locks anew.
 */
extern int __register_atfork(void (*before)(void), void (*after)(void), void (*in_child)(void),
			     void *object);
#pragma weak __register_atfork

/* May be called again; not from a signal handler the first time. */
void libc_bind(void);

#endif
