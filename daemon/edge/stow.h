/*
 * Idle sockets without a descriptor: they wait as messages in flight.
 *
 * Knows nothing of what the sockets are. How many fit is the kernel's limit of
 * descriptors in flight (RLIMIT_NOFILE a user, without privilege).
 */
#ifndef MESHWRAP_DAEMON_EDGE_STOW_H
#define MESHWRAP_DAEMON_EDGE_STOW_H

#include <stdbool.h>
#include <stdint.h>

#define STOW_GROUP 32 /* sockets that share a message */

struct stow;

struct stow_item {
	int fd;
	void *owner;
	uint32_t ticket; /* never 0 */
};

enum stow_why {
	STOW_USE,  /* the socket shall live on: that may have to wait for a descriptor */
	STOW_CLOSE /* it is closed at once: for that there is always one */
};

/*
 * came_back(owner, fd): a socket that nobody asked for has its descriptor again,
 * which is now the owner's; its ticket is void. Only from inside stow_take() and stow_put().
 * NULL without memory or descriptors.
 */
struct stow *stow_create(void (*came_back)(void *owner, int fd));
/* Closes all sockets. */
void stow_destroy(struct stow *stow);

/*
 * Stows the first ones and returns how many: fewer than count, or none, when memory,
 * descriptors or their limit in flight do not allow more. Their tickets are set. The caller closes
 * their descriptors, none of which is registered with an epoll by then, and calls
 * stow_refill().
 */
unsigned stow_put(struct stow *stow, struct stow_item *items, unsigned count);
/* Makes sure of the descriptors that the next calls need. */
void stow_refill(struct stow *stow);
/* Frees a descriptor, to be used for a moment only; stow_refill() takes it back. */
bool stow_lend(struct stow *stow);
/* The socket's descriptor; its ticket is void. Or -errno (-EMFILE), and it stays. */
int stow_take(struct stow *stow, uint32_t ticket, enum stow_why why);
/* For when it cannot be taken to be closed: that is done at the next chance. */
void stow_forget(struct stow *stow, uint32_t ticket);

/* Readable when stow_ready() has something. */
int stow_event_fd(const struct stow *stow);
/* The owner of a socket that has bytes, an end or an error; each is told once. NULL: no more. */
void *stow_ready(struct stow *stow);
unsigned stow_count(const struct stow *stow);

#endif
