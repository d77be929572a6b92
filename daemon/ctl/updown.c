/* meshctl up, down, logout, reload: what changes the node. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/flags.h"

#define LOOK_EVERY_US  200000
#define LOGOUT_MS      35000
#define RELOAD_MS      30000 /* thousands of peers, on a busy machine */
#define LOGIN_AFTER_MS 1000  /* without a URL: ask for one */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/*
 * Words after flags are wrong for all of them. -1: go on; else the exit status. elsewhere: where
 * else a flag that is unknown here may be known, or NULL.
 */
static int take_flags(const struct flag *flags, int argc, char **argv, const char *elsewhere)
{
	char error[FLAGS_ERROR_MAX];
	int words = flags_take(flags, argc, argv, error);

	if (words == 0)
		return -1;
	fprintf(stderr, "%s\n", words < 0 ? error : "too many non-flag arguments");
	if (elsewhere && words < 0 && strncmp(error, FLAGS_UNKNOWN, strlen(FLAGS_UNKNOWN)) == 0)
		fprintf(stderr, "%s\n", elsewhere);
	return words < 0 ? 2 : 1;
}

static bool post(const struct ctl *ctl, const char *path, int timeout_ms)
{
	struct ctl_answer answer;

	if (!ctl_ask_or_tell(ctl, "POST", path, timeout_ms, &answer))
		return false;
	ctl_answer_finish(&answer);
	return true;
}

struct waiting {
	const struct ctl *ctl;
	int64_t began_ms, timeout_ms; /* 0: no limit */
	char url[1024];
	bool json, has_asked, is_unapproved;
};

/* One of the stock client's blocks: each time there is something for a person, and at the end. */
static void print_block(const char *state, const char *key, const char *text)
{
	json_object *block = json_object_new_object();

	if (key)
		json_object_object_add(block, key, json_object_new_string(text));
	json_object_object_add(block, "BackendState", json_object_new_string(state));
	ctl_print_json(block);
	putchar('\n');
	fflush(stdout);
	json_object_put(block);
}

static void tell_url(struct waiting *w, const char *state, const char *url)
{
	snprintf(w->url, sizeof(w->url), "%s", url);
	if (w->json)
		print_block(state, "AuthURL", url);
	else
		fprintf(stderr, "\nTo authenticate, visit:\n\n\t%s\n\n", url);
}

static void tell_unapproved(struct waiting *w, const char *state)
{
	w->is_unapproved = true;
	if (w->json)
		print_block(state, NULL, NULL);
	else
		fputs("Machine is not yet approved by tailnet admin.\n", stderr);
}

/* One look at a node that shall run: -1 not yet, else the exit status. */
static int look(struct waiting *w, json_object *status)
{
	const char *state = ctl_text(status, "BackendState"), *url = ctl_text(status, "AuthURL");
	const char *error = ctl_text(status, "LoginError");

	if (strcmp(state, "Running") == 0) {
		if (w->json)
			print_block(state, NULL, NULL);
		else if (w->url[0] || w->is_unapproved)
			fputs("Success.\n", stderr);
		return 0;
	}
	if (*error) {
		if (w->json)
			print_block(state, "Error", error);
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	if (*url && strcmp(url, w->url) != 0)
		tell_url(w, state, url);
	if (strcmp(state, "NeedsMachineAuth") == 0 && !w->is_unapproved)
		tell_unapproved(w, state);
	if (strcmp(state, "NeedsLogin") == 0 && !*url && !w->has_asked &&
	    now_ms() - w->began_ms >= LOGIN_AFTER_MS) {
		w->has_asked = true;
		if (!post(w->ctl, "login-interactive", CTL_ANSWER_MS))
			return 1;
	}
	return -1;
}

static int wait_running(struct waiting *w)
{
	struct ctl_answer answer;
	int result;

	for (;;) {
		if (!ctl_ask_or_tell(w->ctl, "GET", "status?peers=false", CTL_ANSWER_MS, &answer))
			return 1;
		result = look(w, answer.json);
		ctl_answer_finish(&answer);
		if (result >= 0)
			return result;
		if (w->timeout_ms && now_ms() - w->began_ms >= w->timeout_ms) {
			fputs("timeout waiting for the node to enter a Running state; check health "
			      "with \"meshctl status\"\n",
			      stderr);
			return 1;
		}
		usleep(LOOK_EVERY_US);
	}
}

int ctl_up(const struct ctl *ctl, int argc, char **argv)
{
	struct waiting w = { .ctl = ctl, .json = ctl->json };
	const char *risk; /* as scripts of the stock client accept one; there is none here */
	const struct flag flags[] = { { "timeout", FLAG_DURATION, { .ms = &w.timeout_ms } },
				      { "json", FLAG_BOOL, { .is_set = &w.json } },
				      { "accept-risk", FLAG_TEXT, { .text = &risk } },
				      { NULL, FLAG_BOOL, { NULL } } };
	int status = take_flags(flags, argc, argv, "other settings are meshd's options");

	if (status >= 0)
		return status;
	w.began_ms = now_ms();
	return post(ctl, "up", CTL_ANSWER_MS) ? wait_running(&w) : 1;
}

int ctl_down(const struct ctl *ctl, int argc, char **argv)
{
	const char *risk; /* as for up */
	const struct flag flags[] = { { "accept-risk", FLAG_TEXT, { .text = &risk } },
				      { NULL, FLAG_BOOL, { NULL } } };
	struct ctl_answer answer;
	bool was_stopped;
	int status = take_flags(flags, argc, argv, NULL);

	if (status >= 0)
		return status;
	if (!ctl_ask_or_tell(ctl, "GET", "status?peers=false", CTL_ANSWER_MS, &answer))
		return 1;
	was_stopped = strcmp(ctl_text(answer.json, "BackendState"), "Stopped") == 0;
	ctl_answer_finish(&answer);
	if (was_stopped) {
		fputs("Tailscale was already stopped.\n", stderr);
		return 0;
	}
	return post(ctl, "down", CTL_ANSWER_MS) ? 0 : 1;
}

int ctl_logout(const struct ctl *ctl, int argc, char **argv)
{
	static const struct flag none[] = { { NULL, FLAG_BOOL, { NULL } } };
	int status = take_flags(none, argc, argv, NULL);

	if (status >= 0)
		return status;
	return post(ctl, "logout", LOGOUT_MS) ? 0 : 1;
}

int ctl_reload(const struct ctl *ctl, int argc, char **argv)
{
	bool json = ctl->json;
	const struct flag flags[] = { { "json", FLAG_BOOL, { .is_set = &json } },
				      { NULL, FLAG_BOOL, { NULL } } };
	struct ctl_answer answer;
	int status = take_flags(flags, argc, argv, NULL);

	if (status >= 0)
		return status;
	if (!ctl_ask_or_tell(ctl, "POST", "reload", RELOAD_MS, &answer))
		return 1;
	if (json) {
		ctl_print_json(answer.json);
		putchar('\n');
	} else {
		printf("peers: %lld added, %lld changed, %lld removed, %lld as before\n",
		       (long long)ctl_number(answer.json, "Added"),
		       (long long)ctl_number(answer.json, "Changed"),
		       (long long)ctl_number(answer.json, "Removed"),
		       (long long)ctl_number(answer.json, "Unchanged"));
	}
	ctl_answer_finish(&answer);
	return 0;
}
