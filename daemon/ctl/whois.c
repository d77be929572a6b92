/* meshctl whois: which node, and whose, an address is. */
#include <stdio.h>
#include <string.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/flags.h"
#include "daemon/ctl/http.h"

#define PADDING 5

/* "[a b]", without the first skip of them. */
static void print_list(json_object *list, size_t skip)
{
	putchar('[');
	for (size_t i = skip; i < ctl_length(list); i++)
		printf("%s%s", i > skip ? " " : "", ctl_text_at(list, i));
	puts("]");
}

static void print_label(const char *label, int width)
{
	printf("  %-*s", width, label);
}

static void print_machine(json_object *node, const char *tags)
{
	json_object *addresses = ctl_part(node, "Addresses"),
		    *allowed = ctl_part(node, "AllowedIPs");
	bool has_more = ctl_length(allowed) > 2;
	int width = (int)strlen(has_more ? "AllowedIPs:" : "Addresses:") + PADDING;
	const char *name = ctl_text(node, "Name");
	size_t len = strlen(name);

	if (len && name[len - 1] == '.')
		len--;
	puts("Machine:");
	print_label("Name:", width);
	printf("%.*s\n", (int)len, name);
	print_label("ID:", width);
	puts(ctl_text(node, "StableID"));
	print_label("Addresses:", width);
	print_list(addresses, 0);
	if (has_more) {
		print_label("AllowedIPs:", width);
		print_list(allowed, ctl_length(addresses));
	}
	if (*tags) {
		print_label("Tags:", width);
		puts(tags);
	}
}

static void print_caps(json_object *caps)
{
	if (!json_object_is_type(caps, json_type_object) || !json_object_object_length(caps))
		return;
	puts("Capabilities:");
	json_object_object_foreach(caps, name, values)
	{
		printf("  - %s%s\n", name, ctl_length(values) ? ":" : "");
		for (size_t i = 0; i < ctl_length(values); i++)
			printf("      %s\n",
			       json_object_to_json_string_ext(
				       json_object_array_get_idx(values, i),
				       JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	}
}

static void print(json_object *who)
{
	json_object *node = ctl_part(who, "Node"), *user = ctl_part(who, "UserProfile");
	json_object *list = ctl_part(node, "Tags");
	int width = (int)strlen("Name:") + PADDING;
	char tags[4096] = "";
	size_t len = 0;

	for (size_t i = 0; i < ctl_length(list) && len < sizeof(tags); i++)
		len += (size_t)snprintf(tags + len, sizeof(tags) - len, "%s%s", i ? ", " : "",
					ctl_text_at(list, i));
	print_machine(node, tags);
	if (!*tags) {
		puts("User:");
		print_label("Name:", width);
		puts(ctl_text(user, "LoginName"));
		print_label("ID:", width);
		printf("%lld\n", (long long)ctl_number(user, "ID"));
	}
	print_caps(ctl_part(who, "CapMap"));
}

int ctl_whois(const struct ctl *ctl, int argc, char **argv)
{
	bool json = ctl->json;
	const char *proto = NULL;
	const struct flag flags[] = { { "json", FLAG_BOOL, { .is_set = &json } },
				      { "proto", FLAG_TEXT, { .text = &proto } },
				      { NULL, FLAG_BOOL, { NULL } } };
	char error[FLAGS_ERROR_MAX], path[256] = "whois?addr=";
	size_t prefix = strlen(path);
	struct ctl_answer answer;
	int words = flags_take(flags, argc, argv, error);

	if (words != 1) {
		fprintf(stderr, "%s\n",
			words < 0    ? error
			: words == 0 ? "missing argument, expected one peer"
				     : "too many arguments, expected at most one peer");
		return words < 0 ? 2 : 1;
	}
	if (http_escape(argv[0], path + prefix, sizeof(path) - prefix) != 0) {
		fputs("peer not found\n", stderr);
		return 1;
	}
	if (!ctl_ask_or_tell(ctl, "GET", path, CTL_ANSWER_MS, &answer))
		return 1;
	if (json) {
		ctl_print_json(answer.json);
		putchar('\n');
	} else {
		print(answer.json);
	}
	ctl_answer_finish(&answer);
	return 0;
}
