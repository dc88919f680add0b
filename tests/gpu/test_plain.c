/* What stands in for a library on GPU machines (plain/) is what it stands for. */
#include "base/digest.h"
#include "tests/kernels/fixture.h"

/* plain/digest.c, under another name. */
uint64_t plain_digest_of(const void *data, size_t length);

static void the_plain_digest_is_the_librarys(void **state)
{
	enum { MOST = 1 << 20 };
	struct rng rng = {.seed = 1};
	uint8_t *data = malloc(MOST);
	for (size_t i = 0; i < MOST; i++)
		data[i] = (uint8_t)rng_below(&rng, 256);
	for (size_t length = 0; length < 9000; length++)
		assert_int_equal(plain_digest_of(data, length), digest_of(data, length));
	/* The second hash has 8 bytes a leaf: all its lengths up to 2048. */
	for (size_t length = 9000; length <= MOST; length += 4001)
		assert_int_equal(plain_digest_of(data, length), digest_of(data, length));
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_plain_digest_is_the_librarys)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
