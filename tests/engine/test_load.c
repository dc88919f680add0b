/* Reading of weights: the plan over all families' models, what pieces are beside what a map of the files says, and files that fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/rng.h"
#include "engine/load_file.h"
#include "engine/load_reader.h"
#include "engine/tensor_rows.h"
#include "kernels/device.h"
#include "model/model_dir.h"
#include "tests/scratch.h"

static const char NARROW[] = "of 8 bits"; /* made here: weights of more than one block of a scale each way */
static const char KEPT[] = "of 8 bits, which they stay";

static const char *const models[] = {
	"engine/llama-f32", "engine/llama-tied", "engine/mixtral", "families/deepseek-v2-lite", "families/deepseek-v3",
	"families/gpt-oss", "families/gpt-oss-mxfp4", "families/llama-f16", "families/llama-bias", "families/phi3",
	"families/qwen2-moe", NARROW, KEPT};
enum { MODELS = sizeof(models) / sizeof(models[0]) };

static struct model_dir *open_path(const char *path, const char *quantization)
{
	const struct model_dir_options options = {.quantization = quantization};
	struct model_dir *dir;
	struct why why = {""};
	if (model_dir_open(path, &options, &why, &dir) != ERR_OK)
		fail_msg("%s", why.text);
	return dir;
}

static void copy_file(const char *from, const char *to)
{
	char command[512];
	snprintf(command, sizeof(command), "cp %s %s", from, to);
	assert_int_equal(system(command), 0);
}

struct copied {
	char root[64], file[96];
} narrow;

static void copy_model(const char *name, struct copied *copied)
{
	char from[128];
	assert_non_null(scratch_folder(copied->root, sizeof(copied->root), "load"));
	snprintf(from, sizeof(from), "tests/golden/%s/*.*", name);
	copy_file(from, copied->root);
	snprintf(copied->file, sizeof(copied->file), "%s/model.safetensors", copied->root);
}

static void remove_model(const struct copied *copied)
{
	char command[128];
	snprintf(command, sizeof(command), "rm -r %s", copied->root);
	assert_int_equal(system(command), 0);
}

static struct model_dir *open_model(const char *name)
{
	char path[128];
	if (name == NARROW || name == KEPT)
		return open_path(narrow.root, name == KEPT ? "fp8" : NULL);
	snprintf(path, sizeof(path), "tests/golden/%s", name);
	return open_path(path, NULL);
}

/* Whatever may be of 8 bits is; kv_b_proj takes 384 rows for whole heads in whole blocks, and has 576. */
#define NARROW_CONFIG                                                                                                    \
	"{\"architectures\": [\"DeepseekV3ForCausalLM\"], \"vocab_size\": 300, \"hidden_size\": 192, \"intermediate_size\": 400,"   \
	"\"num_hidden_layers\": 2, \"num_attention_heads\": 12, \"num_key_value_heads\": 12, \"max_position_embeddings\": 64,"     \
	"\"rms_norm_eps\": 1e-5, \"rope_theta\": 1e4, \"torch_dtype\": \"bfloat16\", \"tie_word_embeddings\": false,"            \
	"\"q_lora_rank\": 144, \"kv_lora_rank\": 160, \"qk_nope_head_dim\": 16, \"qk_rope_head_dim\": 16, \"v_head_dim\": 32,"   \
	"\"n_routed_experts\": 4, \"n_group\": 2, \"topk_group\": 1, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 144," \
	"\"first_k_dense_replace\": 1, \"num_nextn_predict_layers\": 0, \"quantization_config\": {\"quant_method\": \"fp8\"," \
	"\"fmt\": \"e4m3\", \"weight_block_size\": [128, 128]}}"

struct narrow_file {
	char header[32768];
	size_t header_bytes, data_bytes;
};

static void add_entry(struct narrow_file *file, const char *name, const char *dtype, size_t bytes, const uint64_t *dims,
		      uint32_t dim_count)
{
	char shape[64];
	for (uint32_t i = 0; i < dim_count; i++)
		bytes *= dims[i];
	snprintf(shape, sizeof(shape), dim_count == 1 ? "%llu" : "%llu, %llu", (unsigned long long)dims[0], (unsigned long long)dims[1]);
	file->header_bytes += (size_t)snprintf(
		file->header + file->header_bytes, sizeof(file->header) - file->header_bytes,
		"%s\"%s\": {\"dtype\": \"%s\", \"shape\": [%s], \"data_offsets\": [%zu, %zu]}", file->header_bytes > 1 ? ", " : "", name,
		dtype, shape, file->data_bytes, file->data_bytes + bytes);
	file->data_bytes += bytes;
}

