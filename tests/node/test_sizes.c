/* What a node takes where nobody says, and what goes together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node/sizes.h"

#define GIB (UINT64_C(1) << 30)

static void check(struct node_sizes given, bool gpu, struct node_sizes chosen)
{
	struct why why = {{0}};
	assert_int_equal(node_sizes_choose(&given, gpu, &why), ERR_OK);
	assert_memory_equal(&given, &chosen, sizeof(chosen));
}

static void refused(struct node_sizes given, bool gpu, const char *option)
{
	struct why why = {{0}};
	struct node_sizes before = given;
	assert_int_equal(node_sizes_choose(&given, gpu, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, option));
	assert_memory_equal(&given, &before, sizeof(before));
}

static void a_device_has_its_sizes(void **state)
{
	(void)state;
	check((struct node_sizes){0}, false, (struct node_sizes){16, 64, 512, 256});
	check((struct node_sizes){0}, true, (struct node_sizes){64, 256, 8192, 2048});
}

static void what_is_given_stays_and_bounds_the_rest(void **state)
{
	(void)state;
	check((struct node_sizes){32, 7, 100, 64}, true, (struct node_sizes){32, 7, 100, 64});
	check((struct node_sizes){.batch_tokens_max = 200}, true, (struct node_sizes){64, 200, 200, 192});
	check((struct node_sizes){.batch_tokens_max = 40}, false, (struct node_sizes){16, 40, 40, 32});
	check((struct node_sizes){.block_tokens = 96}, true, (struct node_sizes){96, 256, 8192, 2016});
	check((struct node_sizes){.block_tokens = 256, .batch_tokens_max = 300}, false, (struct node_sizes){256, 64, 300, 256});
}

static void what_does_not_go_together_is_refused(void **state)
{
	(void)state;
	refused((struct node_sizes){.chunk_tokens = 96}, true, "--prefill-chunk-tokens 96 is no multiple of --block-size 64");
	refused((struct node_sizes){.batch_tokens_max = 32}, true, "--max-num-batched-tokens 32 is below");
	refused((struct node_sizes){.seq_max = 256, .batch_tokens_max = 128}, false, "--max-num-batched-tokens 128 is below --max-num-seqs 256");
	refused((struct node_sizes){.block_tokens = 3}, false, "--block-size 3");
}

static uint64_t kv(struct kv_room room, const char *by)
{
	struct why why = {{0}};
	const char *bound;
	uint64_t bytes;
	assert_int_equal(node_kv_bytes(&room, &why, &bytes, &bound), ERR_OK);
	assert_non_null(strstr(bound, by));
	return bytes;
}

static void kv_is_what_both_memories_have(void **state)
{
	(void)state;
	assert_int_equal(kv((struct kv_room){0, 100 * GIB, 120 * GIB, 500 * GIB}, "--gpu-memory-utilization"), 100 * GIB);
	assert_int_equal(kv((struct kv_room){0, 100 * GIB, 120 * GIB, 60 * GIB}, "the host's memory"), 60 * GIB);
	assert_int_equal(kv((struct kv_room){110 * GIB, 100 * GIB, 120 * GIB, 500 * GIB}, "--kv-bytes"), 110 * GIB);
	assert_int_equal(kv((struct kv_room){0, UINT64_MAX, UINT64_MAX, 60 * GIB}, "of CPUs"), GIB / 4);
	assert_int_equal(kv((struct kv_room){8 * GIB, UINT64_MAX, UINT64_MAX, 60 * GIB}, "--kv-bytes"), 8 * GIB);
}

static void more_than_either_has_is_refused(void **state)
{
	(void)state;
	const struct kv_room rooms[] = {{121 * GIB, 100 * GIB, 120 * GIB, 500 * GIB}, {61 * GIB, 100 * GIB, 120 * GIB, 60 * GIB},
					{61 * GIB, UINT64_MAX, UINT64_MAX, 60 * GIB}};
	const char *const who[] = {"the GPU has room for 122880 MiB", "the host has room for 61440 MiB", "the host has room for 61440 MiB"};
	for (int i = 0; i < 3; i++) {
		struct why why = {{0}};
		const char *bound;
		uint64_t bytes;
		assert_int_equal(node_kv_bytes(&rooms[i], &why, &bytes, &bound), ERR_NOMEM);
		assert_non_null(strstr(why.text, who[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_device_has_its_sizes),
		cmocka_unit_test(what_is_given_stays_and_bounds_the_rest),
		cmocka_unit_test(what_does_not_go_together_is_refused),
		cmocka_unit_test(kv_is_what_both_memories_have),
		cmocka_unit_test(more_than_either_has_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
