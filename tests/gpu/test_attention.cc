/* Attention on CUDA: near to what is computed in double, and the same bits however a sequence is cut into chunks and batches,
 * wherever its blocks lie (whichever blocks of the grid share its splits: test_attention_walk.cc). */
#include "tests/gpu/attention_world.h"

/* Weights are rounded to bf16 for the product with values, each by at most 2^-8 of itself, and their sum is of what was rounded:
 * that moves a mean of values within +-1 by at most 2^-8. The rest is f32 noise and the hardware's exp2. */
#define TOLERANCE_BF16 (0x1p-8 + 1e-4)
#define TOLERANCE_F32  3e-6

/* --- near to double ----------------------------------------------------------------------------------------- */

static double as_read(const struct world &w, float x)
{
	return w.shape.elem == ELEM_BF16 ? bf16_widen(bf16_round(x)) : x;
}

static double score_of(const struct world &w, uint32_t position, uint32_t head, const float *key)
{
	size_t row = (size_t)position * w.head_count + head;
	uint32_t rest = w.shape.dim - w.value_dim;
	double score = 0;
	for (uint32_t d = 0; d < w.value_dim; d++)
		score += as_read(w, w.q[row * w.value_dim + d]) * as_read(w, key[d]);
	for (uint32_t d = 0; d < rest; d++)
		score += as_read(w, w.q_rest[row * rest + d]) * as_read(w, key[w.value_dim + d]);
	score /= sqrt(w.shape.dim);
	return w.shape.cap > 0 ? w.shape.cap * tanh(score / w.shape.cap) : score;
}

static std::vector<double> reference(const struct world &w, uint32_t position, uint32_t head)
{
	uint32_t head_kv = head / w.shape.group, window = w.shape.window;
	uint32_t first = window == 0 || position < window ? 0 : position + 1 - window;
	const float *keys = w.k.data() + (size_t)head_kv * w.shape.dim;
	const float *values = w.latent ? keys : w.v.data() + (size_t)head_kv * w.shape.dim;
	std::vector<double> out(w.value_dim), score(LENGTH);
	double greatest = w.sinks.empty() ? -INFINITY : w.sinks[head], total;
	for (uint32_t p = first; p <= position; p++) {
		score[p] = score_of(w, position, head, keys + p * w.kv_row);
		greatest = fmax(greatest, score[p]);
	}
	total = w.sinks.empty() ? 0 : exp(w.sinks[head] - greatest);
	for (uint32_t p = first; p <= position; p++) {
		double weight = exp(score[p] - greatest);
		total += weight;
		for (uint32_t d = 0; d < w.value_dim; d++)
			out[d] += weight * as_read(w, values[p * w.kv_row + d]);
	}
	for (double &value : out)
		value /= total;
	return out;
}

static const struct shape shapes[] = {
	{4, 64, 0, 16, ELEM_BF16, 0, 0, 0},	 {3, 80, 0, 7, ELEM_BF16, 0, 0, 0},	{5, 128, 0, 64, ELEM_BF16, 0, 0, 0},
	{4, 32, 0, 24, ELEM_BF16, 100, 0, 0},	 {2, 256, 0, 16, ELEM_BF16, 256, 4.0f, 0}, {1, 192, 0, 64, ELEM_BF16, 0, 0, 0, 1, true},
	{16, 96, 80, 16, ELEM_BF16, 0, 0, 0},	 {3, 48, 48, 7, ELEM_BF16, 90, 2.0f, 0}, {66, 16, 0, 16, ELEM_BF16, 0, 0, 0},
	{4, 64, 0, 16, ELEM_BF16, 0, 0, 0, 1000.0f}, {4, 64, 0, 16, ELEM_BF16, 128, 0, 8.0f, 1, true}, {3, 48, 48, 7, ELEM_BF16, 90, 2.0f, 4.0f}, {8, 64, 0, 16, ELEM_BF16, 1, 0, 100.0f},
	{1, 512, 0, 64, ELEM_BF16, 0, 0, 0},	 {2, 576, 512, 64, ELEM_BF16, 0, 0, 0}, {2, 640, 320, 64, ELEM_BF16, 70, 0, 0},
	{1, 16, 0, 16, ELEM_F32, 0, 0, 0},	 {3, 32, 0, 64, ELEM_F32, 0, 0, 0},	{1, 16, 0, 7, ELEM_F32, 300, 1.5f, 0},
	{5, 32, 16, 16, ELEM_F32, 0, 0, 110.0f},
};

static const uint32_t positions[] = {0, 1, 15, 16, 63, 64, 130, 255, 256, 257, 511, 512, 529};

