/* Weights on their way to a device that runs behind: buffers stay as they are until it has them, and its failures end the load. */
#include "fake.h"
#include "engine/load_reader.h"
#include "engine/weights.h"
#include "model/model_dir.h"
#include "tests/gpu/fixture.h"

enum { LAUNCH_FAILURE = 719, NO_MEMORY = 2 }; /* of CUDA */

/* Of more tensors than there are buffers. */
static struct model_dir *open_model(void)
{
	struct model_dir *dir;
	assert_int_equal(model_dir_open("tests/golden/engine/mixtral", NULL, NULL, &dir), ERR_OK);
	return dir;
}

struct target {
	struct device *device;
	const struct model_dir *dir;
	uint8_t *memory; /* of the device: all tensors, where their file has them */
};

static uint64_t place_of(const struct target *target, const struct load_piece *piece, uint64_t *ret_row_bytes)
{
	const struct tensor *tensor = weights_find(target->dir->weights, piece->spec->name);
	*ret_row_bytes = tensor->bytes / tensor->dims[0];
	return tensor->shard_offset + piece->first * *ret_row_bytes;
}

static enum err copy_piece(void *context, const struct load_piece *piece, struct why *why)
{
	struct target *target = context;
	uint64_t row_bytes, place = place_of(target, piece, &row_bytes);
	if (piece->spec->dim_count == 1)
		return ERR_OK; /* of another type */
	return dev_copy(target->device, target->memory + place, piece->rows, piece->count * row_bytes);
}

static void a_buffer_is_not_read_into_before_the_device_has_it(void **state)
{
	struct target target = {.device = gpu_open(1), .dir = open_model()};
	const struct load_plan_options planning = {ELEM_BF16, 1, false};
	struct load_progress progress;
	struct load_plan *plan;
	uint64_t bytes = 0;
	for (size_t i = 0; i < weights_count(target.dir->weights); i++) {
		const struct tensor *tensor = weights_at(target.dir->weights, i);
		uint64_t end = tensor->shard_offset + tensor->bytes;
		bytes = end > bytes ? end : bytes;
	}
	target.memory = gpu_alloc(target.device, bytes);
	assert_int_equal(load_plan_create(&target.dir->config, target.dir->weights, &planning, NULL, &plan), ERR_OK);
	assert_true(plan->piece_count > 4 * LOAD_WORKERS); /* each worker's buffers serve again and again */
	const struct load_reader_options options = {.device = target.device, .weights = target.dir->weights, .plan = plan,
						    .context = &target, .take = copy_piece};
	assert_int_equal(load_read(&options, NULL, &progress), ERR_OK);
	uint8_t *got = gpu_take(target.device, target.memory, bytes);
	for (size_t i = 0; i < weights_count(target.dir->weights); i++) {
		const struct tensor *tensor = weights_at(target.dir->weights, i);
		if (tensor->dim_count == 2)
			assert_memory_equal(got + tensor->shard_offset, tensor->data, tensor->bytes);
	}
	free(got);
	load_plan_destroy(plan);
	device_close(target.device);
	model_dir_close((struct model_dir *)target.dir);
	assert_int_equal(fake_device_used(), 0);
	assert_int_equal(fake_pinned_used(), 0);
}

static enum err load_failing(const char *call, uint32_t nth, int error, struct why *why)
{
	size_t device_before = fake_device_used(), pinned_before = fake_pinned_used();
	struct model_dir *dir = open_model();
	struct device *device = gpu_open(1);
	struct engine_weights *weights = NULL;
	fake_heal();
	if (call)
		fake_fail(call, nth, error);
	enum err e = engine_weights_create(&(struct ranks){1, {device}}, &dir->config, dir->weights, NULL, why, &weights);
	if (e == ERR_OK)
		engine_weights_destroy(weights);
	fake_heal();
	device_close(device);
	model_dir_close(dir);
	if (e != ERR_DEVICE) { /* a lost device takes nothing back */
		assert_int_equal(fake_device_used(), device_before);
		assert_int_equal(fake_pinned_used(), pinned_before);
	}
	return e;
}

static void a_device_that_fails_ends_the_load(void **state)
{
	static const struct {
		const char *call;
		uint32_t nth;
		int error;
		enum err e;
	} faults[] = {
		{"copy", 1, LAUNCH_FAILURE, ERR_DEVICE},	      {"copy", 20, LAUNCH_FAILURE, ERR_DEVICE},
		{"cudaMemcpyAsync", 3, LAUNCH_FAILURE, ERR_DEVICE},   {"cudaHostAlloc", 1, NO_MEMORY, ERR_NOMEM},
		{"cudaMalloc", 1, NO_MEMORY, ERR_NOMEM},	      {"cudaMalloc", 9, NO_MEMORY, ERR_NOMEM},
		{"cudaEventSynchronize", 1, LAUNCH_FAILURE, ERR_DEVICE}};
	struct why why;
	assert_int_equal(load_failing(NULL, 0, 0, &why), ERR_OK);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		why.text[0] = 0;
		enum err e = load_failing(faults[i].call, faults[i].nth, faults[i].error, &why);
		if (e != faults[i].e || !why.text[0])
			fail_msg("%s %u: %s, \"%s\"", faults[i].call, faults[i].nth, err_text(e), why.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_buffer_is_not_read_into_before_the_device_has_it),
		cmocka_unit_test(a_device_that_fails_ends_the_load),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