static enum err add_narrow(void *arg, const struct tensor_spec *spec)
{
	char scale[160];
	const uint64_t scales[] = {(spec->dims[0] + 127) / 128, (spec->dims[1] + 127) / 128};
	bool is_narrow = spec->dim_count == 2 && spec->role != TENSOR_HEAD && spec->role != TENSOR_EMBEDDING &&
			 spec->role != TENSOR_ROUTER;
	add_entry(arg, spec->name, is_narrow ? "F8_E4M3" : "BF16", is_narrow ? 1 : 2, spec->dims, spec->dim_count);
	snprintf(scale, sizeof(scale), "%s_scale_inv", spec->name);
	if (is_narrow)
		add_entry(arg, scale, "F32", 4, scales, 2);
	return ERR_OK;
}

static void write_text(const char *name, const char *text)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", narrow.root, name);
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	fclose(file);
}

static int make_narrow(void **state)
{
	struct narrow_file made = {.header = "{", .header_bytes = 1};
	struct model_config config;
	struct rng rng = {.seed = 5};
	copy_model("engine/llama-tied", &narrow);
	write_text("config.json", NARROW_CONFIG);
	struct why why = {""};
	if (model_config_read(narrow.root, &why, &config) != ERR_OK)
		fail_msg("%s", why.text);
	assert_int_equal(model_tensors_each(&config, add_narrow, &made), ERR_OK);
	made.header[made.header_bytes++] = '}';
	FILE *file = fopen(narrow.file, "wb");
	assert_non_null(file);
	for (int i = 0; i < 8; i++)
		fputc((int)(made.header_bytes >> 8 * i & 255), file);
	fwrite(made.header, 1, made.header_bytes, file);
	for (size_t i = 0; i < made.data_bytes; i++)
		fputc((int)(rng_next(&rng) & 0x3f), file); /* small numbers of every type */
	fclose(file);
	return 0;
}

static int remove_narrow(void **state)
{
	remove_model(&narrow);
	return 0;
}

static enum elem elem_of(const struct model_dir *dir)
{
	return dir->config.dtype == MODEL_BF16 ? ELEM_BF16 : ELEM_F32;
}

static struct load_plan *make_plan(const struct model_dir *dir, uint64_t piece_bytes, bool digested)
{
	const struct load_plan_options options = {elem_of(dir), piece_bytes, digested};
	struct load_plan *plan;
	assert_int_equal(load_plan_create(&dir->config, dir->weights, &options, NULL, &plan), ERR_OK);
	return plan;
}

/* --- the plan -------------------------------------------------------------------------------------------- */

/* Whole heads, whole blocks of scales. */
static void check_unit(const struct model_latent *latent, const struct load_part *part)
{
	if (part->piece_rows == part->spec.dims[0])
		return;
	if (part->spec.role == TENSOR_KEY_VALUE_UP)
		assert_int_equal(part->piece_rows % (latent->qk_nope_head_dim + latent->v_head_dim), 0);
	if (part->found.tensor->dtype == TENSOR_F8_E4M3)
		assert_int_equal(part->piece_rows % TENSOR_SCALE_BLOCK, 0);
	assert_int_not_equal(part->found.tensor->dim_count, 3);
}

/* Follows the bytes of a lane piece by piece. */
static void check_lane(const struct load_plan *plan, const struct load_lane *lane)
{
	uint64_t at = 0, scale_at = 0;
	for (uint32_t i = 0; i < lane->part_count; i++) {
		const struct load_part *part = &plan->parts[lane->part_first + i];
		uint32_t rows = (uint32_t)part->spec.dims[0];
		assert_ptr_equal(part->found.tensor, lane->tensor);
		assert_ptr_equal(part->found.scale, lane->scale);
		for (uint32_t first = 0, count; first < rows; first += count) {
			count = rows - first < part->piece_rows ? rows - first : part->piece_rows;
			struct load_range range = load_part_rows(part, first, count), scales = load_part_scales(part, first, count);
			assert_int_equal(range.offset, at);
			at += range.bytes;
			if (lane->scale)
				assert_int_equal(scales.offset, scale_at);
			scale_at += scales.bytes;
			assert_true(count * part->row_out_bytes <= plan->piece_out_bytes);
			assert_true(scales.bytes <= plan->piece_scale_bytes);
		}
	}
	assert_true(lane->part_count == 0 || at == lane->tensor->bytes);
	assert_true(!lane->scale || scale_at == lane->scale->bytes);
}

