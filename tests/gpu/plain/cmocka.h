/* cmocka - the part of the test library that our tests use, for machines that have it not (tests/gpu/run): one process, tests in
 * order, the first failed assertion ends its test. */
#ifndef TESTS_GPU_PLAIN_CMOCKA_H
#define TESTS_GPU_PLAIN_CMOCKA_H
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
	const char *name;
	void (*run)(void **state);
};

static jmp_buf plain_end;

__attribute__((noreturn, unused)) static void plain_leave(int how)
{
	longjmp(plain_end, how);
}

#define plain_fail(...)                                                     \
	do {                                                                \
		fprintf(stdout, "%s:%d: ", __FILE__, __LINE__);             \
		fprintf(stdout, __VA_ARGS__);                               \
		fprintf(stdout, "\n");                                      \
		plain_leave(1);                                             \
	} while (0)

#define cmocka_unit_test(test) {#test, test}
#define print_message(...)     printf(__VA_ARGS__)
#define fail_msg(...)	       plain_fail(__VA_ARGS__)
#define fail()		       plain_fail("failed")
#define skip()		       plain_leave(2)
#define assert_true(x)                           \
	do {                                     \
		if (!(x))                        \
			plain_fail("%s", #x);    \
	} while (0)
#define assert_false(x)	   assert_true(!(x))
#define assert_non_null(x) assert_true((x) != NULL)
#define assert_null(x)	   assert_true((x) == NULL)
#define assert_int_equal(a, b)                                                               \
	do {                                                                                 \
		long long plain_a = (long long)(a), plain_b = (long long)(b);                \
		if (plain_a != plain_b)                                                      \
			plain_fail("%s is %lld, expected %lld (%s)", #a, plain_a, plain_b, #b); \
	} while (0)
#define assert_int_not_equal(a, b) assert_true((long long)(a) != (long long)(b))
#define assert_ptr_equal(a, b)	   assert_true((const void *)(a) == (const void *)(b))
#define assert_string_equal(a, b)  assert_true(strcmp(a, b) == 0)
#define assert_in_range(x, low, high) assert_true((uint64_t)(x) >= (uint64_t)(low) && (uint64_t)(x) <= (uint64_t)(high))
#define assert_memory_equal(a, b, bytes)                                                              \
	do {                                                                                          \
		const uint8_t *plain_a = (const uint8_t *)(a), *plain_b = (const uint8_t *)(b);        \
		for (size_t plain_i = 0; plain_i < (size_t)(bytes); plain_i++)                        \
			if (plain_a[plain_i] != plain_b[plain_i])                                     \
				plain_fail("%s and %s differ first at byte %zu of %zu", #a, #b, plain_i, (size_t)(bytes)); \
	} while (0)

/* setup makes what all tests share, teardown ends it; NULL: nothing. */
static inline int plain_run(const struct CMUnitTest *tests, size_t count, int (*setup)(void **state),
			    int (*teardown)(void **state))
{
	volatile int failed = 0, skipped = 0; /* they live through jumps */
	void *state = NULL;
	if (setup && (setjmp(plain_end) != 0 || setup(&state) != 0)) {
		printf("[  FAILED  ] setup\n");
		return 1;
	}
	for (volatile size_t i = 0; i < count; i = i + 1) {
		printf("[ RUN      ] %s\n", tests[i].name);
		fflush(stdout);
		int how = setjmp(plain_end);
		if (how == 0)
			tests[i].run(&state);
		printf("[ %s ] %s\n", how == 0 ? "      OK" : how == 1 ? " FAILED " : " SKIPPED", tests[i].name);
		fflush(stdout);
		failed = failed + (how == 1);
		skipped = skipped + (how == 2);
	}
	if (teardown && setjmp(plain_end) == 0)
		teardown(&state);
	printf("[ TOTAL    ] %zu passed, %d failed, %d skipped\n", count - (size_t)(failed + skipped), failed, skipped);
	return failed;
}
#define cmocka_run_group_tests(tests, setup, teardown) plain_run(tests, sizeof(tests) / sizeof((tests)[0]), setup, teardown)
#endif
