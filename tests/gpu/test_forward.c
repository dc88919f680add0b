/* Whole models on the device, from tokens to logits: the same bits in any chunks and company, as a step that is queued, recorded or run
 * again; near a CPU's logits; and blocks that others read and write. */
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/log.h"
#include "engine/kv_neighbour.h"
#include "tests/gpu/made_model.h"

/* More than a tile of attention, several blocks, three times the window. */
enum { TOKENS = 75, DECODED = 4, TOGETHER = 3, ROW = MADE_VOCABULARY };

struct logits {
	float of[TOKENS][ROW];
};

/* All tokens at once. */
static void compute_whole(struct made *m, struct logits *ret_logits)
{
	struct made_sequence s;
	struct plan plan = {0};
	made_sequence_init(&s, m, 0, TOKENS);
	made_plan_add(&plan, &s, 0, TOKENS);
	made_step(m, &plan, ret_logits->of[0]);
}

static void assert_rows(const struct made_family *family, const float *rows, uint32_t first, uint32_t count, const struct logits *whole,
			const char *how)
{
	for (uint32_t i = 0; i < count; i++)
		if (memcmp(rows + (size_t)i * ROW, whole->of[first + i], ROW * sizeof(float)) != 0)
			fail_msg("%s: position %u has other bits %s", family->name, first + i, how);
}

/* --- the same bits ------------------------------------------------------------------------------------------- */

/* The first tokens in chunks beside another sequence, the last ones by one: the first such step is queued as it comes, the second is
 * recorded, the others run again; then two sequences a step. */
static void compute_in_pieces(struct made *m, const struct made_family *family, const struct logits *whole)
{
	struct made_sequence s, other;
	float (*rows)[ROW] = malloc(MADE_ROWS_MAX * sizeof(*rows));
	uint32_t at = 0, beside = 0;
	made_sequence_init(&s, m, 1, TOKENS);
	made_sequence_init(&other, m, 0, TOKENS);
	memcpy(s.tokens, other.tokens, sizeof(s.tokens));
	for (uint32_t count = 1; at < TOKENS - DECODED; at += count) {
		struct plan plan = {0};
		count = count * 5 % 47;
		count = count < TOKENS - DECODED - at ? count : TOKENS - DECODED - at;
		made_plan_add(&plan, &other, beside, 3);
		made_plan_add(&plan, &s, at, count);
		made_step(m, &plan, rows[0]);
		assert_rows(family, rows[0], beside, 3, whole, "beside another");
		assert_rows(family, rows[3], at, count, whole, "in chunks");
		beside += 3;
	}
	static const char *const ways[DECODED] = {"alone", "as it is recorded", "as it runs again", "as it runs again"};
	for (uint32_t i = 0; i < DECODED; i++, at++) {
		struct plan plan = {0};
		made_plan_add(&plan, &s, at, 1);
		made_step(m, &plan, rows[0]);
		assert_rows(family, rows[0], at, 1, whole, ways[i]);
	}
	for (uint32_t i = 0; i < TOGETHER; i++, beside++) {
		struct plan plan = {0};
		made_plan_add(&plan, &s, TOKENS - DECODED + i, 1);
		made_plan_add(&plan, &other, beside, 1);
		made_step(m, &plan, rows[0]);
		assert_rows(family, rows[0], TOKENS - DECODED + i, 1, whole, "with another");
		assert_rows(family, rows[1], beside, 1, whole, "with another");
	}
	free(rows);
}

/* --- beside a CPU --------------------------------------------------------------------------------------------- */

/* The greatest difference of a row, in parts of the row's root mean square. */
static double distance(const float *row, const float *expected)
{
	double greatest = 0, square = 0;
	for (uint32_t i = 0; i < ROW; i++) {
		greatest = fmax(greatest, fabs((double)row[i] - expected[i]));
		square += (double)expected[i] * expected[i];
	}
	return greatest / sqrt(square / ROW);
}

/* Weights of f32: sums of norms in another order; an expert's answer is rounded to bf16, here and there the other way. Of bf16: a GPU rounds what linears read and weights of attention, each by 2^-9 of itself at
 * most; some forty roundings on the way through two layers, as good as independent, move a logit by 2^-9 sqrt(40) of its size, and the greatest
 * of a row's 260 by some three times that; the tolerance is twice as much. Of e4m3: both round rows by 2^-4, another way where what is rounded is
 * a bit other. */
static double tolerance_of(const struct model_config *config, enum elem elem)
{
	static const double tolerances[] = {[ELEM_F32] = 1e-4, [ELEM_BF16] = 6 * 0x1p-9 * 6.3, [ELEM_E4M3] = 0.5};
	return elem == ELEM_F32 && config->experts.count > 0 ? 0.01 : tolerances[elem];
}

