/* KV blocks on the device: the bytes that a CPU writes, tails zeroed, nothing else touched, and the digests of base/digest.h. */
#include "base/digest.h"
#include "tests/gpu/fixture.h"

static struct device *gpu, *cpu;

static int open_both(void **state)
{
	gpu = gpu_open(1);
	cpu = oracle_open();
	return 0;
}

static int close_both(void **state)
{
	device_close(gpu);
	device_close(cpu);
	return 0;
}

enum { BLOCKS = 12, FIRST = 100, ROWS_MAX = 64, LAYERS = 2 };

/* Three runs: one that ends in a block it began, one in a block of before, one of a single row; between
 * them are rows that belong to none. */
static uint32_t runs_of(uint32_t tokens, uint32_t tables[3][4], struct kv_run *list)
{
	const uint32_t blocks[3][4] = {{FIRST + 3, FIRST + 0, FIRST + 11, FIRST}, {FIRST + 7, FIRST + 8, FIRST, FIRST}, {FIRST + 1, FIRST + 2, FIRST, FIRST}};
	memcpy(tables, blocks, sizeof(blocks));
	list[0] = (struct kv_run){tables[0], 2, 0, tokens + 3, true};
	list[1] = (struct kv_run){tables[1], tokens - 3, tokens + 5, 2, false};
	list[2] = (struct kv_run){tables[2], tokens, tokens + 10, 1, true};
	return 3;
}

/* A pool of blocks on each device, of the same bytes at first. */
struct pools {
	struct kv_memory on_gpu, on_cpu;
	size_t bytes;
};

static struct pools pools_make(struct rng *rng, const struct kv_layout *layout)
{
	struct pools p = {.on_cpu = {*layout, NULL, kv_block_bytes(layout) + 32, kv_layer_bytes(layout), FIRST}};
	p.bytes = BLOCKS * p.on_cpu.block_stride;
	p.on_cpu.base = malloc(p.bytes);
	for (size_t i = 0; i < p.bytes; i++)
		((uint8_t *)p.on_cpu.base)[i] = (uint8_t)rng_next(rng);
	p.on_gpu = p.on_cpu;
	p.on_gpu.base = gpu_put(gpu, p.on_cpu.base, p.bytes);
	return p;
}

static void assert_same(const struct pools *p)
{
	void *got = malloc(p->bytes);
	assert_int_equal(dev_copy(gpu, got, p->on_gpu.base, p->bytes), ERR_OK);
	assert_memory_equal(got, p->on_cpu.base, p->bytes);
	free(got);
}

static struct kv_runs *runs_make(struct device *device, uint32_t tokens, const struct kv_run *list, uint32_t count)
{
	const struct kv_runs_bounds bounds = {4, ROWS_MAX + 40, 4, tokens};
	struct kv_runs *runs;
	assert_int_equal(kv_runs_create(device, &bounds, &runs), ERR_OK);
	kv_runs_set(runs, list, count);
	return runs;
}

static void check_digests(const struct pools *p, struct kv_runs *on_gpu, struct kv_runs *on_cpu)
{
	uint64_t *digests, expected[BLOCKS * LAYERS];
	assert_int_equal(dev_alloc(gpu, MEM_PINNED, sizeof(expected), (void **)&digests), ERR_OK);
	memset(digests, 0x55, sizeof(expected));
	memset(expected, 0x55, sizeof(expected));
	for (uint32_t layer = 0; layer < LAYERS; layer++) {
		op_kv_digest(gpu, &(struct kv_digest_call){&p->on_gpu, 1, layer, on_gpu, 0, 1, digests});
		op_kv_digest(cpu, &(struct kv_digest_call){&p->on_cpu, 1, layer, on_cpu, 0, 1, expected});
	}
	assert_int_equal(device_sync(gpu), ERR_OK);
	assert_memory_equal(digests, expected, sizeof(expected));
	dev_free(gpu, MEM_PINNED, digests, sizeof(expected));
}