static void every_byte_is_read_once_the_longest_tensors_first(void **state)
{
	static const uint64_t sizes[] = {1, 4096, 1 << 20};
	for (int m = 0; m < MODELS; m++) {
		struct model_dir *dir = open_model(models[m]);
		uint64_t all = 0;
		for (size_t i = 0; i < weights_count(dir->weights); i++)
			all += weights_at(dir->weights, i)->bytes;
		for (int s = 0; s < 3; s++) {
			struct load_plan *plan = make_plan(dir, sizes[s], true);
			bool *seen = calloc(weights_count(dir->weights), sizeof(*seen));
			assert_int_equal(plan->bytes, all);
			for (uint32_t i = 0; i < plan->lane_count; i++) {
				const struct load_lane *lane = &plan->lanes[i];
				size_t index = (size_t)(lane->tensor - weights_at(dir->weights, 0));
				assert_false(seen[index]);
				seen[index] = true;
				assert_true(i == 0 || plan->lanes[i - 1].tensor->bytes >= lane->tensor->bytes);
				check_lane(plan, lane);
			}
			for (uint32_t i = 0; i < plan->part_count; i++)
				check_unit(&dir->config.latent, &plan->parts[i]);
			free(seen);
			load_plan_destroy(plan);
		}
		model_dir_close(dir);
	}
}

static void pieces_are_as_long_as_asked_for_or_as_what_belongs_together(void **state)
{
	struct model_dir *dir = open_model("engine/llama-tied");
	struct load_plan *small = make_plan(dir, 1, false), *large = make_plan(dir, 1 << 30, false);
	uint64_t most = 0;
	for (uint32_t i = 0; i < small->part_count; i++) {
		const struct tensor_spec *spec = &small->parts[i].spec;
		assert_int_equal(small->parts[i].piece_rows, spec->dim_count == 1 || spec->dims[0] < 16 ? spec->dims[0] : 16);
		uint64_t bytes = spec->dims[0] * small->parts[i].row_out_bytes;
		most = bytes > most ? bytes : most;
	}
	assert_int_equal(large->piece_count, large->part_count);
	assert_int_equal(large->piece_out_bytes, most);
	load_plan_destroy(small);
	load_plan_destroy(large);
	model_dir_close(dir);
}

/* --- pieces ---------------------------------------------------------------------------------------------- */

struct reading {
	const struct model_dir *dir;
	atomic_uint rows;
	enum err take_error; /* of the 3rd piece */
	atomic_uint pieces;
	const char *truncate; /* the file, at the 1st piece; the others wait for it */
	atomic_bool truncated;
};

/* What the map says of all rows of the tensor, as so many bytes each. */
static void *map_rows(const struct model_dir *dir, const struct tensor_spec *spec, struct tensor_found *found, size_t *ret_row)
{
	uint32_t rows = (uint32_t)spec->dims[0];
	uint64_t columns = spec->dim_count == 1 ? 1 : spec->dims[1];
	void *expected = malloc(rows * columns * sizeof(float));
	if (!expected || model_tensor_find(&dir->config, dir->weights, spec, NULL, found) != ERR_OK)
		abort();
	enum elem elem = spec->dim_count == 1 ? ELEM_F32 : load_part_elem(&dir->config, spec, found->tensor, elem_of(dir));
	*ret_row = columns * elem_bytes(elem);
	if (spec->dim_count == 1)
		tensor_widen(found->tensor, (uint64_t)found->expert * rows, rows, expected);
	else
		tensor_rows_read(found, elem, 0, rows, expected);
	return expected;
}

/* Codes that stay come with the scales of their blocks. */
static bool scales_are_right(const struct load_piece *piece, const struct tensor_found *found, size_t row_bytes)
{
	if (!found->scale || piece->spec->dim_count == 1 || row_bytes != piece->spec->dims[1])
		return !piece->scales;
	uint64_t columns = found->scale->dims[1], first = piece->first / TENSOR_SCALE_BLOCK * columns;
	uint64_t rows = (piece->count + TENSOR_SCALE_BLOCK - 1) / TENSOR_SCALE_BLOCK;
	return piece->scales && piece->scales->dims[0] == rows && piece->scales->dims[1] == columns &&
	       memcmp(piece->scales->data, (const float *)found->scale->data + first, rows * columns * sizeof(float)) == 0;
}