/* What has other experts than on the CPU says something else: where rows are rounded, up to a quarter of them may. */
static uint32_t far_most(const struct model_config *config, enum elem elem)
{
	return config->experts.count > 0 && elem != ELEM_F32 ? TOKENS / 4 : 0;
}

static void check_near(const struct made_family *family, enum elem elem, const struct logits *got, const struct logits *expected)
{
	static const char *const names[] = {[ELEM_F32] = "f32", [ELEM_BF16] = "bf16", [ELEM_E4M3] = "e4m3"};
	struct model_config config;
	family->describe(&config);
	double tolerance = tolerance_of(&config, elem), greatest = 0;
	uint32_t far = 0;
	for (uint32_t row = 0; row < TOKENS; row++) {
		double off = distance(got->of[row], expected->of[row]);
		far += !(off <= tolerance);
		greatest = off <= tolerance && off > greatest ? off : greatest;
	}
	print_message("           %s, %s: within %.6f of %.6f, %u rows apart\n", family->name, names[elem], greatest, tolerance, far);
	if (far > far_most(&config, elem))
		fail_msg("%s, %s: %u of %d rows are further from the CPU's than %g", family->name, names[elem], far, TOKENS, tolerance);
}

/* A device each, for it keeps the steps of its model. */
static void check_family(const struct made_family *family, enum elem elem, struct device *cpu)
{
	struct logits *whole = malloc(sizeof(*whole)), *expected = malloc(sizeof(*expected));
	struct device *gpu = gpu_open(1);
	struct made m;
	made_open(&m, gpu, family, elem);
	compute_whole(&m, whole);
	if (elem != ELEM_F32)
		compute_in_pieces(&m, family, whole);
	made_close(&m);
	device_close(gpu);
	made_open(&m, cpu, family, elem);
	compute_whole(&m, expected);
	made_close(&m);
	check_near(family, elem, whole, expected);
	free(whole), free(expected);
}

static void families_are_near_a_cpus_and_the_same_in_any_pieces(void **state)
{
	struct device *cpu = oracle_open();
	for (int elem = ELEM_F32; elem <= ELEM_E4M3; elem++)
		for (size_t i = 0; i < made_family_count; i++)
			if (elem != ELEM_E4M3 || made_families[i].e4m3)
				check_family(&made_families[i], elem, cpu);
	device_close(cpu);
}

/* --- blocks ------------------------------------------------------------------------------------------------------ */

/* What the digests vouch for lies in the file, as another process maps it. */
static void check_blocks(const struct made *m, const struct made_sequence *s, uint32_t token_count)
{
	for (uint32_t g = 0; g < m->config.group_count; g++) {
		const struct kv_memory *host = &m->host[g];
		size_t bytes = MADE_BLOCKS * host->block_stride, layer_bytes = kv_layer_bytes(&host->layout);
		const uint8_t *mapped = mmap(NULL, bytes, PROT_READ, MAP_SHARED, m->fd[g], 0);
		assert_true(mapped != MAP_FAILED);
		for (uint32_t i = 0; i * MADE_BLOCK_TOKENS < token_count; i++)
			for (uint32_t layer = 0; layer < host->layout.layer_count; layer++) {
				uint32_t place = s->blocks[g][i] - host->block_first;
				const uint8_t *at = mapped + place * host->block_stride + layer * host->layer_stride;
				assert_true(digest_of(at, layer_bytes) == m->digests[g][place * host->layout.layer_count + layer]);
			}
		munmap((void *)mapped, bytes);
	}
}

/* Two of one model; the first has computed all tokens, the second goes on from its blocks. */
struct pair {
	const struct made_family *family;
	struct device *devices[2];
	struct made from, to;
	struct made_sequence s;
	struct logits *whole;
};

static struct pair *pair_open(const struct made_family *family)
{
	struct pair *p = calloc(1, sizeof(*p));
	p->family = family;
	p->whole = malloc(sizeof(*p->whole));
	p->devices[0] = gpu_open(1), p->devices[1] = gpu_open(1);
	made_open(&p->from, p->devices[0], family, ELEM_BF16);
	made_open(&p->to, p->devices[1], family, ELEM_BF16);
	compute_whole(&p->from, p->whole);
	made_sequence_init(&p->s, &p->to, 0, TOKENS);
	check_blocks(&p->from, &p->s, TOKENS);
	return p;
}

static void pair_close(struct pair *p)
{
	made_close(&p->to);
	made_close(&p->from);
	for (int i = 1; i >= 0; i--)
		device_close(p->devices[i]);
	free(p->whole);
	free(p);
}

static void go_on(struct pair *p, const char *how)
{
	float rows[DECODED][ROW];
	struct plan plan = {0};
	made_plan_add(&plan, &p->s, TOKENS - DECODED, DECODED);
	made_step(&p->to, &plan, rows[0]);
	assert_rows(p->family, rows[0], TOKENS - DECODED, DECODED, p->whole, how);
}