static void assert_near_reference(const struct world &w, const std::vector<float> &out, uint32_t position, uint32_t head)
{
	double tolerance = w.shape.elem == ELEM_BF16 ? TOLERANCE_BF16 : TOLERANCE_F32;
	std::vector<double> expected = reference(w, position, head);
	for (uint32_t d = 0; d < w.value_dim; d++) {
		double value = out[position * w.row + (size_t)head * w.value_dim + d];
		if (!(fabs(value - expected[d]) <= tolerance))
			fail_msg("group %u, dim %u/%u: position %u, head %u, %u is %.9g, expected %.9g", w.shape.group, w.shape.dim,
				 w.value_dim, position, head, d, value, expected[d]);
	}
}

/* --- the same bits ------------------------------------------------------------------------------------------ */

/* Many heads and wide ones take long: of those the second half is written whole, and only some rows of it are computed. */
static uint32_t computed_of(const struct shape &shape)
{
	return shape.group > 64 || shape.dim >= 512 ? LENGTH / 2 : LENGTH;
}

/* KV of the rest, and the rows there that are looked at. */
static void compute_rest(struct world *w, uint32_t first)
{
	const struct kv_run rest = {w->blocks.data(), first, 0, LENGTH - first, false};
	if (first < LENGTH)
		w->write(&rest, 1, w->device_k.at + first * w->kv_row, w->device_v.at + first * w->kv_row);
	for (uint32_t position : positions)
		if (position >= first)
			w->attend_run(position, 1);
}

/* In one piece, near to double; then the same bits in chunks of any size and of single rows. The pool is NaN where nothing was
 * written, so a slot that is read too early shows as well. */
static void attention_is_right_in_any_chunks_and_blocks(void **)
{
	struct device *device = opened();
	for (const struct shape &shape : shapes) {
		const uint32_t length = computed_of(shape);
		struct world w(device, shape);
		w.step(0, length);
		compute_rest(&w, length);
		std::vector<float> whole = w.out.get();
		for (uint32_t position : positions)
			for (uint32_t head = 0; head < w.head_count; head += 1 + w.head_count / 5)
				assert_near_reference(w, whole, position, head);
		w.shuffle();
		w.out.fill(0xff);
		for (uint32_t p = 0, n; p < length; p += n) {
			n = 1 + (uint32_t)rng_below(&w.rng, 300);
			n = n < length - p ? n : length - p;
			w.step(p, n);
		}
		std::vector<float> out = w.out.get();
		for (uint32_t p = 0; p < length; p++)
			assert_same(w, out, whole, p, "in chunks");
		w.out.fill(0xff);
		compute_rest(&w, length);
		for (uint32_t position : positions)
			if (position < length)
				w.attend_run(position, 1);
		out = w.out.get();
		for (uint32_t position : positions)
			assert_same(w, out, whole, position, "alone");
	}
	device_close(device);
}

/* What lies before a row's window may be anything: those blocks will be others'. */
static void nothing_before_the_window_is_met(void **)
{
	struct device *device = opened();
	for (const struct shape &shape : {shape{4, 32, 0, 16, ELEM_BF16, 75, 0, 0}, {2, 32, 0, 16, ELEM_F32, 75, 0, 0}}) {
		struct world w(device, shape);
		w.step(0, LENGTH);
		std::vector<float> whole = w.out.get();
		std::vector<uint8_t> nan(kv_block_bytes(&w.kv.layout), 0xff);
		uint32_t block = 0;
		w.out.fill(0xff);
		for (uint32_t p = 0, n = 1; p < LENGTH; p += n, n = 90 - n) {
			n = n < LENGTH - p ? n : LENGTH - p;
			for (; (block + 1) * 16 + w.shape.window <= p + 1; block++) {
				w.pool.set(nan.data(), nan.size(), w.blocks[block] * w.kv.block_stride);
				w.blocks[block] = UINT32_MAX / 2; /* no block at all */
			}
			w.step(p, n);
		}
		std::vector<float> out = w.out.get();
		for (uint32_t p = 0; p < LENGTH; p++)
			assert_same(w, out, whole, p, "when blocks before its window are gone");
	}
	device_close(device);
}

/* Runs of several lengths in one call, as when decode rows and prompt chunks mix; the answers take the queries' place. */
static void bits_do_not_depend_on_other_runs(void **)
{
	struct device *device = opened();
	for (const struct shape &shape : {shape{4, 64, 0, 16, ELEM_BF16, 0, 0, 0}, {16, 96, 80, 16, ELEM_BF16, 0, 0, 0},
					  {8, 64, 0, 16, ELEM_BF16, 128, 0, 6.0f}, {2, 16, 0, 16, ELEM_F32, 0, 0, 0}}) {
		struct world w(device, shape);
		w.step(0, LENGTH);
		std::vector<float> whole = w.out.get();
		on_device<float> q(device, LENGTH * w.row), rest(device, LENGTH * w.rest);
		for (int trial = 0; trial < 4; trial++) {
			struct kv_run list[12];
			uint32_t count = 1 + (uint32_t)rng_below(&w.rng, 12), rows = 0;
			for (uint32_t i = 0; i < count; i++) {
				uint32_t n = rng_below(&w.rng, 3) ? 1 : 1 + (uint32_t)rng_below(&w.rng, i == 0 ? 120 : 30);
				list[i] = {w.blocks.data(), (uint32_t)rng_below(&w.rng, LENGTH - n), rows, n, false};
				q.set(&w.q[list[i].first_position * w.row], n * w.row, rows * w.row);
				if (w.rest > 0)
					rest.set(&w.q_rest[list[i].first_position * w.rest], n * w.rest, rows * w.rest);
				rows += n;
			}
			for (uint32_t i = 0; i < count; i++) /* rows of the runs need not be in the runs' order */
				std::swap(list[i], list[rng_below(&w.rng, i + 1)]);
			w.attend(list, count, q.at, rest.at, q.at);
			std::vector<float> out = q.get();
			for (uint32_t i = 0; i < count; i++)
				assert_memory_equal(&out[list[i].row_first * w.row], &whole[list[i].first_position * w.row],
						    list[i].row_count * w.row * sizeof(float));
		}
	}
	device_close(device);
}

