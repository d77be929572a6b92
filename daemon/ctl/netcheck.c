/* meshctl netcheck: what the network between here and the relays allows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/flags.h"
#include "shared/util.h"

#define WAIT_MS    35000
#define REGION_MAX 1024

struct region {
	const char *id;
	double seconds;
};

static void print_address(const char *family, bool works, const char *address, const char *without)
{
	if (works && *address)
		printf("\t* %s: yes, %s\n", family, address);
	else
		printf("\t* %s: %s\n", family, works ? "yes" : without);
}

static void print_port_mapping(json_object *report)
{
	static const struct {
		const char *key, *name;
	} kinds[] = { { "UPnP", "UPnP" }, { "PMP", "NAT-PMP" }, { "PCP", "PCP" } };
	bool was_checked = false, any = false;

	printf("\t* PortMapping: ");
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		was_checked = was_checked || ctl_part(report, kinds[i].key);
		if (ctl_flag(report, kinds[i].key))
			printf("%s%s", any ? ", " : "", kinds[i].name);
		any = any || ctl_flag(report, kinds[i].key);
	}
	puts(was_checked ? "" : "not checked");
}

static int compare_latency(const void *a, const void *b)
{
	double x = ((const struct region *)a)->seconds, y = ((const struct region *)b)->seconds;

	return (x > y) - (x < y);
}

static void print_latencies(json_object *regions, json_object *latency)
{
	struct region list[REGION_MAX];
	size_t count = 0;
	char value[32];

	puts("\t* DERP latency:");
	json_object_object_foreach(latency, id, ns)
	{
		if (count < REGION_MAX)
			list[count++] = (struct region){ id, json_object_get_double(ns) / 1e9 };
	}
	qsort(list, count, sizeof(list[0]), compare_latency);
	for (size_t i = 0; i < count; i++) {
		json_object *region = ctl_part(regions, list[i].id);

		snprintf(value, sizeof(value), "%.1fms", list[i].seconds * 1000);
		printf("\t\t- %3s: %-7s (%s)\n", ctl_text(region, "Code"), value,
		       ctl_text(region, "Name"));
	}
}

static void print(json_object *report, json_object *regions)
{
	json_object *latency = ctl_part(report, "RegionLatency");
	bool has_latency = json_object_is_type(latency, json_type_object) &&
			   json_object_object_length(latency) > 0;
	json_object *varies = ctl_part(report, "MappingVariesByDestIP");
	const char *v6_without = ctl_flag(report, "OSHasIPv6") ? "no, but OS has support"
							       : "no, unavailable in OS";
	char id[24];

	printf("\nReport:\n\t* Time: %s\n", ctl_text(report, "Now"));
	if (*ctl_text(report, "Proxy"))
		printf("\t* Proxy to relays: %s\n", ctl_text(report, "Proxy"));
	printf("\t* UDP: %s\n", ctl_flag(report, "UDP") ? "true" : "false");
	print_address("IPv4", *ctl_text(report, "GlobalV4"), ctl_text(report, "GlobalV4"),
		      "(no addr found)");
	print_address("IPv6", *ctl_text(report, "GlobalV6"), ctl_text(report, "GlobalV6"),
		      ctl_flag(report, "IPv6") ? "(no addr found)" : v6_without);
	printf("\t* MappingVariesByDestIP: %s\n", varies ? json_object_get_string(varies) : "");
	print_port_mapping(report);
	snprintf(id, sizeof(id), "%lld", (long long)ctl_number(report, "PreferredDERP"));
	if (!has_latency) {
		puts("\t* Nearest DERP: unknown (no response to latency probes)");
		return;
	}
	printf("\t* Nearest DERP: %s\n", ctl_text(ctl_part(regions, id), "Name"));
	print_latencies(regions, latency);
}

/* Regions and the proxy are for people's eyes, no part of the report. */
static void print_json(json_object *report, bool is_line)
{
	int how = is_line ? JSON_C_TO_STRING_PLAIN
			  : JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_PRETTY_TAB |
				    JSON_C_TO_STRING_SPACED;

	json_object_object_del(report, "Regions");
	json_object_object_del(report, "Proxy");
	fputs("# Warning: this JSON format is not yet considered a stable interface\n", stderr);
	puts(json_object_to_json_string_ext(report, how | JSON_C_TO_STRING_NOSLASHESCAPE));
}

int ctl_netcheck(const struct ctl *ctl, int argc, char **argv)
{
	const char *format = ctl->json ? "json" : "";
	bool verbose = false, json = false;
	const struct flag flags[] = { { "format", FLAG_TEXT, { .text = &format } },
				      { "json", FLAG_BOOL, { .is_set = &json } },
				      { "verbose", FLAG_BOOL, { .is_set = &verbose } },
				      { NULL, FLAG_BOOL, { NULL } } };
	char error[FLAGS_ERROR_MAX];
	struct ctl_answer answer;
	int words = flags_take(flags, argc, argv, error);
	bool is_json, is_line;

	if (words != 0) {
		fprintf(stderr, "%s\n", words < 0 ? error : "netcheck takes only flags");
		return words < 0 ? 2 : 1;
	}
	is_line = strcmp(format, "json-line") == 0;
	is_json = is_line || json || strcmp(format, "json") == 0;
	if (*format && !is_json) {
		fprintf(stderr, "unknown output format \"%s\"\n", format);
		return 1;
	}
	if (!ctl_ask_or_tell(ctl, "POST", "netcheck", WAIT_MS, &answer))
		return 1;
	if (is_json)
		print_json(answer.json, is_line);
	else
		print(answer.json, ctl_part(answer.json, "Regions"));
	ctl_answer_finish(&answer);
	return 0;
}
