/* Attention that walks: runs that are many enough are each one block's, which joins their splits in registers or, of wide heads, in
 * memory. The bits are those of the same run alone, whose splits several blocks share and a second kernel joins. */
#include "kernels/cuda/attention.h"
#include "tests/gpu/attention_world.h"
#if __has_include("fake.h")
#include "fake.h"
#define IS_FAKE 1
#else
#define IS_FAKE 0
#endif

/* Rows from THREE on see three splits, those from TWO on two. */
enum { THREE = 2 * ATTENTION_SPLIT, TWO = ATTENTION_SPLIT + 44, TWO_COUNT = 7 };

struct form {
	struct shape shape;
	uint32_t rows;	    /* of a run: more than 256 with the heads of a group take another kernel */
	uint32_t tile_rows; /* of its kernel, */
	uint32_t blocks;    /* and how many of them a multiprocessor has (attention_tiles.cu: struct form) */
};

static const struct form forms[] = {
	{{4, 64, 0, 16, ELEM_BF16, 0, 0, 0}, 1, 64, 2},	     {{4, 128, 0, 16, ELEM_BF16, 300, 0, 8.0f}, 1, 64, 2},
	{{2, 256, 0, 16, ELEM_BF16, 0, 4.0f, 0}, 1, 64, 1},  {{1, 512, 0, 64, ELEM_BF16, 0, 0, 0}, 1, 64, 1},
	{{2, 576, 512, 64, ELEM_BF16, 0, 0, 0}, 1, 64, 1},   {{2, 640, 320, 64, ELEM_BF16, 0, 0, 4.0f}, 1, 64, 1},
	{{16, 64, 0, 16, ELEM_BF16, 0, 0, 0}, 17, 192, 1},   {{16, 128, 0, 64, ELEM_BF16, 0, 0, 0}, 17, 128, 1},
	{{16, 256, 0, 16, ELEM_BF16, 0, 0, 6.0f}, 17, 128, 1},
};

/* Of the last call: its scratch begins with the first partial row of each run (attention.cu). */
static bool was_walked(struct device *device, uint32_t run)
{
	uint32_t first;
	assert_int_equal(dev_copy(device, &first, static_cast<uint32_t *>(cuda_scratch(device, 1)) + run, sizeof(first)), ERR_OK);
	return first == ATTENTION_WALKED;
}

/* The answers of `rows` rows from each position on, computed alone; empty where nobody asked. */
struct answers_alone {
	struct world &w;
	uint32_t rows;
	std::vector<float> of[LENGTH];

	const std::vector<float> &at(uint32_t first)
	{
		if (of[first].empty()) {
			w.attend_run(first, rows);
			assert_false(was_walked(w.device, 0));
			of[first].resize(rows * w.row);
			assert_int_equal(dev_copy(w.device, of[first].data(), w.out.at + first * w.row, rows * w.row * sizeof(float)),
					 ERR_OK);
		}
		return of[first];
	}
};

/* Runs of one table; every other one is short if there are `two`. */
struct many_runs {
	struct world &w;
	uint32_t rows;
	std::vector<struct kv_run> list;
	on_device<float> q, rest;

	many_runs(struct world &world, uint32_t run_rows, uint32_t count, bool two)
		: w(world), rows(run_rows), q(world.device, count * run_rows * world.row), rest(world.device, count * run_rows * world.rest)
	{
		for (uint32_t i = 0; i < count; i++) {
			uint32_t first = two && i % 2 ? TWO + i % TWO_COUNT : THREE + i % (LENGTH - THREE - rows + 1);
			list.push_back({w.blocks.data(), first, i * rows, rows, false});
			q.set(&w.q[first * w.row], rows * w.row, i * rows * w.row);
			if (w.rest > 0)
				rest.set(&w.q_rest[first * w.rest], rows * w.rest, i * rows * w.rest);
		}
	}
	void check(struct answers_alone *alone);
};

