/* Real model directories with something spoiled: cut, grown, bits turned, bytes strewn, pieces moved, tensors laid over each
 * other.  Whatever it is, the directory is refused with a reason that names the file, key or tensor; or it says itself that it
 * is another model, by its fingerprint; or all that is read of it is what it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/rng.h"
#include "model/json_in.h"
#include "model/model_dir.h"
#include "tests/scratch.h"

enum { ROUNDS = 400, FILES = 3, FILE_BYTES_MAX = 1 << 22 };

static const char *const files[FILES] = {"config.json", "tokenizer.json", "model.safetensors"};

struct original {
	uint8_t fingerprint[32];
	char *data[FILES];
	size_t length[FILES];
	struct model_dir *dir;
};

static char root[64];
static struct rng rng;

static void write_file(const char *name, const char *data, size_t length)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", root, name);
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

static enum err open_root(struct why *why, struct model_dir **ret_dir)
{
	return model_dir_open(root, &(struct model_dir_options){0}, why, ret_dir);
}

static void read_original(const char *name, struct original *ret_original)
{
	char path[512];
	struct why why = {""};
	for (int i = 0; i < FILES; i++) {
		snprintf(path, sizeof(path), GOLDEN_DIR "/engine/%s/%s", name, files[i]);
		assert_int_equal(file_read(path, FILE_BYTES_MAX, &why, &ret_original->data[i], &ret_original->length[i]), ERR_OK);
		write_file(files[i], ret_original->data[i], ret_original->length[i]);
	}
	assert_int_equal(open_root(&why, &ret_original->dir), ERR_OK);
	model_dir_fingerprint(ret_original->dir, NULL, ret_original->fingerprint);
}

static void free_original(struct original *original)
{
	for (int i = 0; i < FILES; i++)
		free(original->data[i]);
	model_dir_close(original->dir);
}

/* ---- what may happen to a file */

static size_t below(size_t n)
{
	return n ? (size_t)rng_below(&rng, n) : 0;
}

/* Where it matters: of weights, the header most of the time. */
static size_t place(const struct buf *file, int which)
{
	uint64_t header = 0;
	if (which == 2 && file->length > 8)
		memcpy(&header, file->data, 8);
	if (header + 8 < file->length && header > 0 && below(8))
		return below((size_t)header + 8);
	return below(file->length);
}

static void turn_bits(struct buf *file, int which)
{
	for (size_t n = 1 + below(3); n > 0 && file->length; n--)
		file->data[place(file, which)] ^= (char)(1 << below(8));
}

static void strew(struct buf *file, int which)
{
	static const char bytes[] = "{}[]\":,0-9eE.\\\0\xff\x80 null";
	for (size_t n = 1 + below(4); n > 0 && file->length; n--)
		file->data[place(file, which)] = bytes[below(sizeof(bytes))];
}

static void cut(struct buf *file, int which)
{
	file->length = below(4) ? place(file, which) : file->length - below(file->length < 64 ? file->length : 64);
}

static void grow(struct buf *file, int which)
{
	static const char more[64] = {0};
	assert_int_equal(buf_append(file, more, 1 + below(sizeof(more))), ERR_OK);
}

/* A piece comes to lie elsewhere: keys twice, numbers of others, offsets that overlap. */
static void copy_piece(struct buf *file, int which)
{
	size_t from = place(file, which), to = place(file, which), length = 1 + below(40);
	if (from + length <= file->length && to + length <= file->length)
		memmove(file->data + to, file->data + from, length);
}

/* A digit becomes another one: sizes, shapes and offsets that are numbers still. */
static void change_digit(struct buf *file, int which)
{
	for (int tries = 0; tries < 1000 && file->length; tries++) {
		size_t at = place(file, which);
		if (file->data[at] < '0' || file->data[at] > '9')
			continue;
		file->data[at] = (char)('0' + below(10));
		return;
	}
}

static void (*const mutations[])(struct buf *file, int which) = {turn_bits, strew, cut, grow, copy_piece, change_digit};

/* ---- what must come of it */

/* A file (with the key or tensor in it), or a tensor that another config.json asks for. */
static bool names_something(const char *why)
{
	for (int i = 0; i < FILES; i++)
		if (strstr(why, files[i]))
			return true;
	return strstr(why, "tensor model.") || strstr(why, "tensor lm_head.");
}

static void check_same(const struct model_dir *a, const struct model_dir *b)
{
	assert_int_equal(weights_count(a->weights), weights_count(b->weights));
	for (size_t i = 0; i < weights_count(a->weights); i++) {
		const struct tensor *x = weights_at(a->weights, i), *y = weights_at(b->weights, i);
		assert_string_equal(x->name, y->name);
		assert_int_equal(x->dtype, y->dtype);
		assert_int_equal(x->bytes, y->bytes);
		assert_memory_equal(x->dims, y->dims, sizeof(x->dims[0]) * x->dim_count);
		assert_memory_equal(x->data, y->data, x->bytes);
	}
	assert_int_equal(tokenizer_vocab_size(a->tokenizer), tokenizer_vocab_size(b->tokenizer));
}

static bool mutate_once(const struct original *original, int which)
{
	struct buf file = {0};
	assert_int_equal(buf_append(&file, original->data[which], original->length[which]), ERR_OK);
	mutations[below(sizeof(mutations) / sizeof(mutations[0]))](&file, which);
	write_file(files[which], file.data, file.length);
	struct model_dir *dir = NULL;
	struct why why = {""};
	enum err e = open_root(&why, &dir);
	uint8_t fingerprint[32];
	if (e == ERR_OK)
		model_dir_fingerprint(dir, NULL, fingerprint);
	bool same = e == ERR_OK && memcmp(fingerprint, original->fingerprint, sizeof(fingerprint)) == 0;
	if (e != ERR_OK && !names_something(why.text))
		fail_msg("refused without a name: %s", why.text);
	if (same)
		check_same(dir, original->dir);
	bool text_same = file.length == original->length[which] && memcmp(file.data, original->data[which], file.length) == 0;
	if (same && which < 2 && !text_same)
		fail_msg("%s is another, the fingerprint is not", files[which]);
	model_dir_close(dir);
	buf_fini(&file);
	write_file(files[which], original->data[which], original->length[which]);
	return e != ERR_OK;
}

static void mutate(const char *name)
{
	struct original original = {0};
	rng = (struct rng){.seed = 7};
	assert_non_null(scratch_folder(root, sizeof(root), "mutated"));
	read_original(name, &original);
	for (int which = 0; which < FILES; which++) {
		uint32_t refused = 0;
		for (int i = 0; i < ROUNDS; i++)
			refused += mutate_once(&original, which);
		print_message("%s: %s spoiled %d times, refused %u times\n", name, files[which], ROUNDS, refused);
		assert_true(refused > ROUNDS / 4);
	}
	free_original(&original);
	for (int i = 0; i < FILES; i++) {
		char path[256];
		snprintf(path, sizeof(path), "%s/%s", root, files[i]);
		unlink(path);
	}
	rmdir(root);
	memcpy(root + sizeof(root) - 7, "XXXXXX", 6);
}

static void a_spoiled_dense_model_is_refused_or_another(void **state)
{
	mutate("llama-tied");
}

static void a_spoiled_mixture_is_refused_or_another(void **state)
{
	mutate("qwen3-moe");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_spoiled_dense_model_is_refused_or_another),
		cmocka_unit_test(a_spoiled_mixture_is_refused_or_another),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
