/* What stands in for a library on GPU machines (plain/) is what it stands for. */
#include "base/digest.h"
#include "base/hash.h"
#include "tests/kernels/fixture.h"

/* plain/digest.c and plain/sha256.c, under other names. */
uint64_t plain_digest_of(const void *data, size_t length);
void plain_sha256_init(struct sha256 *sha);
void plain_sha256_add(struct sha256 *sha, const void *data, size_t length);
void plain_sha256_end(struct sha256 *sha, uint8_t ret_digest[32]);

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

/* In one piece and in two. */
static void the_plain_sha256_is_the_librarys(void **state)
{
	uint8_t data[300], expected[32], got[32];
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 37 + 11);
	for (size_t length = 0; length <= sizeof(data); length++)
		for (size_t first = 0; first <= length; first += length / 2 + 1) {
			struct sha256 plain, library;
			plain_sha256_init(&plain);
			plain_sha256_add(&plain, data, first);
			plain_sha256_add(&plain, data + first, length - first);
			plain_sha256_end(&plain, got);
			sha256_init(&library);
			sha256_add(&library, data, length);
			sha256_end(&library, expected);
			assert_memory_equal(got, expected, sizeof(got));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_plain_digest_is_the_librarys),
		cmocka_unit_test(the_plain_sha256_is_the_librarys),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
