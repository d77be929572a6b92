/*
 * Finding the daemon, or starting one, and waiting until the mesh is usable.
 *
 * Usable is what the daemon answers to IPC_READY. A daemon we start belongs to
 * nobody: its own session, nothing of our terminal, output in its folder. It
 * must not be our child either, since we become the program, which would then
 * have a child it never made. So a keeper process stands between while we wait:
 * it tells us if the daemon ends, and once the mesh is usable it is killed.
 *
 * While a server decides whether this node may join, the daemon's status tells
 * what a person must know: the URL to visit, or why it will not be.
 *
 * Two meshruns may start a daemon at once. One of them ends with "already
 * running"; whoever started it keeps waiting if somebody answers.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/meshrun.h"
#include "preload/meshrun_status.h"
#include "shared/ipc.h"
#include "shared/log.h"
#include "shared/util.h"

#define LOG_FILE      "meshd.log"
#define ASK_EVERY_MS  20
#define LOOK_EVERY_MS 200  /* at the status */
#define SAY_AFTER_MS  1000 /* progress, on a terminal */
#define END_WITHIN_MS 2000
#define WORDS_MAX     2048 /* of the daemon, to be shown */
#define GRACE_MS      500  /* after our daemon ended: is there another one? */

/* What the keeper tells: first the daemon's pid, or -errno; then its wait status. */
struct keeper {
	pid_t pid, daemon;
	int pipe, status;
	bool daemon_ended;
};

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
	caught = number;
}

/* HIDDEN: its folder or its socket is closed to us. */
enum readiness { NO_DAEMON, DAEMON_STARTING, DAEMON_READY, DAEMON_REFUSES, DAEMON_HIDDEN };

static enum readiness exchange(int fd)
{
	char answer[sizeof(struct ipc_reply) + 1];
	struct ipc_request request;
	struct ipc_reply reply;
	ssize_t n;

	ipc_make_request(&request, IPC_READY, NULL, NULL, 0);
	if (send(fd, &request, sizeof(request), MSG_NOSIGNAL) != sizeof(request))
		return DAEMON_REFUSES;
	n = recv(fd, answer, sizeof(answer), 0);
	if (n == 0) /* the answer may lie behind the end (control.c) */
		n = recv(fd, answer, sizeof(answer), 0);
	if (n < 0)
		return errno == EAGAIN ? DAEMON_STARTING : DAEMON_REFUSES;
	if (ipc_check_reply(answer, (size_t)n, IPC_READY, &reply) < 0)
		return DAEMON_REFUSES;
	return reply.error == 0 ? DAEMON_READY : DAEMON_STARTING;
}

/*
 * Another user could have made the folder where ours would be, and would see and answer all that
 * programs send. Only root can make the common one, and a named one is the user's own choice.
 */
static bool is_trusted(int fd, const char *dir, const struct daemon_options *o)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	if (o->dir_is_chosen || strcmp(dir, PATHS_COMMON_DIR) == 0)
		return true;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
	       (who.uid == geteuid() || who.uid == 0);
}

static enum readiness ask(const char *dir, const struct daemon_options *o)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval wait = { .tv_sec = 1 };
	enum readiness answer = NO_DAEMON;
	int fd;

	if (paths_join(dir, PATHS_CONTROL, addr.sun_path, sizeof(addr.sun_path)) < 0)
		return NO_DAEMON;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return NO_DAEMON;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		answer = is_trusted(fd, dir, o) ? exchange(fd) : DAEMON_REFUSES;
	else if (errno == EACCES || errno == EPERM)
		answer = DAEMON_HIDDEN;
	else if (errno == EAGAIN)
		answer = DAEMON_STARTING;
	close(fd);
	return answer;
}

/* ---- starting one ---- */

static bool try_path(const char *folder, const char *file, char path[static PATH_MAX])
{
	return snprintf(path, PATH_MAX, "%s/%s", folder, file) < PATH_MAX &&
	       access(path, X_OK) == 0;
}

