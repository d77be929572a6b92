#include "tests/shim/stage_daemon.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shared/ipc.h"
#include "tests/shim/stage.h"

static int listen_at(const struct stage *s, const char *file, int type)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(name.sun_path, sizeof(name.sun_path), "%s/%s", s->dir, file);
	assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(fd, 16), 0);
	return fd;
}

static void answer_ready(struct stage_daemon *d)
{
	struct ipc_reply reply = { .magic = IPC_MAGIC, .version = IPC_VERSION, .type = IPC_READY };
	int fd = accept(d->control, NULL, NULL);
	char question[64];

	reply.error = d->asks_until_ready-- > 0 ? EAGAIN : 0;
	if (recv(fd, question, sizeof(question), 0) > 0)
		send(fd, &reply, sizeof(reply), MSG_NOSIGNAL);
	close(fd);
}

static void answer_status(struct stage_daemon *d)
{
	int fd = accept(d->api, NULL, NULL);
	char question[512];

	if (recv(fd, question, sizeof(question), 0) > 0)
		dprintf(fd, "HTTP/1.0 200 OK\r\n\r\n%s", d->status);
	close(fd);
}

static void *play_daemon(void *arg)
{
	struct stage_daemon *d = arg;
	struct pollfd p[] = { { d->control, POLLIN, 0 }, { d->api, POLLIN, 0 } };

	while (!d->is_over) {
		if (poll(p, 2, 20) <= 0)
			continue;
		if (p[0].revents & POLLIN)
			answer_ready(d);
		if (p[1].revents & POLLIN)
			answer_status(d);
	}
	return NULL;
}

void stage_daemon_start(const struct stage *s, struct stage_daemon *d)
{
	assert_int_equal(mkdir(s->dir, 0700), 0);
	d->control = listen_at(s, "control", SOCK_SEQPACKET);
	d->api = listen_at(s, "api", SOCK_STREAM);
	assert_int_equal(pthread_create(&d->thread, NULL, play_daemon, d), 0);
}

void stage_daemon_end(struct stage_daemon *d)
{
	d->is_over = true;
	pthread_join(d->thread, NULL);
	close(d->control);
	close(d->api);
}