/* In f32, then rounded to bf16; the answers lie in the queries' order. */
void many_runs::check(struct answers_alone *alone)
{
	on_device<float> out(w.device, list.size() * rows * w.row);
	on_device<uint16_t> halves(w.device, out.count);
	out.fill(0xff), halves.fill(0xff);
	w.attend(list.data(), (uint32_t)list.size(), q.at, rest.at, out.at);
	for (uint32_t i = 0; i < list.size(); i += (uint32_t)list.size() / 13 + 1) /* those of three splits are too long where others have two */
		assert_int_equal(was_walked(w.device, i), list[1].first_position >= THREE || list[i].first_position < THREE);
	w.attend(list.data(), (uint32_t)list.size(), q.at, rest.at, halves.at, ELEM_BF16);
	std::vector<float> whole = out.get();
	std::vector<uint16_t> rounded = halves.get();
	for (uint32_t i = 0; i < list.size(); i++) {
		const std::vector<float> &expected = alone->at(list[i].first_position);
		const size_t at = i * rows * w.row;
		if (memcmp(&whole[at], expected.data(), expected.size() * sizeof(float)) != 0)
			fail_msg("group %u, dim %u/%u: run %u of %zu, from %u, has other bits than alone", w.shape.group, w.shape.dim,
				 w.value_dim, i, list.size(), list[i].first_position);
		for (size_t j = 0; j < expected.size(); j++)
			if (rounded[at + j] != bf16_round(expected[j]))
				fail_msg("group %u, dim %u/%u: run %u is not rounded", w.shape.group, w.shape.dim, w.value_dim, i);
	}
}

/* A run is walked if it has at most as many splits as there are for each quarter of a block (attention_plan.h): as many runs as make
 * that `splits`, of three each or of three and two in turn. */
static uint32_t runs_for(const struct world &w, const struct form &form, uint32_t splits)
{
	uint32_t grid = device_props(w.device)->thread_count * form.blocks;
	uint32_t items = (form.rows * form.shape.group + form.tile_rows - 1) / form.tile_rows * w.head_kv_count;
	uint32_t work = splits == 3 ? 3 * items : 5 * items, times = (splits * grid * 4 + work - 1) / work;
	return splits == 3 ? times : 2 * times;
}

static void walked_runs_have_the_bits_of_merged_ones(void **)
{
#if IS_FAKE
	struct fake_options options = *fake_now();
	options.processors = 2; /* few runs are many, then */
	struct fake_options before = fake_configure(&options);
#endif
	struct device *device = opened();
	for (const struct form &form : forms) {
		struct world w(device, form.shape);
		const struct kv_run all = {w.blocks.data(), 0, 0, LENGTH, false};
		struct answers_alone alone = {w, form.rows, {}};
		w.write(&all, 1, w.device_k.at, w.device_v.at);
		for (uint32_t splits = 3; splits >= (form.rows == 1 ? 2 : 3); splits--)
			many_runs(w, form.rows, runs_for(w, form, splits), splits == 2).check(&alone);
	}
	device_close(device);
#if IS_FAKE
	fake_configure(&before);
#endif
}

struct trial {
	bool odd;	/* threads copy keys and values, not the copy engine */
	int processors; /* the fake device's, */
	int order;	/* and how its threads take turns */
};

/* Everything that a trial's device computes: a prompt in one piece, then a long decode row beside short ones. */
static std::vector<float> answers_of(const struct trial &trial)
{
	struct device *device = opened();
	std::vector<float> all;
	{
		struct world w(device, {4, 64, 0, 16, ELEM_BF16, 0, 0, 0, 1, trial.odd});
		struct kv_run list[9];
		w.step(0, LENGTH);
		all = w.out.get();
		list[0] = {w.blocks.data(), 520, 0, 1, false};
		for (uint32_t i = 1; i < 9; i++)
			list[i] = {w.blocks.data(), 10 + i, i, 1, false};
		w.attend(list, 9, w.device_q.at, w.device_rest.at, w.out.at);
		std::vector<float> out = w.out.get();
		all.insert(all.end(), out.begin(), out.begin() + (ptrdiff_t)(9 * w.row));
	}
	device_close(device);
	return all;
}

/* Keys and values come by the copy engine or not; where the device can be told, there are few multiprocessors or many, and threads
 * take turns in any order. */
static void bits_do_not_depend_on_the_grid_or_the_turns(void **)
{
#if IS_FAKE
	static const struct trial trials[] = {{false, 1, FAKE_FORWARD}, {true, 3, FAKE_SHUFFLED}, {false, 40, FAKE_BACKWARD}};
#else
	static const struct trial trials[] = {{false, 0, 0}, {true, 0, 0}};
#endif
	std::vector<float> first;
	for (const struct trial &trial : trials) {
#if IS_FAKE
		struct fake_options options = *fake_now();
		options.processors = trial.processors, options.order = (enum fake_order)trial.order;
		struct fake_options before = fake_configure(&options);
#endif
		std::vector<float> answers = answers_of(trial);
#if IS_FAKE
		fake_configure(&before);
#endif
		if (first.empty())
			first = answers;
		assert_memory_equal(answers.data(), first.data(), first.size() * sizeof(float));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(walked_runs_have_the_bits_of_merged_ones),
		cmocka_unit_test(bits_do_not_depend_on_the_grid_or_the_turns),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