/* Beside meshrun, in the build tree, or where distributions put such programs. */
static bool find_meshd(char path[static PATH_MAX])
{
	static const char *const places[] = { "meshd", "../daemon/meshd", "../sbin/meshd",
					      "../libexec/meshwrap/meshd" };
	char folder[PATH_MAX];

	if (own_folder(folder) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(places); i++)
		if (try_path(folder, places[i], path))
			return true;
	return false;
}

static int make_folder(const char *dir)
{
	struct stat st;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
		complain("cannot make the runtime folder %s: %s; choose another with --dir", dir,
			 strerror(errno));
		return -1;
	}
	if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
		complain("the runtime folder %s is no folder; choose another with --dir", dir);
		return -1;
	}
	return 0;
}

static int open_log(const char *dir, off_t *start)
{
	char path[PATHS_MAX + 16];
	struct stat st;
	int fd = -1;

	if (paths_join(dir, LOG_FILE, path, sizeof(path)) == 0)
		fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		complain("cannot write %s/" LOG_FILE ": %s", dir, strerror(errno));
	*start = fd >= 0 && fstat(fd, &st) == 0 ? st.st_size : 0;
	return fd;
}

/* What the daemon is started with. */
struct launch {
	char meshd[PATH_MAX];
	const char *dir, *words[LOGIN_WORDS_MAX + 4];
	const char *extra;   /* TS_EXTRA_ARGS for it alone, or NULL */
	char key_number[16]; /* of key_fd, for its command line */
	int log, key_fd;     /* key_fd negative: none */
};

static void become_daemon(const struct launch *l)
{
	int null = open("/dev/null", O_RDONLY);

	if (null < 0) {
		dprintf(l->log, "meshrun: cannot open /dev/null for meshd: %s\n", strerror(errno));
		_exit(EXIT_NOT_OURS);
	}
	setsid();
	prctl(PR_SET_PDEATHSIG, 0);
	if (dup2(null, STDIN_FILENO) < 0 || dup2(l->log, STDOUT_FILENO) < 0 ||
	    dup2(l->log, STDERR_FILENO) < 0 || setenv("MESHWRAP_DIR", l->dir, 1) < 0 ||
	    (l->extra && setenv("TS_EXTRA_ARGS", l->extra, 1) < 0) ||
	    (l->key_fd >= 0 && fcntl(l->key_fd, F_SETFD, 0) < 0))
		_exit(EXIT_NOT_OURS);
	unsetenv("LD_PRELOAD");
	if (null > STDERR_FILENO)
		close(null);
	execv(l->meshd, (char *const *)l->words);
	dprintf(STDERR_FILENO, "%s: %s\n", l->meshd, strerror(errno));
	_exit(EXIT_NOT_FOUND);
}

/* The keeper's life: start the daemon, say its pid, wait for its end. */
static void keep(const struct launch *l, int pipe)
{
	pid_t daemon = fork();
	int status = 0;

	if (daemon == 0)
		become_daemon(l);
	if (daemon < 0)
		daemon = -errno;
	if (l->key_fd >= 0)
		close(l->key_fd);
	if (write(pipe, &daemon, sizeof(daemon)) != sizeof(daemon) || daemon < 0)
		_exit(1);
	/* Nothing of the terminal's concerns it: we end it ourselves. */
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	while (waitpid(daemon, &status, 0) < 0 && errno == EINTR)
		;
	if (write(pipe, &status, sizeof(status)) != sizeof(status))
		_exit(1);
	_exit(0);
}

/* 0 or -errno; the keeper is to be ended in either case. */
static int start_keeper(const struct launch *l, struct keeper *k)
{
	int pipes[2], err;
	ssize_t n;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	k->pid = fork();
	err = k->pid < 0 ? -errno : 0;
	if (k->pid == 0) {
		close(pipes[0]);
		keep(l, pipes[1]);
	}
	close(pipes[1]);
	if (err) {
		close(pipes[0]);
		return err;
	}
	k->pipe = pipes[0];
	do
		n = read(k->pipe, &k->daemon, sizeof(k->daemon));
	while (n < 0 && errno == EINTR);
	if (n == sizeof(k->daemon) && k->daemon > 0)
		return 0;
	k->daemon_ended = true; /* and has no number to be ended by */
	return n == sizeof(k->daemon) ? k->daemon : -EIO;
}

