/*
 * meshrun, against a fake daemon: what it says, what it starts, what it becomes.
 *
 * MESHRUN, FAKEMESH and LIBMESHWRAP in the environment say where those are, and
 * LIBMESHWRAP_OWN the shim of meshrun's own libc if that is another one. A
 * copy of meshrun lies in a folder of the test with a "meshd" that is a script.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/ipc.h"
#include "shared/paths.h"
#include "tests/shim/mesh.h"

/* Folders of one test: bin with the copies, dir for the daemon. */
struct stage {
	char root[64], meshrun[96], meshd[96], dir[96], config[96];
};

static char output[4096];

static void copy(const char *from, const char *to)
{
	char command[512];

	assert_non_null(from);
	snprintf(command, sizeof(command), "cp '%s' '%s'", from, to);
	assert_int_equal(system(command), 0);
}

static int set_up(void **state)
{
	struct stage *s = calloc(1, sizeof(*s));
	char library[96];
	FILE *f;

	strcpy(s->root, "/tmp/meshwrap-run-XXXXXX");
	assert_non_null(mkdtemp(s->root));
	snprintf(s->meshrun, sizeof(s->meshrun), "%s/meshrun", s->root);
	snprintf(s->meshd, sizeof(s->meshd), "%s/meshd", s->root);
	snprintf(s->dir, sizeof(s->dir), "%s/dir", s->root);
	snprintf(s->config, sizeof(s->config), "%s/wg.conf", s->root);
	snprintf(library, sizeof(library), "%s/libmeshwrap.so", s->root);
	copy(getenv("MESHRUN"), s->meshrun);
	copy(getenv("LIBMESHWRAP"), library);
	if (getenv("LIBMESHWRAP_OWN"))
		copy(getenv("LIBMESHWRAP_OWN"), s->root);
	f = fopen(s->config, "w");
	assert_non_null(f);
	fclose(f);
	*state = s;
	return 0;
}

static int tear_down(void **state)
{
	struct stage *s = *state;
	char command[512];
	int r;

	/* A daemon that was started says its pid. */
	snprintf(command, sizeof(command),
		 "[ ! -s %s/pid ] || kill -9 $(cat %s/pid) 2>/dev/null; rm -rf %s", s->dir, s->dir,
		 s->root);
	r = system(command);
	free(s);
	return r == -1;
}

/* The script that plays meshd; $MESHWRAP_DIR is what meshrun gave it. */
static void write_meshd(const struct stage *s, const char *body)
{
	FILE *f = fopen(s->meshd, "w");

	assert_non_null(f);
	fprintf(f, "#!/bin/sh\n%s\n", body);
	fclose(f);
	assert_int_equal(chmod(s->meshd, 0755), 0);
}

static void write_good_meshd(const struct stage *s)
{
	char body[512];

	snprintf(body, sizeof(body), "exec '%s' \"$MESHWRAP_DIR\" 9 9>/dev/null",
		 getenv("FAKEMESH"));
	write_meshd(s, body);
}

static pid_t start(const struct stage *s, const char *const *argv, int *out)
{
	char *words[16] = { (char *)s->meshrun, "--dir", (char *)s->dir };
	int pipes[2], n = 3;
	pid_t pid;

	while (*argv)
		words[n++] = (char *)*argv++;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		dup2(pipes[1], 1);
		dup2(pipes[1], 2);
		unsetenv("MESHWRAP_CONFIG");
		execv(s->meshrun, words);
		_exit(99);
	}
	close(pipes[1]);
	*out = pipes[0];
	return pid;
}

