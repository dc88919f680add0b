/* attention_world - what tests of attention share: a sequence, its blocks in a pool, and the calls over parts of it.
 *
 * Owns:   a world's memory on its device, until it goes.
 * Loop:   the test's. */
#ifndef TESTS_GPU_ATTENTION_WORLD_H
#define TESTS_GPU_ATTENTION_WORLD_H
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>
extern "C" {
#include <cmocka.h>
}
#include "base/bf16.h"
#include "base/rng.h"
#include "kernels/device.h"
#include "kernels/ops.h"

/* A sequence of 530 positions (three splits) in a pool of blocks, keys and values of all of them. */
#define LENGTH	    530
#define HEADS_KV    2
#define LAYERS	    2
#define POOL_BLOCKS 120

struct shape {
	uint32_t group, dim, value_dim, block_tokens; /* with value_dim the pool holds latents */
	enum elem elem;
	uint32_t window;
	float cap;
	float sink; /* the greatest of the heads' sinks, which lie 3 apart; 0: none */
	float spread = 1; /* queries are so much greater: scores that tower over those before them */
	bool odd = false; /* blocks lie as no tensor map can say: threads copy */
};

template <typename T> struct on_device {
	struct device *device;
	T *at = nullptr;
	size_t count;

	on_device(struct device *owner, size_t size) : device(owner), count(size)
	{
		void *memory;
		assert_int_equal(dev_alloc(device, MEM_DEVICE, count * sizeof(T) + 16, &memory), ERR_OK);
		at = static_cast<T *>(memory);
	}
	~on_device()
	{
		dev_free(device, MEM_DEVICE, at, count * sizeof(T) + 16);
	}
	on_device(const on_device &) = delete;
	on_device &operator=(const on_device &) = delete;

	void set(const T *from, size_t size, size_t first = 0)
	{
		assert_int_equal(dev_copy(device, at + first, from, size * sizeof(T)), ERR_OK);
	}
	void fill(uint8_t byte)
	{
		std::vector<uint8_t> bytes(count * sizeof(T), byte);
		set(reinterpret_cast<const T *>(bytes.data()), count);
	}
	std::vector<T> get() const
	{
		std::vector<T> host(count);
		assert_int_equal(dev_copy(device, host.data(), at, count * sizeof(T)), ERR_OK);
		return host;
	}
};

struct world {
	struct device *device;
	struct shape shape;
	bool latent;
	uint32_t head_kv_count, head_count, value_dim;
	size_t row, rest, kv_row; /* elements of a position: of q and out, of q_rest, of k */
	struct rng rng;
	std::vector<float> q, q_rest, k, v, sinks;
	on_device<float> device_q, device_rest, device_k, device_v, device_sinks, out;
	on_device<uint8_t> pool;
	struct kv_memory kv = {};
	struct kv_runs *runs = nullptr;
	std::vector<uint32_t> blocks;

	world(struct device *owner, const struct shape &of);
	~world()
	{
		kv_runs_destroy(runs);
	}
	std::vector<float> random(size_t count)
	{
		std::vector<float> x(count);
		for (float &value : x)
			value = 2.0f * rng_unit(rng_next(&rng)) - 1.0f;
		return x;
	}
	void shuffle();
	void write(const struct kv_run *list, uint32_t count, const float *at_k, const float *at_v);
	void attend(const struct kv_run *list, uint32_t count, const float *at_q, const float *at_rest, void *to,
		    enum elem elem = ELEM_F32);
	void attend_run(uint32_t first, uint32_t count);
	void step(uint32_t first, uint32_t count);
};

static inline struct kv_layout layout_of(const struct shape &shape)
{
	bool latent = shape.value_dim > 0;
	return {LAYERS, latent ? 1u : HEADS_KV, shape.dim, shape.block_tokens, shape.elem, latent ? KV_LATENT : KV_HEADS, shape.value_dim};
}

static inline size_t block_stride_of(const struct shape &shape)
{
	struct kv_layout layout = layout_of(shape);
	size_t vector = shape.dim * elem_bytes(shape.elem);
	return kv_block_bytes(&layout) + (shape.odd ? 16 : vector);
}