/* Copied in the host's memory. */
static void blocks_are_fetched_and_land(void **state)
{
	static const size_t some[] = {0, 1, 4}; /* heads, two groups, latents */
	for (size_t n = 0; n < sizeof(some) / sizeof(*some); n++) {
		struct pair *p = pair_open(&made_families[some[n]]);
		for (uint32_t g = 0; g < p->to.config.group_count; g++) {
			for (uint32_t b = 0; b < MADE_BLOCKS; b++)
				for (uint32_t layer = 0; layer < p->to.host[g].layout.layer_count; layer++)
					kv_ranks_landing(&p->to.of_ranks[g], p->to.host[g].block_first + b, layer);
			memcpy(p->to.host[g].base, p->from.host[g].base, MADE_BLOCKS * p->to.host[g].block_stride);
		}
		go_on(p, "over blocks that landed");
		pair_close(p);
	}
}

static struct kv_neighbour *neighbour_of(struct made *m, struct device *device, struct why *why)
{
	struct kv_mirror *mirrors[LAYER_GROUPS_MAX];
	struct kv_neighbour *neighbour = NULL;
	for (uint32_t g = 0; g < m->config.group_count; g++)
		mirrors[g] = m->of_ranks[g].mirrors[0];
	return kv_neighbour_create(device, mirrors, m->config.group_count, why, &neighbour) == ERR_OK ? neighbour : NULL;
}

/* All that was digested of a group, from the memory of the other's device; the host's gets it, and nothing of the host's goes back. */
static void arrive(struct pair *p, struct kv_neighbour *ours, uint32_t g, const uint8_t *theirs)
{
	const struct kv_memory *host = &p->to.host[g];
	struct kv_arrival arrivals[MADE_BLOCKS * 2];
	uint32_t count = 0, layers = host->layout.layer_count;
	for (uint32_t i = 0; i * MADE_BLOCK_TOKENS < TOKENS; i++)
		for (uint32_t layer = 0; layer < layers; layer++) {
			uint32_t block = p->s.blocks[g][i], place = block - host->block_first;
			kv_ranks_landing(&p->to.of_ranks[g], block, layer);
			arrivals[count++] = (struct kv_arrival){.to = kv_neighbour_twin(ours, block, layer),
								.from = theirs + place * host->block_stride + layer * host->layer_stride,
								.digest = p->from.digests[g][place * layers + layer]};
		}
	assert_int_equal(kv_neighbour_read(ours, arrivals, count), ERR_OK);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t block = p->s.blocks[g][i / layers], layer = i % layers;
		assert_true(arrivals[i].landed);
		assert_memory_equal(kv_layer_at(host, block, layer), kv_layer_at(&p->from.host[g], block, layer), kv_layer_bytes(&host->layout));
		memset(kv_layer_at(host, block, layer), 0x55, kv_layer_bytes(&host->layout));
	}
}

/* Where memory has descriptors (test_peer_memory.c says why not). */
static bool neighbours_read(struct pair *p)
{
	struct why why = {0};
	struct kv_neighbour *theirs = neighbour_of(&p->from, p->devices[0], &why), *ours = neighbour_of(&p->to, p->devices[1], &why);
	bool can = theirs && ours;
	for (uint32_t g = 0; g < p->to.config.group_count && can; g++) {
		int fd;
		void *memory, *mapped;
		size_t bytes = MADE_BLOCKS * p->to.host[g].block_stride;
		can = kv_neighbour_export(theirs, g, &memory, &fd, &why) == ERR_OK;
		if (!can)
			break;
		can = kv_neighbour_import(ours, fd, bytes, &mapped, &why) == ERR_OK;
		close(fd);
		if (!can)
			break;
		arrive(p, ours, g, mapped);
		kv_neighbour_unimport(ours, mapped, bytes);
	}
	if (!can)
		print_message("           skipped: %s\n", why.text);
	kv_neighbour_destroy(theirs);
	kv_neighbour_destroy(ours);
	return can;
}

static void blocks_come_from_a_neighbours_device(void **state)
{
	static const size_t some[] = {1, 4};
	for (size_t n = 0; n < sizeof(some) / sizeof(*some); n++) {
		struct pair *p = pair_open(&made_families[some[n]]);
		bool can = neighbours_read(p);
		if (can)
			go_on(p, "over blocks of a neighbour");
		pair_close(p);
		if (!can)
			skip();
	}
}

int main(void)
{
	log_init("test", LOG_WARN, false);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(families_are_near_a_cpus_and_the_same_in_any_pieces),
		cmocka_unit_test(blocks_are_fetched_and_land),
		cmocka_unit_test(blocks_come_from_a_neighbours_device),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
