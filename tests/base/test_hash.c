#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "base/hash.h"
#include "base/rng.h"

/* FIPS 180-2, appendix B.1. */
static void sha256_of_abc_is_the_published_one(void **state)
{
	static const uint8_t expected[32] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
					     0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
					     0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
	struct sha256 sha;
	uint8_t digest[32];
	sha256_init(&sha);
	sha256_add(&sha, "a", 1);
	sha256_add(&sha, "bc", 2);
	sha256_end(&sha, digest);
	assert_memory_equal(digest, expected, 32);
}

/* RFC 4231, cases 2 and 6. */
static void hmacs_are_the_published_ones(void **state)
{
	static const uint8_t jefe[4] = {0x5b, 0xdc, 0xc1, 0x46}, large[4] = {0x60, 0xe4, 0x31, 0x59};
	uint8_t key[131], digest[32];
	memset(key, 0xaa, sizeof(key));
	hash_hmac("Jefe", 4, "what do ya want for nothing?", 28, digest);
	assert_memory_equal(digest, jefe, 4);
	hash_hmac(key, sizeof(key), "Test Using Larger Than Block-Size Key - Hash Key First", 54, digest);
	assert_memory_equal(digest, large, 4);
}

/* xxHash 0.8 specification: XXH3-64 of no bytes, seed 0. */
static void xxh3_of_nothing_is_the_published_one(void **state)
{
	assert_true(hash_xxh3("", 0, 0) == 0x2d06800538d394c2u);
}

static void random_numbers_depend_on_every_argument(void **state)
{
	uint64_t a = rng_at(1, 2, 3);
	assert_true(a == rng_at(1, 2, 3));
	assert_true(a != rng_at(0, 2, 3) && a != rng_at(1, 0, 3) && a != rng_at(1, 2, 0));
	assert_true(rng_unit(~(uint64_t)0) < 1.0f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sha256_of_abc_is_the_published_one),
		cmocka_unit_test(hmacs_are_the_published_ones),
		cmocka_unit_test(xxh3_of_nothing_is_the_published_one),
		cmocka_unit_test(random_numbers_depend_on_every_argument),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