static void end_keeper(struct keeper *k)
{
	if (k->pid <= 0)
		return;
	kill(k->pid, SIGKILL);
	while (waitpid(k->pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(k->pipe);
	k->pid = 0;
}

/* Sleeps a little; notices the daemon's end. */
static void keeper_look(struct keeper *k, int wait_ms)
{
	struct pollfd p = { k->pid > 0 && !k->daemon_ended ? k->pipe : -1, POLLIN, 0 };

	if (poll(&p, 1, wait_ms) != 1)
		return;
	k->daemon_ended = true;
	if (read(k->pipe, &k->status, sizeof(k->status)) != sizeof(k->status))
		k->status = 0;
}

/* We give up, so the daemon we started must not stay half-started. */
static void end_daemon(struct keeper *k)
{
	kill(k->daemon, SIGTERM);
	keeper_look(k, END_WITHIN_MS);
	if (!k->daemon_ended)
		kill(k->daemon, SIGKILL);
}

/* The end of what the daemon wrote since start, without the last line's end. False: nothing. */
static bool read_daemons_words(int log, off_t start, char text[static WORDS_MAX])
{
	struct stat st;
	ssize_t n;

	if (fstat(log, &st) == 0 && st.st_size - start > WORDS_MAX - 1)
		start = st.st_size - WORDS_MAX + 1;
	n = pread(log, text, WORDS_MAX - 1, start);
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
		n--;
	text[MAX(n, 0)] = '\0';
	return n > 0;
}

/* The last line of these words, for the user. */
static void show_daemons_words(int log, off_t start, const char *dir)
{
	char text[WORDS_MAX], *line;
	struct statvfs room;

	if (!read_daemons_words(log, start, text)) {
		if (statvfs(dir, &room) == 0 && !room.f_bavail)
			complain("no room is left on the file system of the runtime folder %s",
				 dir);
		else
			complain("meshd ended without a word; its log is %s/" LOG_FILE, dir);
		return;
	}
	line = strrchr(text, '\n');
	fprintf(stderr, "%s\n", log_behind_time(line ? line + 1 : text));
}

/* Why the daemon has ended. */
static void show_end(int status, int log, off_t start, const char *dir)
{
	int number = WTERMSIG(status);

	if (!WIFSIGNALED(status))
		show_daemons_words(log, start, dir);
	else
		complain("meshd was killed by signal %d%s; its log is %s/" LOG_FILE, number,
			 number == SIGKILL ? ", as the kernel does where memory has run out" : "",
			 dir);
}

/*
 * The latest warning of the server among them, which is what a mesh is waited for: files that
 * others may read, say, are warned of, too, and keep nobody from the mesh. NULL: there was none.
 */
static const char *find_reason(char text[static WORDS_MAX])
{
	static const char level[] = "warning: ", module[] = "control: ";
	const char *words, *found = NULL;
	char *line;

	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		words = log_behind_time(line);
		if (strncmp(words, level, sizeof(level) - 1) == 0 &&
		    strncmp(words + sizeof(level) - 1, module, sizeof(module) - 1) == 0)
			found = words + sizeof(level) - 1;
	}
	return found;
}

/* ---- waiting ---- */

struct wait {
	const char *dir;
	const struct daemon_options *options;
	struct keeper *k; /* its pid 0: the daemon is not ours */
	int log;          /* of ours */
	off_t log_start;
	uint64_t began, ended, next_look;
	bool said;       /* that we wait */
	bool for_person; /* who visits the URL or approves the node */
	struct login_status status;
	char said_url[STATUS_TEXT_MAX];
};

static void say_progress(struct wait *w)
{
	if (w->said || !isatty(STDERR_FILENO) || now_ms() - w->began < SAY_AFTER_MS)
		return;
	fprintf(stderr, "meshrun: waiting for the mesh ...\n");
	w->said = true;
}

/* What the daemon says of its login, told once. False: it has failed for good. */
static bool look_at_login(struct wait *w)
{
	struct login_status *status = &w->status;

	if (now_ms() < w->next_look || !status_ask(w->dir, status))
		return true;
	w->next_look = now_ms() + LOOK_EVERY_MS;
	if (status->error[0]) {
		complain("%s", status->error);
		return false;
	}
	if (strcmp(status->state, "Stopped") == 0) { /* by a person: it starts as wanted */
		complain("the mesh was taken down; 'meshctl --dir %s up' brings it back", w->dir);
		return false;
	}
	if (status->url[0] && strcmp(status->url, w->said_url) != 0) {
		fprintf(stderr,
			"meshrun: waiting for login: to let this node join, visit\n\n\t%s\n\n",
			status->url);
		memcpy(w->said_url, status->url, sizeof(w->said_url));
		w->for_person = w->said = true;
	}
	if (strcmp(status->state, "NeedsMachineAuth") == 0 && !w->for_person) {
		fprintf(stderr, "meshrun: waiting until an administrator approves this node\n");
		w->for_person = w->said = true;
	}
	return true;
}

static bool is_too_late(const struct wait *w)
{
	const struct daemon_options *o = w->options;
	char text[WORDS_MAX], where[PATHS_MAX + 32];
	const char *reason = NULL;

	if (w->for_person && !o->timeout_is_chosen)
		return false;
	if (now_ms() - w->began < o->timeout_s * UINT64_C(1000))
		return false;
	/* Ours ends now, and meshctl would find nobody to ask. */
	snprintf(where, sizeof(where), w->k->pid ? "%s/" LOG_FILE : "meshctl --dir %s status",
		 w->dir);
	if (w->k->pid && read_daemons_words(w->log, w->log_start, text))
		reason = find_reason(text);
	complain(
		"the mesh is not usable after %u s%s%s%s%s%s; wait longer with --timeout, or see %s",
		o->timeout_s, w->status.state[0] ? " (" : "", w->status.state,
		w->status.state[0] ? ")" : "", reason ? ": " : "", reason ? reason : "", where);
	return true;
}

/* Is there no daemon any more to wait for? Says so. */
static bool has_ended(struct wait *w, enum readiness answer)
{
	if (w->k->daemon_ended && !w->ended)
		w->ended = now_ms();
	if (answer != NO_DAEMON)
		return false;
	if (w->ended && now_ms() - w->ended >= GRACE_MS) {
		show_end(w->k->status, w->log, w->log_start, w->dir);
		return true;
	}
	if (!w->k->pid) {
		complain("the daemon of %s has ended; start it again", w->dir);
		return true;
	}
	return false;
}

/* Until ready (0) or not (the exit status). */
static int wait_ready(struct wait *w)
{
	w->began = now_ms();
	w->next_look = w->began + LOOK_EVERY_MS;
	for (;;) {
		enum readiness answer = ask(w->dir, w->options);

		if (answer == DAEMON_READY)
			return 0;
		if (caught)
			return 128 + caught;
		if (has_ended(w, answer) || (answer == DAEMON_STARTING && !look_at_login(w)) ||
		    is_too_late(w))
			return EXIT_NO_MESH;
		say_progress(w);
		keeper_look(w->k, ASK_EVERY_MS);
	}
}

/* How a login's daemon gets the key, from word n on. The count of words, -1 after complaining. */
static int add_key(struct launch *l, struct login *login, int n)
{
	l->extra = login->extra;
	if (login_key_file(login)) {
		l->words[n++] = "--auth-key-file";
		l->words[n++] = login_key_file(login);
	} else if (login->key_len) {
		l->key_fd = login_key_pipe(login);
		if (l->key_fd < 0) {
			complain("cannot hand over the auth key: %s", strerror(-l->key_fd));
			return -1;
		}
		snprintf(l->key_number, sizeof(l->key_number), "%d", l->key_fd);
		l->words[n++] = "--auth-key-fd";
		l->words[n++] = l->key_number;
	}
	return n;
}

/* The daemon's command line. False after complaining. */
static bool make_words(struct launch *l, const struct daemon_options *o)
{
	int n = 0;

	l->words[n++] = l->meshd;
	if (o->config) {
		l->words[n++] = "--config";
		l->words[n++] = o->config;
	} else {
		/* Before the rest, so that --auth-key-file wins over the environment. */
		n = add_key(l, o->login, n);
	}
	for (unsigned i = 0; n >= 0 && i < o->login->count; i++)
		l->words[n++] = o->login->words[i];
	return n >= 0;
}

static int start_and_wait(const char *dir, const struct daemon_options *o)
{
	struct launch l = { .dir = dir, .key_fd = -1, .log = -1 };
	struct keeper k = { .pid = 0 };
	struct wait w = { .dir = dir, .options = o, .k = &k };
	int status = EXIT_NO_MESH, err;

	if (o->config && access(o->config, R_OK) < 0) {
		complain("cannot read the config file %s: %s", o->config, strerror(errno));
		return EXIT_NO_MESH;
	}
	if (!find_meshd(l.meshd)) {
		complain("meshd is not installed beside meshrun; start it yourself: meshd --help "
			 "says how");
		return EXIT_NO_MESH;
	}
	if (make_folder(dir) < 0)
		return EXIT_NO_MESH;
	l.log = w.log = open_log(dir, &w.log_start);
	if (l.log < 0)
		return EXIT_NO_MESH;
	if (make_words(&l, o)) {
		err = start_keeper(&l, &k);
		if (err < 0)
			complain("cannot start meshd: %s", strerror(-err));
		else
			status = wait_ready(&w);
	}
	if (l.key_fd >= 0)
		close(l.key_fd);
	if (status && k.pid > 0 && !k.daemon_ended)
		end_daemon(&k);
	end_keeper(&k);
	close(l.log);
	return status;
}

static int wait_or_start(char dir[static PATHS_MAX], const struct daemon_options *o)
{
	struct keeper none = { .pid = 0 };
	enum readiness answer = ask(dir, o);

	if (answer == NO_DAEMON && !o->dir_is_chosen && ask(PATHS_COMMON_DIR, o) != NO_DAEMON) {
		memcpy(dir, PATHS_COMMON_DIR, sizeof(PATHS_COMMON_DIR));
		answer = ask(dir, o);
	}
	if (answer == DAEMON_REFUSES) {
		complain("the daemon of %s does not talk to us, or is not to be trusted; is it "
			 "another user's (then name it with --dir), or another version?",
			 dir);
		return EXIT_NO_MESH;
	}
	if (answer == DAEMON_HIDDEN) {
		complain("no right to use the runtime folder %s: run as the user whose it is, "
			 "start its daemon with --allow-all-users, or choose another with --dir",
			 dir);
		return EXIT_NO_MESH;
	}
	if (answer != NO_DAEMON)
		return wait_ready(&(struct wait){ .dir = dir, .options = o, .k = &none });
	if (o->config || o->login)
		return start_and_wait(dir, o);
	complain("no mesh daemon runs for %s; start one with meshd --config FILE, give meshrun "
		 "--config FILE or --login-server URL, or set TS_AUTHKEY",
		 dir);
	return EXIT_NO_MESH;
}

int daemon_wait(char dir[static PATHS_MAX], const struct daemon_options *options)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction act = { .sa_handler = on_signal }, old[ARRAY_LEN(numbers)];
	int status;

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		sigaction(numbers[i], NULL, &old[i]);
		if (old[i].sa_handler != SIG_IGN) /* nohup stays */
			sigaction(numbers[i], &act, NULL);
	}
	status = wait_or_start(dir, options);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		sigaction(numbers[i], &old[i], NULL);
	if (!status && caught)
		status = 128 + caught;
	return status;
}