static void answers_in_bf16_are_those_in_f32_rounded(void **)
{
	struct device *device = opened();
	for (const struct shape &shape : {shape{4, 64, 0, 16, ELEM_BF16, 0, 0, 0}, {2, 256, 0, 16, ELEM_BF16, 0, 0, 0},
					  {2, 32, 0, 16, ELEM_F32, 0, 0, 0}}) {
		struct world w(device, shape);
		on_device<uint16_t> halves(device, LENGTH * w.row);
		w.step(0, LENGTH);
		std::vector<float> whole = w.out.get();
		for (uint32_t n : {1u, 300u}) { /* walked or merged: test_attention_walk.cc knows which */
			const struct kv_run run = {w.blocks.data(), LENGTH - n, 0, n, false};
			w.attend(&run, 1, w.device_q.at + (LENGTH - n) * w.row, w.device_rest.at, halves.at, ELEM_BF16);
			std::vector<uint16_t> out = halves.get();
			for (size_t i = 0; i < n * w.row; i++)
				assert_int_equal(out[i], bf16_round(whole[(LENGTH - n) * w.row + i]));
		}
	}
	device_close(device);
}

/* The class "fast": splits of other lengths, as the runs are. */
static void fast_answers_are_near_too(void **)
{
	struct device *fast = opened(true), *exact = opened();
	for (const struct shape &shape : {shape{4, 64, 0, 16, ELEM_BF16, 0, 0, 0}, {4, 64, 0, 16, ELEM_BF16, 300, 0, 8.0f},
					  {16, 96, 80, 16, ELEM_BF16, 0, 0, 0}}) {
		struct world a(fast, shape), b(exact, shape);
		uint32_t differing = 0;
		for (struct world *w : {&a, &b}) {
			w->step(0, LENGTH - 20);
			w->step(LENGTH - 20, 20);
			for (uint32_t position : positions)
				w->attend_run(position, 1);
		}
		std::vector<float> out = a.out.get(), other = b.out.get();
		for (uint32_t position : positions)
			for (uint32_t head = 0; head < a.head_count; head += 3)
				assert_near_reference(a, out, position, head);
		for (size_t i = 0; i < out.size(); i++)
			differing += out[i] != other[i];
		assert_true(differing > 0);
	}
	device_close(fast);
	device_close(exact);
}

/* --- f32: the CPU's bits -------------------------------------------------------------------------------------- */

static void f32_has_the_bits_of_the_cpu(void **)
{
	const char *names[DEVICE_VARIANTS_MAX];
	uint32_t count = device_variants(names);
	struct device_options options = {};
	struct device *cpu = nullptr, *cuda = opened();
	struct why why;
	for (uint32_t i = 0; i < count && !cpu; i++) {
		options.variant = names[i];
		assert_int_equal(device_open(&options, &why, &cpu), ERR_OK);
		if (strcmp(device_props(cpu)->numerics, "cpu-fma-1") == 0)
			break;
		device_close(cpu);
		cpu = nullptr;
	}
	if (!cpu)
		print_message("           skipped: this CPU has no fused multiply-add\n");
	for (const struct shape &shape : shapes) {
		if (!cpu || shape.elem != ELEM_F32)
			continue;
		struct world a(cpu, shape), b(cuda, shape);
		a.step(0, LENGTH);
		b.step(0, LENGTH);
		std::vector<float> expected = a.out.get(), out = b.out.get();
		for (uint32_t p = 0; p < LENGTH; p++)
			assert_same(b, out, expected, p, "than on the CPU");
	}
	device_close(cpu);
	device_close(cuda);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(attention_is_right_in_any_chunks_and_blocks),
		cmocka_unit_test(nothing_before_the_window_is_met),
		cmocka_unit_test(bits_do_not_depend_on_other_runs),
		cmocka_unit_test(answers_in_bf16_are_those_in_f32_rounded),
		cmocka_unit_test(fast_answers_are_near_too),
		cmocka_unit_test(f32_has_the_bits_of_the_cpu),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