static enum err cut(struct reading *reading, unsigned number)
{
	bool done = number > 0 || truncate(reading->truncate, 4096) == 0;
	if (number == 0)
		atomic_store(&reading->truncated, true);
	while (!atomic_load(&reading->truncated))
		sched_yield();
	return done ? ERR_OK : ERR_IO;
}

/* On any thread: no assertions. */
static enum err compare_piece(void *context, const struct load_piece *piece, struct why *why)
{
	struct reading *reading = context;
	const struct tensor_spec *spec = piece->spec;
	unsigned number = atomic_fetch_add(&reading->pieces, 1);
	if (number == 2 && reading->take_error != ERR_OK)
		return why_set(why, reading->take_error, "the third piece");
	if (reading->truncate)
		return cut(reading, number);
	struct tensor_found found;
	size_t row;
	uint8_t *expected = map_rows(reading->dir, spec, &found, &row);
	bool same = memcmp(expected + piece->first * row, piece->rows, piece->count * row) == 0 && scales_are_right(piece, &found, row);
	free(expected);
	atomic_fetch_add(&reading->rows, piece->count);
	return same ? ERR_OK : why_set(why, ERR_MISMATCH, "%s: rows from %u are others", spec->name, piece->first);
}

struct disk {
	bool uncached;        /* nothing is in the page cache */
	bool refuses_direct;  /* only when it is read: opening says nothing */
	size_t most;          /* bytes at a time, directly whole pages of it; 0: as asked for */
	atomic_int reads;
	int fails_at, ends_at; /* the nth read, from 1 */
};

static ssize_t disk_read(void *context, int fd, void *to, size_t bytes, uint64_t offset, int flags)
{
	struct disk *disk = context;
	bool direct = fcntl(fd, F_GETFL) & O_DIRECT;
	size_t most = direct ? disk->most / LOAD_ALIGN * LOAD_ALIGN : disk->most;
	struct iovec piece = {to, most && bytes > most ? most : bytes};
	if ((direct && disk->refuses_direct) || (flags && disk->uncached)) {
		errno = direct ? EINVAL : EAGAIN;
		return -1;
	}
	int number = flags ? 0 : atomic_fetch_add(&disk->reads, 1) + 1;
	if (disk->ends_at && number >= disk->ends_at)
		return 0;
	errno = EIO;
	return disk->fails_at && number >= disk->fails_at ? -1 : preadv2(fd, &piece, 1, (off_t)offset, flags);
}

static enum err read_model(struct reading *reading, struct disk *disk, uint64_t piece_bytes, uint8_t (*digests)[32], struct why *why)
{
	const struct device_options cpu = {.kind = DEVICE_CPU, .thread_count = 1};
	const struct load_hooks hooks = {disk, disk_read};
	struct load_progress progress;
	struct device *device;
	assert_int_equal(device_open(&cpu, NULL, &device), ERR_OK);
	struct load_plan *plan = make_plan(reading->dir, piece_bytes, digests != NULL);
	const struct load_reader_options options = {
		.device = device, .weights = reading->dir->weights, .plan = plan, .digests = digests,
		.hooks = disk ? &hooks : NULL, .context = reading, .take = compare_piece};
	enum err e = load_read(&options, why, &progress);
	if (e == ERR_OK)
		assert_int_equal(progress.bytes, plan->bytes);
	if (e == ERR_OK && disk && disk->uncached)
		assert_int_equal(progress.cached_bytes, 0);
	if (e == ERR_OK)
		assert_int_equal(reading->pieces, plan->piece_count);
	load_plan_destroy(plan);
	device_close(device);
	return e;
}

static void pieces_are_what_the_files_say_however_a_disk_gives_them(void **state)
{
	static const struct disk disks[] = {{0}, {.uncached = true}, {.uncached = true, .refuses_direct = true},
					    {.refuses_direct = true, .most = 1000}, {.uncached = true, .most = 5000}};
	for (int m = 0; m < MODELS; m++)
		for (size_t i = 0; i < sizeof(disks) / sizeof(disks[0]); i++) {
			struct reading reading = {.dir = open_model(models[m])};
			struct disk disk;
			struct why why = {""};
			memcpy(&disk, &disks[i], sizeof(disk));
			if (read_model(&reading, &disk, i % 2 ? 1 : 1 << 20, NULL, &why) != ERR_OK)
				fail_msg("%s: %s", models[m], why.text);
			model_dir_close((struct model_dir *)reading.dir);
		}
}