inline world::world(struct device *owner, const struct shape &of)
	: device(owner), shape(of), latent(of.value_dim > 0), head_kv_count(latent ? 1 : HEADS_KV),
	  head_count(of.group * head_kv_count), value_dim(latent ? of.value_dim : of.dim), row(head_count * value_dim),
	  rest(head_count * (of.dim - value_dim)), kv_row(head_kv_count * of.dim), rng{of.dim + of.group, 0},
	  device_q(owner, LENGTH * row), device_rest(owner, LENGTH * rest), device_k(owner, LENGTH * kv_row),
	  device_v(owner, LENGTH * kv_row), device_sinks(owner, head_count), out(owner, LENGTH * row),
	  pool(owner, block_stride_of(of) * POOL_BLOCKS), blocks(LENGTH)
{
	kv.layout = layout_of(of);
	kv.block_stride = block_stride_of(of);
	kv.layer_stride = kv_layer_bytes(&kv.layout);
	kv.base = pool.at;
	const struct kv_runs_bounds bounds = {.runs_max = 1024, .rows_max = 4096, .blocks_max = LENGTH, .block_tokens = of.block_tokens};
	assert_int_equal(kv_runs_create(device, &bounds, &runs), ERR_OK);
	q = random(LENGTH * row);
	for (float &value : q)
		value *= of.spread;
	k = random(LENGTH * kv_row), v = random(LENGTH * kv_row), q_rest = random(LENGTH * rest);
	for (uint32_t head = 0; of.sink > 0 && head < head_count; head++)
		sinks.push_back(of.sink - 3.0f * (float)head);
	device_q.set(q.data(), q.size()), device_k.set(k.data(), k.size()), device_v.set(v.data(), v.size());
	device_rest.set(q_rest.data(), q_rest.size()), device_sinks.set(sinks.data(), sinks.size());
	out.fill(0xff);
	shuffle();
}

/* A random place for every block; what was in the pool becomes NaN. */
inline void world::shuffle()
{
	pool.fill(0xff);
	for (uint32_t i = 0; i < POOL_BLOCKS; i++) {
		uint32_t j = (uint32_t)rng_below(&rng, i + 1);
		blocks[i] = blocks[j];
		blocks[j] = i;
	}
}

inline void world::write(const struct kv_run *list, uint32_t count, const float *at_k, const float *at_v)
{
	const struct kv_write_call call = {.kv = &kv, .layer = 1, .runs = runs, .k = at_k, .v = latent ? nullptr : at_v, .stride = kv_row};
	kv_runs_set(runs, list, count);
	op_kv_write(device, &call);
}

inline void world::attend(const struct kv_run *list, uint32_t count, const float *at_q, const float *at_rest, void *to, enum elem elem)
{
	struct attention_call call = {};
	call.kv = &kv, call.layer = 1, call.runs = runs, call.head_count = head_count;
	call.q = at_q, call.q_stride = row, call.out = to, call.out_stride = row, call.out_elem = elem;
	call.scale = 1.0f / sqrtf((float)shape.dim), call.score_cap = shape.cap, call.window = shape.window;
	call.q_rest = latent ? at_rest : nullptr, call.q_rest_stride = rest;
	call.sinks = sinks.empty() ? nullptr : device_sinks.at;
	kv_runs_set(runs, list, count);
	op_attention(device, &call);
}

/* Attends [first, first + count) as one run; the answers go to their place in `out`. */
inline void world::attend_run(uint32_t first, uint32_t count)
{
	const struct kv_run run = {blocks.data(), first, 0, count, false};
	attend(&run, 1, device_q.at + first * row, device_rest.at + first * rest, out.at + first * row);
}

/* Writes and attends. */
inline void world::step(uint32_t first, uint32_t count)
{
	const struct kv_run run = {blocks.data(), first, 0, count, false};
	write(&run, 1, device_k.at + first * kv_row, device_v.at + first * kv_row);
	attend_run(first, count);
}

static inline struct device *opened(bool fast = false)
{
	struct device_options options = {};
	options.fast = fast;
	struct device *device;
	struct why why;
	options.kind = DEVICE_CUDA;
	if (device_open(&options, &why, &device) != ERR_OK)
		fail_msg("%s", why.text);
	return device;
}

static inline void assert_same(const struct world &w, const std::vector<float> &out, const std::vector<float> &whole, uint32_t position,
			const char *how)
{
	if (memcmp(&out[position * w.row], &whole[position * w.row], w.row * sizeof(float)) != 0)
		fail_msg("group %u, dim %u/%u: position %u has other bits %s", w.shape.group, w.shape.dim, w.value_dim, position, how);
}
#endif