/* The heads of blocks in memories of their own, as several devices have them; three take turns with the blocks. */
static void check_digests_of_parts(const struct pools *p, uint32_t part_count, struct kv_runs *on_gpu, struct kv_runs *on_cpu)
{
	struct kv_memory parts[DEVICES_MAX];
	uint64_t *digests, expected[BLOCKS * LAYERS];
	for (uint32_t i = 0; i < part_count; i++) {
		parts[i] = p->on_gpu;
		parts[i].layout.head_kv_count /= part_count;
		parts[i].layer_stride = kv_layer_bytes(&parts[i].layout);
		parts[i].block_stride = kv_block_bytes(&parts[i].layout);
		parts[i].base = gpu_nan(gpu, BLOCKS * parts[i].block_stride);
		for (uint32_t b = FIRST; b < FIRST + BLOCKS; b++)
			dev_copy_lines(gpu, &(struct copy_lines){.to = kv_block_at(&parts[i], b), .to_stride = parts[i].layer_stride,
								 .from = kv_block_at(&p->on_gpu, b) + i * parts[i].layer_stride,
								 .from_stride = p->on_gpu.layer_stride,
								 .bytes = parts[i].layer_stride, .count = LAYERS});
	}
	assert_int_equal(dev_alloc(gpu, MEM_PINNED, sizeof(expected), (void **)&digests), ERR_OK);
	memset(digests, 0x55, sizeof(expected));
	memset(expected, 0x55, sizeof(expected));
	for (uint32_t turn = 0; turn < 3; turn++)
		op_kv_digest(gpu, &(struct kv_digest_call){parts, part_count, 1, on_gpu, turn, 3, digests});
	op_kv_digest(cpu, &(struct kv_digest_call){&p->on_cpu, 1, 1, on_cpu, 0, 1, expected});
	assert_int_equal(device_sync(gpu), ERR_OK);
	assert_memory_equal(digests, expected, sizeof(expected));
	dev_free(gpu, MEM_PINNED, digests, sizeof(expected));
	for (uint32_t i = 0; i < part_count; i++)
		dev_free(gpu, MEM_DEVICE, parts[i].base, BLOCKS * parts[i].block_stride);
}

static void check_layout(struct rng *rng, const struct kv_layout *layout)
{
	struct pools p = pools_make(rng, layout);
	struct kv_run list[3];
	uint32_t tables[3][4], count = runs_of(layout->block_tokens, tables, list);
	struct kv_runs *on_gpu = runs_make(gpu, layout->block_tokens, list, count);
	struct kv_runs *on_cpu = runs_make(cpu, layout->block_tokens, list, count);
	bool latent = layout->kind == KV_LATENT;
	size_t width = (size_t)layout->head_kv_count * layout->head_dim, stride = 2 * width + (layout->head_dim % 64 ? 1 : 16);
	size_t bytes = (ROWS_MAX + 40) * stride * 4;
	float *x = random_floats(rng, bytes / 4), *there = gpu_put(gpu, x, bytes);
	op_kv_write(gpu, &(struct kv_write_call){&p.on_gpu, 1, on_gpu, there, latent ? NULL : there + width, stride});
	op_kv_write(cpu, &(struct kv_write_call){&p.on_cpu, 1, on_cpu, x, latent ? NULL : x + width, stride});
	assert_int_equal(device_sync(gpu), ERR_OK);
	assert_same(&p);
	check_digests(&p, on_gpu, on_cpu);
	for (uint32_t parts = 2; parts <= DEVICES_MAX; parts *= 2)
		if (layout->head_kv_count % parts == 0)
			check_digests_of_parts(&p, parts, on_gpu, on_cpu);
	kv_runs_destroy(on_gpu);
	kv_runs_destroy(on_cpu);
	dev_free(gpu, MEM_DEVICE, there, bytes);
	dev_free(gpu, MEM_DEVICE, p.on_gpu.base, p.bytes);
	free(p.on_cpu.base);
	free(x);
}

/* Layers from 512 bytes to 64 KiB, and of 33 leaves and a bit: every way of the hash. */
static void blocks_have_the_bytes_and_digests_of_a_cpu(void **state)
{
	struct rng rng = {.seed = 1};
	const struct kv_layout layouts[] = {
		{LAYERS, 1, 16, 16, ELEM_BF16, KV_HEADS, 0},  {LAYERS, 2, 64, 16, ELEM_BF16, KV_HEADS, 0},
		{LAYERS, 2, 48, 16, ELEM_F32, KV_HEADS, 0},   {LAYERS, 8, 128, 16, ELEM_BF16, KV_HEADS, 0},
		{LAYERS, 3, 80, 64, ELEM_F32, KV_HEADS, 0},   {LAYERS, 1, 576, 16, ELEM_BF16, KV_LATENT, 512},
		{LAYERS, 1, 128, 16, ELEM_F32, KV_LATENT, 64}, {LAYERS, 1, 16, 16, ELEM_BF16, KV_LATENT, 16},
		{LAYERS, 4, 256, 64, ELEM_BF16, KV_HEADS, 0},
	};
	for (size_t i = 0; i < sizeof(layouts) / sizeof(*layouts); i++)
		check_layout(&rng, &layouts[i]);
}

