#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/map.h"
#include "base/rng.h"

enum { KEYS = 512, CAPACITY = 256 };

/* Few distinct hashes, so that clusters form and holes must be closed. */
static struct id128 key_of(uint32_t i)
{
	struct id128 key = {.bytes = {(uint8_t)(i % 7)}};
	key.bytes[8] = (uint8_t)i;
	key.bytes[9] = (uint8_t)(i >> 8);
	return key;
}

static void random_puts_and_removes_agree_with_an_array(void **state)
{
	uint32_t model[KEYS];
	for (int i = 0; i < KEYS; i++)
		model[i] = MAP_NONE;
	struct map map;
	void *memory = malloc(map_bytes(CAPACITY));
	map_init(&map, memory, CAPACITY);
	struct rng rng = {.seed = 1};
	for (int step = 0; step < 200000; step++) {
		uint32_t i = (uint32_t)rng_below(&rng, KEYS);
		struct id128 key = key_of(i);
		if (rng_below(&rng, 2)) {
			bool full = map.count == CAPACITY && model[i] == MAP_NONE;
			uint32_t value = (uint32_t)rng_below(&rng, 1000);
			assert_int_equal(map_put(&map, &key, value), full ? ERR_AGAIN : ERR_OK);
			if (!full)
				model[i] = value;
		} else {
			assert_int_equal(map_remove(&map, &key), model[i]);
			model[i] = MAP_NONE;
		}
		uint32_t j = (uint32_t)rng_below(&rng, KEYS);
		struct id128 other = key_of(j);
		assert_int_equal(map_get(&map, &other), model[j]);
	}
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(random_puts_and_removes_agree_with_an_array)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