static int end(pid_t pid, int out)
{
	size_t len = 0;
	ssize_t n;
	int status;

	while ((n = read(out, output + len, sizeof(output) - 1 - len)) > 0)
		len += (size_t)n;
	output[len] = '\0';
	close(out);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* meshrun --dir DIR words...; its output is in output. */
#define run(s, ...) run_words(s, (const char *const[]){ __VA_ARGS__, NULL })
static int run_words(const struct stage *s, const char *const *words)
{
	int out;
	pid_t pid = start(s, words, &out);

	return end(pid, out);
}

static void assert_sentence(const char *wanted)
{
	if (!strstr(output, wanted))
		fail_msg("not said: \"%s\" in \"%s\"", wanted, output);
	assert_ptr_equal(strchr(output, '\n'), output + strlen(output) - 1); /* one line */
}

static void test_without_daemon_and_config_says_what_to_do(void **state)
{
	assert_int_equal(run(*state, "true"), 1);
	assert_sentence("meshd --config FILE");
}

static void test_wrong_usage_is_two(void **state)
{
	assert_int_equal(run(*state, "--timeout", "soon", "true"), 2);
	assert_sentence("whole seconds");
	assert_int_equal(run(*state, "--"), 2);
	assert_sentence("no program");
	assert_int_equal(run(*state, "--no-such-option", "true"), 2);
}

static void test_programs_that_cannot_be_run_or_entered_are_told_apart(void **state)
{
	assert_int_equal(run(*state, "no-such-program"), 127);
	assert_sentence("no-such-program: no such program");
	assert_int_equal(run(*state, "/etc/passwd"), 126);
	assert_sentence("/etc/passwd");
	assert_int_equal(run(*state, "/etc"), 126);
	assert_sentence("/etc");
}

static void test_a_static_program_is_traced_and_its_status_is_its_own(void **state)
{
	struct stage *s = *state;

	if (access("/sbin/ldconfig", X_OK) < 0)
		skip(); /* the one static program of every glibc system */
	write_good_meshd(s);
	assert_int_equal(run(s, "--config", s->config, "/sbin/ldconfig", "--version"), 0);
	assert_non_null(strstr(output, "ldconfig"));
	assert_int_equal(run(s, "/sbin/ldconfig", "--no-such-option"), 64);
}

/* Else the tracer would not hear of one thread while another waits for the daemon's answer. */
static void test_a_traced_program_may_be_started_with_its_children_ignored(void **state)
{
	static const char ignore[] = "import os, signal, sys\n"
				     "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
				     "os.environ['MESHWRAP_TRACE'] = '1'\n"
				     "os.execv(sys.argv[1], sys.argv[1:])\n";
	static const char code[] =
		"import os, signal, socket, threading, time\n"
		"daemon = int(open(os.environ['MESHWRAP_DIR'] + '/" FILE_PID "').read())\n"
		"s, other = socket.socket(), socket.socket()\n"
		"os.kill(daemon, signal.SIGSTOP)\n"
		"threading.Thread(target=other.connect, args=(('" PEER_V4 "', 20000),)).start()\n"
		"time.sleep(0.3)\n"
		"begun = time.monotonic()\n"
		"s.getsockname()\n"
		"took = time.monotonic() - begun\n"
		"os.kill(daemon, signal.SIGCONT)\n"
		"print('at once' if took < 2 else took)\n";
	struct stage *s = *state;

	if (access("/usr/bin/python3", X_OK) < 0)
		skip();
	write_good_meshd(s);
	assert_int_equal(run(s, "--config", s->config, "/usr/bin/python3", "-c", ignore, s->meshrun,
			     "--", "/usr/bin/python3", "-c", code),
			 0);
	assert_string_equal(output, "at once\n");
}

static void test_a_set_uid_program_is_refused(void **state)
{
	struct stage *s = *state;
	char path[128];

	if (getuid() != 0)
		skip(); /* only root can make a file that is another user's and set-uid */
	snprintf(path, sizeof(path), "%s/setuid", s->root);
	copy("/bin/true", path);
	assert_int_equal(chown(path, 65534, 65534), 0);
	assert_int_equal(chmod(path, 04755), 0);
	assert_int_equal(run(s, path), 126);
	assert_sentence("set-uid");
}

/* The daemon lives, but its socket is away: closed, and --explain says which call failed how. */
static void test_a_daemon_that_cannot_be_asked_is_explained(void **state)
{
	static const char dial[] = "cd $MESHWRAP_DIR; mv " PATHS_CONTROL
				   " away; /usr/bin/python3 -c '"
				   "import socket; s = socket.socket();"
				   "print(s.connect_ex((\"" PEER_V4 "\", 1)))';"
				   "mv away " PATHS_CONTROL;
	struct stage *s = *state;
	char wanted[16];

	if (access("/usr/bin/python3", X_OK) < 0)
		skip();
	write_good_meshd(s);
	snprintf(wanted, sizeof(wanted), "%d\n", ENETUNREACH);
	assert_int_equal(run(s, "--config", s->config, "--explain", "sh", "-c", dial), 0);
	assert_non_null(strstr(output, ": the daemon cannot be asked: connect: ENOENT\n"));
	assert_non_null(strstr(output, wanted));
	setenv("MESHWRAP_TRACE", "1", 1);
	assert_int_equal(run(s, "--explain", "sh", "-c", dial), 0);
	unsetenv("MESHWRAP_TRACE");
	assert_non_null(strstr(output, ": the daemon cannot be asked: connect: ENOENT\n"));
	assert_non_null(strstr(output, wanted));
}

static void test_an_unreadable_config_is_told(void **state)
{
	assert_int_equal(run(*state, "--config", "/nonexistent/wg.conf", "true"), 1);
	assert_sentence("/nonexistent/wg.conf");
}

static void test_the_daemon_is_started_once_and_stays(void **state)
{
	struct stage *s = *state;
	struct stat before, after;
	char pid_file[128];

	write_good_meshd(s);
	snprintf(pid_file, sizeof(pid_file), "%s/pid", s->dir);
	assert_int_equal(run(s, "--config", s->config, "--", "sh", "-c", "echo ran; exit 7"), 7);
	assert_string_equal(output, "ran\n");
	assert_int_equal(stat(pid_file, &before), 0);
	assert_int_equal(run(s, "--config", s->config, "sh", "-c", "exit 3"), 3);
	assert_int_equal(stat(pid_file, &after), 0);
	assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	assert_int_equal(run(s, "true"), 0);
}

static void test_the_program_gets_the_environment_and_no_child(void **state)
{
	struct stage *s = *state;
	char wanted[512];

	write_good_meshd(s);
	setenv("LD_PRELOAD", "", 1);
	assert_int_equal(run(s, "--config", s->config, "sh", "-c",
			     "echo \"$LD_PRELOAD $MESHWRAP_DIR $RAY_LD_PRELOAD_ON_WORKERS\";"
			     "cat /proc/$$/task/$$/children"),
			 0);
	unsetenv("LD_PRELOAD");
	snprintf(wanted, sizeof(wanted), "%s/libmeshwrap.so %s 1\n", s->root, s->dir);
	assert_memory_equal(output, wanted, strlen(wanted));
	/* Of children there is only cat itself. */
	assert_null(strchr(output + strlen(wanted), ' ')
			    ? strchr(strchr(output + strlen(wanted), ' ') + 1, ' ')
			    : NULL);
}

static void test_an_existing_preload_stays_first(void **state)
{
	struct stage *s = *state;
	char wanted[256];

#ifdef SANITIZED
	skip(); /* a sanitized meshrun takes no library before its own */
#endif
	write_good_meshd(s);
	setenv("LD_PRELOAD", "libm.so.6", 1);
	assert_int_equal(run(s, "--config", s->config, "sh", "-c", "echo $LD_PRELOAD"), 0);
	unsetenv("LD_PRELOAD");
	snprintf(wanted, sizeof(wanted), "libm.so.6:%s/libmeshwrap.so\n", s->root);
	assert_string_equal(output, wanted);
}

static void test_a_daemon_that_ends_is_quoted(void **state)
{
	struct stage *s = *state;

	write_meshd(s,
		    "echo 'meshd: starting'; echo 'meshd: wg.conf:3: no PrivateKey' >&2; exit 1");
	assert_int_equal(run(s, "--config", s->config, "echo", "ran"), 1);
	assert_string_equal(output, "meshd: wg.conf:3: no PrivateKey\n");
	write_meshd(s, "exit 1");
	assert_int_equal(truncate(strcat(strcpy(output, s->dir), "/meshd.log"), 0), 0);
	assert_int_equal(run(s, "--config", s->config, "echo", "ran"), 1);
	assert_sentence("without a word");
}

static void test_a_daemon_that_does_not_get_ready_is_ended(void **state)
{
	struct stage *s = *state;

	write_meshd(s, "echo $$ >\"$MESHWRAP_DIR/pid\"; exec sleep 30");
	assert_int_equal(run(s, "--config", s->config, "--timeout", "1", "echo", "ran"), 1);
	assert_sentence("not usable after 1 s");
	snprintf(output, sizeof(output), "kill -0 $(cat %s/pid) 2>/dev/null", s->dir);
	for (int i = 0; i < 100 && system(output) == 0; i++)
		usleep(10000);
	assert_int_not_equal(system(output), 0);
}

static void test_an_interrupt_while_waiting_ends_everything(void **state)
{
	struct stage *s = *state;
	const char *words[] = { "--config", s->config, "echo", "ran", NULL };
	char pid_file[128];
	int out;
	pid_t pid;

	write_meshd(s, "echo $$ >\"$MESHWRAP_DIR/pid\"; exec sleep 30");
	snprintf(pid_file, sizeof(pid_file), "%s/pid", s->dir);
	pid = start(s, words, &out);
	for (int i = 0; i < 200 && access(pid_file, F_OK) < 0; i++)
		usleep(10000);
	usleep(20000);
	kill(pid, SIGINT);
	assert_int_equal(end(pid, out), 128 + SIGINT);
	assert_string_equal(output, "");
}

static void test_signals_and_deaths_are_the_programs_own(void **state)
{
	struct stage *s = *state;
	const char *words[] = { "--config",
				s->config,
				"sh",
				"-c",
				"trap 'exit 9' USR1; echo ready; while :; do sleep 0.02; done",
				NULL };
	int out;
	pid_t pid;

	write_good_meshd(s);
	pid = start(s, words, &out);
	assert_int_equal(read(out, output, sizeof(output)), 6);
	kill(pid, SIGUSR1);
	assert_int_equal(end(pid, out), 9);
	assert_int_equal(run(s, "sh", "-c", "kill -KILL $$"), 1000 + SIGKILL);
}

/* Runs words as PID 1 of a new PID namespace; the status, or -1 when that is not allowed. */
static int run_as_init(const struct stage *s, const char *const *words)
{
	int status, out;
	pid_t pid = fork(), init;

	if (pid == 0) {
		if (unshare(CLONE_NEWPID) < 0)
			_exit(98);
		init = start(s, words, &out);
		_exit(end(init, out));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && WEXITSTATUS(status) != 98 ? WEXITSTATUS(status) : -1;
}

static void test_as_pid_one_it_reaps_forwards_and_reports(void **state)
{
	struct stage *s = *state;
	/* An orphan that has ended must be gone, not a zombie that kill -0 still finds. */
	const char *orphan[] = { "sh", "-c",
				 "p=$(sh -c 'sleep 0.05 >/dev/null 2>&1 & echo $!'); sleep 0.3;"
				 "kill -0 $p 2>/dev/null && exit 50; exit 5",
				 NULL };
	const char *killed[] = { "sh", "-c", "kill -TERM $$", NULL };
	const char *forwarded[] = {
		"sh", "-c", "trap 'exit 11' USR1; kill -USR1 1; while :; do sleep 0.02; done", NULL
	};

	write_good_meshd(s);
	assert_int_equal(run(s, "--config", s->config, "true"), 0);
	if (run_as_init(s, killed) < 0)
		skip(); /* a PID namespace, to be PID 1 in, takes a right we do not have */
	assert_int_equal(run_as_init(s, killed), 128 + SIGTERM);
	assert_int_equal(run_as_init(s, forwarded), 11);
	assert_int_equal(run_as_init(s, orphan), 5);
}

/* ---- joining by a server ---- */

#define KEY "hskey-auth-0123456789abcdef"

/* Plays meshd: keeps what it was told, then is ready. */
static void write_login_meshd(const struct stage *s)
{
	char body[512];

	snprintf(body, sizeof(body),
		 "[ \"$1\" != --auth-key-fd ] || eval \"cat <&$2\" >\"$MESHWRAP_DIR/key\"\n"
		 "echo \"$*\" >\"$MESHWRAP_DIR/args\"; env >\"$MESHWRAP_DIR/env\"\n"
		 "exec '%s' \"$MESHWRAP_DIR\" 9 9>/dev/null",
		 getenv("FAKEMESH"));
	write_meshd(s, body);
}

static const char *read_back(const struct stage *s, const char *file)
{
	static char text[8192];
	char path[128];
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", s->dir, file);
	f = fopen(path, "r");
	assert_non_null(f);
	len = fread(text, 1, sizeof(text) - 1, f);
	text[len] = '\0';
	fclose(f);
	return text;
}

static void test_a_login_is_handed_to_the_daemon_and_the_key_to_nobody_else(void **state)
{
	struct stage *s = *state;

	write_login_meshd(s);
	setenv("TS_AUTHKEY", KEY, 1);
	assert_int_equal(run(s, "--login-server", "http://h:8080", "--accept-dns=false", "sh", "-c",
			     "env; tr '\\0' '\\n' </proc/$$/environ; echo ran"),
			 0);
	unsetenv("TS_AUTHKEY");
	assert_non_null(strstr(output, "ran\n"));
	assert_null(strstr(output, "TS_AUTHKEY"));
	assert_null(strstr(output, KEY));
	assert_string_equal(read_back(s, "key"), KEY);
	assert_non_null(
		strstr(read_back(s, "args"), " --login-server=http://h:8080 --accept-dns=false\n"));
	assert_null(strstr(read_back(s, "args"), KEY));
	assert_null(strstr(read_back(s, "env"), KEY));
	assert_null(strstr(read_back(s, "meshd.log"), KEY));
}

static void test_the_environment_alone_starts_a_login(void **state)
{
	struct stage *s = *state;

	write_login_meshd(s);
	setenv("TS_EXTRA_ARGS", "--login-server=http://h --auth-key=" KEY, 1);
	assert_int_equal(run(s, "sh", "-c", "env"), 0);
	unsetenv("TS_EXTRA_ARGS");
	assert_null(strstr(output, KEY));
	assert_non_null(strstr(read_back(s, "env"), "TS_EXTRA_ARGS=--login-server=http://h"));
}

static void test_logins_that_cannot_be_are_refused(void **state)
{
	static char longer[5000];
	struct stage *s = *state;

	assert_int_equal(run(s, "--auth-key", KEY, "true"), 2);
	assert_sentence("TS_AUTHKEY");
	assert_null(strstr(output, KEY));
	assert_int_equal(run(s, "--config", s->config, "--login-server", "http://h", "true"), 2);
	assert_sentence("exclude each other");
	memset(longer, 'k', sizeof(longer) - 1);
	setenv("TS_AUTHKEY", longer, 1);
	assert_int_equal(run(s, "true"), 2);
	unsetenv("TS_AUTHKEY");
	assert_sentence("too long");
}

/* A daemon that is not ready, with a status. */
struct starting {
	int control, api;
	const char *status;
	int asks_until_ready;
};

static int listen_at(const struct stage *s, const char *file, int type)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(name.sun_path, sizeof(name.sun_path), "%s/%s", s->dir, file);
	assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(listen(fd, 16), 0);
	return fd;
}

static void answer_ready(struct starting *d)
{
	struct ipc_reply reply = { .magic = IPC_MAGIC, .version = IPC_VERSION, .type = IPC_READY };
	int fd = accept(d->control, NULL, NULL);
	char question[64];

	reply.error = d->asks_until_ready-- > 0 ? EAGAIN : 0;
	if (recv(fd, question, sizeof(question), 0) > 0)
		send(fd, &reply, sizeof(reply), MSG_NOSIGNAL);
	close(fd);
}

static void answer_status(struct starting *d)
{
	int fd = accept(d->api, NULL, NULL);
	char question[512];

	if (recv(fd, question, sizeof(question), 0) > 0)
		dprintf(fd, "HTTP/1.0 200 OK\r\n\r\n%s", d->status);
	close(fd);
}

static void *play_daemon(void *arg)
{
	struct starting *d = arg;
	struct pollfd p[] = { { d->control, POLLIN, 0 }, { d->api, POLLIN, 0 } };

	while (poll(p, 2, 1000) > 0) {
		if (p[0].revents & POLLIN)
			answer_ready(d);
		if (p[1].revents & POLLIN)
			answer_status(d);
	}
	return NULL;
}

static int run_against(struct stage *s, struct starting *d, const char *timeout)
{
	pthread_t thread;
	int status;

	assert_int_equal(mkdir(s->dir, 0700), 0);
	d->control = listen_at(s, "control", SOCK_SEQPACKET);
	d->api = listen_at(s, "api", SOCK_STREAM);
	assert_int_equal(pthread_create(&thread, NULL, play_daemon, d), 0);
	status = run(s, "--timeout", timeout, "echo", "ran");
	pthread_join(thread, NULL);
	close(d->control);
	close(d->api);
	return status;
}

static void test_a_login_that_failed_is_told_at_once(void **state)
{
	struct starting d = { .status = "{\"Self\": {\"LoginError\": \"not this\"}, "
					"\"BackendState\": \"NeedsLogin\", \"LoginError\": "
					"\"the auth key \\u001b[1m has expired\"}",
			      .asks_until_ready = 1000 };

	assert_int_equal(run_against(*state, &d, "20"), 1);
	assert_sentence("meshrun: the auth key  [1m has expired\n");
}

static void test_the_url_to_visit_is_shown_once(void **state)
{
	struct starting d = { .status = "{\"AuthURL\" : \"http://h/register/a?b=1\\u0026c\"}",
			      .asks_until_ready = 30 };

	assert_int_equal(run_against(*state, &d, "20"), 0);
	assert_string_equal(output, "meshrun: waiting for login: to let this node join, visit\n\n"
				    "\thttp://h/register/a?b=1&c\n\nran\n");
}

static void test_an_approval_that_does_not_come_ends_by_the_timeout(void **state)
{
	struct starting d = { .status = "{\"BackendState\":\"NeedsMachineAuth\"}",
			      .asks_until_ready = 1000 };

	assert_int_equal(run_against(*state, &d, "1"), 1);
	assert_non_null(strstr(output, "meshrun: waiting until an administrator approves"));
	assert_non_null(strstr(output, "not usable after 1 s (NeedsMachineAuth)"));
}

int main(void)
{
#define meshrun_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		meshrun_test(test_without_daemon_and_config_says_what_to_do),
		meshrun_test(test_wrong_usage_is_two),
		meshrun_test(test_programs_that_cannot_be_run_or_entered_are_told_apart),
		meshrun_test(test_a_static_program_is_traced_and_its_status_is_its_own),
		meshrun_test(test_a_traced_program_may_be_started_with_its_children_ignored),
		meshrun_test(test_a_set_uid_program_is_refused),
		meshrun_test(test_a_daemon_that_cannot_be_asked_is_explained),
		meshrun_test(test_an_unreadable_config_is_told),
		meshrun_test(test_the_daemon_is_started_once_and_stays),
		meshrun_test(test_the_program_gets_the_environment_and_no_child),
		meshrun_test(test_an_existing_preload_stays_first),
		meshrun_test(test_a_daemon_that_ends_is_quoted),
		meshrun_test(test_a_daemon_that_does_not_get_ready_is_ended),
		meshrun_test(test_an_interrupt_while_waiting_ends_everything),
		meshrun_test(test_signals_and_deaths_are_the_programs_own),
		meshrun_test(test_a_login_is_handed_to_the_daemon_and_the_key_to_nobody_else),
		meshrun_test(test_the_environment_alone_starts_a_login),
		meshrun_test(test_logins_that_cannot_be_are_refused),
		meshrun_test(test_a_login_that_failed_is_told_at_once),
		meshrun_test(test_the_url_to_visit_is_shown_once),
		meshrun_test(test_an_approval_that_does_not_come_ends_by_the_timeout),
		meshrun_test(test_as_pid_one_it_reaps_forwards_and_reports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