/* Lengths of a layer, by latent blocks of one token: one leaf of every shape, and of one to forty leaves. */
static void digests_of_every_length_are_those_of_the_library(void **state)
{
	struct rng rng = {.seed = 2};
	for (uint32_t tokens = 1; tokens <= 5200; tokens += tokens < 140 ? 1 : tokens < 600 ? 61 : 517) {
		struct kv_layout layout = {1, 1, 16, tokens, ELEM_BF16, KV_LATENT, 16};
		struct kv_memory kv = {layout, NULL, kv_block_bytes(&layout), kv_layer_bytes(&layout), 0};
		size_t bytes = kv.block_stride;
		uint8_t *data = malloc(bytes);
		for (size_t i = 0; i < bytes; i++)
			data[i] = (uint8_t)rng_next(&rng);
		kv.base = gpu_put(gpu, data, bytes);
		uint32_t block = 0;
		const struct kv_run run = {&block, 0, 0, 1, true};
		const struct kv_runs_bounds bounds = {1, 1, 1, tokens};
		struct kv_runs *runs;
		uint64_t *digest;
		assert_int_equal(kv_runs_create(gpu, &bounds, &runs), ERR_OK);
		kv_runs_set(runs, &run, 1);
		assert_int_equal(dev_alloc(gpu, MEM_PINNED, 8, (void **)&digest), ERR_OK);
		op_kv_digest(gpu, &(struct kv_digest_call){&kv, 1, 0, runs, 0, 1, digest});
		assert_int_equal(device_sync(gpu), ERR_OK);
		if (*digest != digest_of(data, bytes))
			fail_msg("the digest of %zu bytes is wrong", bytes);
		dev_free(gpu, MEM_PINNED, digest, 8);
		dev_free(gpu, MEM_DEVICE, kv.base, bytes);
		kv_runs_destroy(runs);
		free(data);
	}
}

/* A step that was recorded with one row writes eleven of two runs when it runs again: counts and tables come from memory. */
static void a_recorded_write_serves_other_runs(void **state)
{
	struct rng rng = {.seed = 3};
	const struct kv_layout layout = {LAYERS, 2, 64, 16, ELEM_BF16, KV_HEADS, 0};
	struct pools p = pools_make(&rng, &layout);
	enum { ROWS = 11, STRIDE = 2 * 2 * 64 };
	const uint32_t blocks[2][2] = {{FIRST + 4, FIRST + 9}, {FIRST + 2, FIRST + 6}};
	const struct kv_run one = {blocks[0], 3, 0, 1, true}, two[] = {{blocks[0], 14, 1, 6, true}, {blocks[1], 0, 7, 4, true}};
	struct kv_runs *on_gpu = runs_make(gpu, 16, &one, 1), *on_cpu = runs_make(cpu, 16, &one, 1);
	float *x = random_floats(&rng, ROWS * STRIDE), *there = gpu_put(gpu, x, ROWS * STRIDE * 4);
	const struct kv_write_call call = {&p.on_gpu, 0, on_gpu, there, there + 128, STRIDE};
	const struct kv_write_call expected = {&p.on_cpu, 0, on_cpu, x, x + 128, STRIDE};
	uint64_t *digests, digests_expected[BLOCKS * LAYERS] = {0};
	assert_int_equal(dev_alloc(gpu, MEM_PINNED, sizeof(digests_expected), (void **)&digests), ERR_OK);
	for (int time = 0; time < 4; time++) {
		kv_runs_set(on_gpu, time < 2 ? &one : two, time < 2 ? 1 : 2);
		kv_runs_set(on_cpu, time < 2 ? &one : two, time < 2 ? 1 : 2);
		bool replayed = device_replay(gpu, 7);
		assert_int_equal(replayed, time >= 2);
		if (!replayed) {
			op_kv_write(gpu, &call);
			op_kv_digest(gpu, &(struct kv_digest_call){&p.on_gpu, 1, 0, on_gpu, 0, 1, digests});
			assert_true(device_recorded(gpu));
		}
		op_kv_write(cpu, &expected);
		op_kv_digest(cpu, &(struct kv_digest_call){&p.on_cpu, 1, 0, on_cpu, 0, 1, digests_expected});
		assert_int_equal(device_sync(gpu), ERR_OK);
		assert_same(&p);
		assert_memory_equal(digests, digests_expected, sizeof(digests_expected));
	}
	kv_runs_destroy(on_gpu);
	kv_runs_destroy(on_cpu);
	dev_free(gpu, MEM_PINNED, digests, sizeof(digests_expected));
	dev_free(gpu, MEM_DEVICE, there, ROWS * STRIDE * 4);
	dev_free(gpu, MEM_DEVICE, p.on_gpu.base, p.bytes);
	free(p.on_cpu.base);
	free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_have_the_bytes_and_digests_of_a_cpu),
		cmocka_unit_test(a_recorded_write_serves_other_runs),
		cmocka_unit_test(digests_of_every_length_are_those_of_the_library),
	};
	return cmocka_run_group_tests(tests, open_both, close_both);
}
