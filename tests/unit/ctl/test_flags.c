/* meshctl's flags: the stock client's ways to write them. */
#include "daemon/ctl/flags.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

static bool json, peers;
static int count;
static int64_t timeout_ms;
static const char *text;

static int take(int argc, const char *const *words, char **argv, char *error)
{
	const struct flag flags[] = { { "json", FLAG_BOOL, { .is_set = &json } },
				      { "peers", FLAG_BOOL, { .is_set = &peers } },
				      { "c", FLAG_NUMBER, { .number = &count } },
				      { "timeout", FLAG_DURATION, { .ms = &timeout_ms } },
				      { "assert", FLAG_TEXT, { .text = &text } },
				      { NULL, FLAG_BOOL, { NULL } } };

	json = false;
	peers = true;
	text = NULL;
	for (int i = 0; i < argc; i++)
		argv[i] = (char *)words[i];
	return flags_take(flags, argc, argv, error);
}

static void test_flags_stand_anywhere_and_in_all_forms(void **state)
{
	const char *const words[] = { "-c",       "3",     "--json",     "node", "--peers=false",
				      "-timeout", "1m30s", "--assert=x", "--",   "-b" };
	char *argv[10], error[FLAGS_ERROR_MAX];

	(void)state;
	assert_int_equal(take(10, words, argv, error), 2);
	assert_string_equal(argv[0], "node");
	assert_string_equal(argv[1], "-b");
	assert_true(json);
	assert_false(peers);
	assert_int_equal(count, 3);
	assert_int_equal(timeout_ms, 90000);
	assert_string_equal(text, "x");
}

static void test_wrong_flags_are_told(void **state)
{
	static const struct {
		const char *word, *sentence;
	} wrong[] = {
		{ "--nothing", "flag provided but not defined: -nothing" },
		{ "--json=maybe",
		  "invalid value \"maybe\" for flag -json: it takes true or false" },
		{ "-c=-1",
		  "invalid value \"-1\" for flag -c: it takes a whole number, at most 2147483647" },
		{ "-c=3x",
		  "invalid value \"3x\" for flag -c: it takes a whole number, at most 2147483647" },
		{ "-c= 3",
		  "invalid value \" 3\" for flag -c: it takes a whole number, at most 2147483647" },
		{ "-c=",
		  "invalid value \"\" for flag -c: it takes a whole number, at most 2147483647" },
		{ "-c=99999999999",
		  "invalid value \"99999999999\" for flag -c: it takes a whole number, at most "
		  "2147483647" },
		{ "-c", "flag needs an argument: -c" },
		{ "--timeout=5",
		  "invalid value \"5\" for flag -timeout: a time has a unit, as in 5s" },
		{ "--timeout=",
		  "invalid value \"\" for flag -timeout: a time has a unit, as in 5s" },
	};
	char *argv[1], error[FLAGS_ERROR_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(take(1, &wrong[i].word, argv, error), -1);
		assert_string_equal(error, wrong[i].sentence);
	}
}

static void test_durations(void **state)
{
	int64_t ms;

	(void)state;
	assert_true(flags_parse_duration("500ms", &ms) && ms == 500);
	assert_true(flags_parse_duration("1.5s", &ms) && ms == 1500);
	assert_true(flags_parse_duration("1h2m", &ms) && ms == 3720000);
	assert_true(flags_parse_duration("2000us", &ms) && ms == 2);
	assert_true(flags_parse_duration("0", &ms) && ms == 0);
	assert_false(flags_parse_duration("-5s", &ms));
	assert_false(flags_parse_duration("5d", &ms));
	assert_false(flags_parse_duration("1e300h", &ms));
	assert_false(flags_parse_duration("s", &ms));
	assert_false(flags_parse_duration(".s", &ms));
	assert_true(flags_parse_duration(".5s", &ms) && ms == 500);
	/* What strtod() knows besides: the stock client refuses it, too. */
	assert_false(flags_parse_duration("0x10s", &ms));
	assert_false(flags_parse_duration("1e3s", &ms));
	assert_false(flags_parse_duration("1e3ms", &ms));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flags_stand_anywhere_and_in_all_forms),
		cmocka_unit_test(test_wrong_flags_are_told),
		cmocka_unit_test(test_durations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
