#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kvstore/prefix.h"

enum { BLOCKS = 7, TOKENS = 4, WINDOW_MAX = 40 };

/* A beginning is usable when, of what each token after it sees, nothing is missing: token by token. */
static bool usable(const bool *present, uint32_t blocks, uint32_t window)
{
	uint32_t next = blocks * TOKENS;
	for (uint32_t token = 0; token < next; token++)
		if ((window == 0 || next - token < window) && !present[token / TOKENS])
			return false;
	return true;
}

static void spread(uint32_t set, bool *present)
{
	for (uint32_t i = 0; i < BLOCKS; i++)
		present[i] = set >> i & 1;
}

static uint32_t longest(bool present[2][BLOCKS], const uint32_t *windows, uint32_t groups, uint32_t limit)
{
	for (uint32_t n = limit; n > 0; n--) {
		bool all = true;
		for (uint32_t g = 0; g < groups; g++)
			all &= usable(present[g], n, windows[g]);
		if (all)
			return n;
	}
	return 0;
}

static void every_set_of_blocks_of_one_group(void **state)
{
	bool present[2][BLOCKS];
	for (uint32_t window = 0; window < WINDOW_MAX; window++)
		for (uint32_t set = 0; set < 1u << BLOCKS; set++)
			for (uint32_t limit = 0; limit <= BLOCKS; limit++) {
				spread(set, present[0]);
				struct kv_presence group = {present[0], kv_keep(window, TOKENS)};
				assert_int_equal(kv_prefix(&group, 1, limit), longest(present, &window, 1, limit));
			}
}

static void every_two_sets_of_blocks_of_two_groups(void **state)
{
	static const uint32_t windows[][2] = {{0, 1}, {0, 2}, {0, 5}, {0, 6}, {0, 13}, {9, 0}, {0, 0}, {6, 14}};
	bool present[2][BLOCKS];
	for (uint32_t w = 0; w < sizeof(windows) / sizeof(windows[0]); w++)
		for (uint32_t sets = 0; sets < 1u << 2 * BLOCKS; sets++) {
			spread(sets, present[0]);
			spread(sets >> BLOCKS, present[1]);
			struct kv_presence groups[2] = {{present[0], kv_keep(windows[w][0], TOKENS)},
							{present[1], kv_keep(windows[w][1], TOKENS)}};
			assert_int_equal(kv_prefix(groups, 2, BLOCKS), longest(present, windows[w], 2, BLOCKS));
		}
}

/* What may be given back is what no token from here on sees, and no less. */
static void first_block_needed_is_the_one_that_the_next_token_sees_first(void **state)
{
	for (uint32_t window = 0; window < WINDOW_MAX; window++)
		for (uint32_t blocks = 0; blocks <= 2 * BLOCKS; blocks++) {
			uint32_t next = blocks * TOKENS, seen = next;
			while (seen > 0 && (window == 0 || next - (seen - 1) < window))
				seen--;
			assert_int_equal(kv_keep_first(kv_keep(window, TOKENS), blocks), seen / TOKENS);
		}
	assert_int_equal(kv_keep(UINT32_MAX, 1), UINT32_MAX - 1); /* no overflow, nor taken for no window */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_set_of_blocks_of_one_group),
		cmocka_unit_test(every_two_sets_of_blocks_of_two_groups),
		cmocka_unit_test(first_block_needed_is_the_one_that_the_next_token_sees_first),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