static void digests_make_the_same_fingerprint(void **state)
{
	for (int m = 0; m < MODELS; m++) {
		struct reading reading = {.dir = open_model(models[m])};
		uint8_t (*digests)[32] = calloc(weights_count(reading.dir->weights), sizeof(*digests)), expected[32], got[32];
		struct why why = {""};
		if (read_model(&reading, NULL, m % 2 ? 1 : 1 << 20, digests, &why) != ERR_OK)
			fail_msg("%s: %s", models[m], why.text);
		model_dir_fingerprint(reading.dir, NULL, expected);
		model_dir_fingerprint(reading.dir, (const uint8_t (*)[32])digests, got);
		assert_memory_equal(expected, got, sizeof(got));
		free(digests);
		model_dir_close((struct model_dir *)reading.dir);
	}
}

/* --- what fails ------------------------------------------------------------------------------------------ */

static void expect_failure(struct reading *reading, struct disk *disk, enum err expected, const char *first, const char *second)
{
	struct why why = {""};
	assert_int_equal(read_model(reading, disk, 1, NULL, &why), expected);
	if (!strstr(why.text, first) || !strstr(why.text, second))
		fail_msg("\"%s\" does not say %s and %s", why.text, first, second);
}

static void a_read_that_fails_names_file_and_offset(void **state)
{
	struct reading reading = {.dir = open_model("engine/mixtral")};
	for (int nth = 1; nth < 60; nth += 13) {
		struct disk disk = {.uncached = true, .refuses_direct = true, .fails_at = nth};
		expect_failure(&reading, &disk, ERR_IO, "model.safetensors: reading", strerror(EIO));
		reading.pieces = 0;
	}
	struct disk direct = {.uncached = true, .fails_at = 7}; /* read directly it fails, and plainly again */
	expect_failure(&reading, &direct, ERR_IO, "model.safetensors: reading", strerror(EIO));
	model_dir_close((struct model_dir *)reading.dir);
}

static void a_file_that_ends_early_is_an_error(void **state)
{
	struct reading reading = {.dir = open_model("engine/mixtral")};
	for (int i = 0; i < 2; i++) {
		struct disk disk = {.uncached = true, .refuses_direct = i == 0, .ends_at = 9, .most = 1000};
		expect_failure(&reading, &disk, ERR_CORRUPT, "model.safetensors: ends at", "changed while it was read");
	}
	model_dir_close((struct model_dir *)reading.dir);
}

static void what_the_taker_says_ends_it(void **state)
{
	struct reading reading = {.dir = open_model("engine/mixtral"), .take_error = ERR_NOMEM};
	expect_failure(&reading, NULL, ERR_NOMEM, "the third piece", "");
	model_dir_close((struct model_dir *)reading.dir);
}

static void a_file_cut_while_it_loads_is_an_error(void **state)
{
	struct copied copied;
	copy_model("engine/mixtral", &copied);
	struct reading reading = {.dir = open_path(copied.root, NULL), .truncate = copied.file};
	expect_failure(&reading, NULL, ERR_CORRUPT, "model.safetensors", "was changed");
	model_dir_close((struct model_dir *)reading.dir);
	remove_model(&copied);
}

static void another_file_of_the_same_name_is_refused(void **state)
{
	char saved[128];
	struct copied copied;
	copy_model("engine/mixtral", &copied);
	struct reading reading = {.dir = open_path(copied.root, NULL)};
	snprintf(saved, sizeof(saved), "%s/saved", copied.root);
	copy_file(copied.file, saved);
	assert_int_equal(rename(saved, copied.file), 0);
	expect_failure(&reading, NULL, ERR_CORRUPT, copied.file, "was changed since it was opened");
	model_dir_close((struct model_dir *)reading.dir);
	remove_model(&copied);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_is_read_once_the_longest_tensors_first),
		cmocka_unit_test(pieces_are_as_long_as_asked_for_or_as_what_belongs_together),
		cmocka_unit_test(pieces_are_what_the_files_say_however_a_disk_gives_them),
		cmocka_unit_test(digests_make_the_same_fingerprint),
		cmocka_unit_test(a_read_that_fails_names_file_and_offset),
		cmocka_unit_test(a_file_that_ends_early_is_an_error),
		cmocka_unit_test(what_the_taker_says_ends_it),
		cmocka_unit_test(a_file_cut_while_it_loads_is_an_error),
		cmocka_unit_test(another_file_of_the_same_name_is_refused),
	};
	return cmocka_run_group_tests(tests, make_narrow, remove_narrow);
}
