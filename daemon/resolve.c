/*
 * Looking up names with the system's own resolver.
 *
 * getaddrinfo() waits, for many seconds where no name server answers, and there
 * is no way to end it. So it runs in a thread of its own, one at a time, which
 * nobody waits for: the job belongs to both sides and the last one frees it.
 * libevent's own DNS client was rejected: it knows nothing of nsswitch.conf, and
 * a name must mean here what it means to everybody else on the machine.
 */
#include "daemon/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/loop.h"
#include "shared/thread.h"

#define HOST_MAX     256
#define THREAD_STACK (256 * 1024)

struct job {
	atomic_uint holders; /* the thread and the resolver */
	int wake_fd;         /* a duplicate: the resolver may be gone */
	char host[HOST_MAX];
	uint16_t port;
	unsigned token;
	/* written by the thread before it wakes the resolver */
	const char *error;
	struct endpoint found[RESOLVE_MAX];
	unsigned found_count;
};

struct resolver {
	resolve_done *done;
	void *owner;
	int wake_fd;
	struct event *event;
	struct job *job;          /* NULL: none runs */
	const struct job *answer; /* while done() runs */
};

bool resolve_is_numeric(const char *host)
{
	struct ip_addr ip;

	return ip_parse(host, &ip) == 0;
}

/* Not worth a question, nor a leak of it. */
bool resolve_is_invalid(const char *host)
{
	static const char suffix[] = ".invalid";
	size_t len = strlen(host), n = sizeof(suffix) - 1;

	if (len > 0 && host[len - 1] == '.')
		len--;
	return len >= n && strncasecmp(host + len - n, suffix, n) == 0;
}

/* NULL, or what went wrong in words. All of them, in the order in which the system tries them. */
static const char *look_up(const char *host, uint16_t port, struct endpoint found[], unsigned max,
			   unsigned *count)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC,
					.ai_socktype = SOCK_DGRAM,
					.ai_flags = AI_ADDRCONFIG };
	struct addrinfo *list = NULL;
	int code;

	*count = 0;
	if (ip_parse(host, &found[0].addr) == 0) {
		found[0].port = port;
		*count = 1;
		return NULL;
	}
	if (resolve_is_invalid(host))
		return gai_strerror(EAI_NONAME);
	code = getaddrinfo(host, NULL, &hints, &list);
	if (code != 0)
		return gai_strerror(code);
	for (const struct addrinfo *a = list; a && *count < max; a = a->ai_next) {
		if (endpoint_from_sockaddr(a->ai_addr, a->ai_addrlen, &found[*count]) == 0)
			found[(*count)++].port = port;
	}
	freeaddrinfo(list);
	return *count > 0 ? NULL : "it has no address";
}

static void job_unref(struct job *job)
{
	if (atomic_fetch_sub(&job->holders, 1) != 1)
		return;
	close(job->wake_fd);
	free(job);
}

static void *run_job(void *arg)
{
	struct job *job = arg;
	uint64_t one = 1;

	job->error = look_up(job->host, job->port, job->found, RESOLVE_MAX, &job->found_count);
	/* Cannot fail: an eventfd with room for it, and ours. */
	while (write(job->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	job_unref(job);
	return NULL;
}

static void job_finished(evutil_socket_t fd, short events, void *arg)
{
	struct resolver *r = arg;
	struct job *job = r->job;
	uint64_t count;

	(void)events;
	if (read(fd, &count, sizeof(count)) < 0 || !job)
		return;
	r->job = NULL;
	r->answer = job;
	r->done(r->owner, job->token, job->error, &job->found[0]);
	job_unref(job);
}

struct resolver *resolver_create(struct loop *loop, resolve_done *done, void *owner)
{
	struct resolver *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->done = done;
	r->owner = owner;
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->wake_fd >= 0)
		r->event = event_new(loop_base(loop), r->wake_fd, EV_READ | EV_PERSIST,
				     job_finished, r);
	if (!r->event || event_add(r->event, NULL) != 0) {
		resolver_destroy(r);
		return NULL;
	}
	return r;
}

void resolver_destroy(struct resolver *r)
{
	if (!r)
		return;
	if (r->event)
		event_free(r->event);
	if (r->wake_fd >= 0)
		close(r->wake_fd);
	if (r->job)
		job_unref(r->job);
	free(r);
}

unsigned resolver_found(const struct resolver *r, const struct endpoint **found)
{
	*found = r->answer->found;
	return r->answer->found_count;
}

bool resolver_is_busy(const struct resolver *r)
{
	return r->job != NULL;
}

/* Nobody waits for it. */
static int start_thread(struct job *job)
{
	pthread_t thread;
	int err = thread_start(&thread, THREAD_STACK, run_job, job);

	if (!err)
		pthread_detach(thread);
	return err;
}

int resolver_start(struct resolver *r, const char *host, uint16_t port, unsigned token)
{
	struct job *job;
	int err;

	if (r->job)
		return -EBUSY;
	job = calloc(1, sizeof(*job));
	if (!job)
		return -ENOMEM;
	snprintf(job->host, sizeof(job->host), "%s", host);
	job->port = port;
	job->token = token;
	job->holders = 2;
	job->wake_fd = dup(r->wake_fd);
	err = job->wake_fd < 0 ? -errno : start_thread(job);
	if (err < 0) {
		if (job->wake_fd >= 0)
			close(job->wake_fd);
		free(job);
		return err;
	}
	r->job = job;
	return 0;
}
