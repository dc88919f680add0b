/* bench_kv_ledger - CPU of each operation of a full ledger, by the default policy: nothing but the bookkeeping of blocks.
 *
 *   meson compile -C build bench_kv_ledger
 *   build/bench/kv/bench_kv_ledger [--blocks N] [--runs R] [--check]
 *
 * Blocks are asked for in random order, so nearly everything is out of the processor's caches.  Each run does so many operations of
 * a kind in a row; the median over the runs is told.  With two sizes half of the room is each one's, and what the other size loses is
 * remembered (kvstore/ledger_slabs.c).  --check: fail when an operation costs more than 2 us (DESIGN 5). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/options.h"
#include "base/rng.h"
#include "kvstore/ledger.h"

enum {
	LAYERS = 32,
	LAYER_BYTES = 64,
	SLABS = 16,
	SIZES_MAX = 2, /* blocks of one are twice as large as those of the other */
	OPS = 8192,
	RUNS_MAX = 1000,
	LIMIT_NS = 2000,
	FLUSH_BYTES = 64 << 20,
};

enum op { LOOK_UP, MISS, RELEASE, FULL_OFFER, EVICT, OFFER, OP_COUNT };
static const char *const op_names[OP_COUNT] = {
	"look-up that finds, and hold", "look-up that finds nothing", "release", "offer and seal, with the eviction for it",
	"eviction", "offer and seal in a free slot",
};

struct bench {
	struct ledger *ledger;
	uint64_t *generations; /* [SLABS][slots a slab] */
	uint32_t slots_max;
	uint32_t blocks;
	uint32_t sizes;
	uint32_t next; /* the number of the next new block */
	struct rng rng;
	uint8_t *flush;
	uint32_t entries[OPS];
	double ns[OP_COUNT][RUNS_MAX];
};

static const struct id128 compat = {{1}};
static const uint64_t digests[LAYERS];

static enum err open_slab(void *context, uint32_t slab, uint32_t slot_bytes, uint32_t slot_count, struct slab_region *ret_region)
{
	struct bench *b = context;
	(void)slot_bytes, (void)slot_count;
	*ret_region = (struct slab_region){.region = slab, .generations = b->generations + (size_t)slab * b->slots_max};
	return ERR_OK;
}

static void close_slab(void *context, uint32_t slab)
{
	(void)context, (void)slab;
}

static struct ledger_block block_of(const struct bench *b, uint32_t number)
{
	struct ledger_block block = {.compat = compat, .layer_count = LAYERS, .layer_bytes = LAYER_BYTES << number % b->sizes,
				     .digests = digests};
	uint64_t words[2] = {rng_mix(number), rng_mix(~(uint64_t)number)};
	memcpy(block.key.bytes, words, sizeof(words));
	return block;
}

static void offer(struct bench *b)
{
	struct ledger_block block = block_of(b, b->next++);
	uint32_t entry;
	if (ledger_offer(b->ledger, &block, &entry) != ERR_OK || ledger_read(b->ledger, entry) != ERR_OK)
		abort(); /* nothing is held */
	ledger_seal(b->ledger, entry);
}

static uint32_t find(struct bench *b, uint32_t number)
{
	struct ledger_block block = block_of(b, number);
	return ledger_find(b->ledger, &block.key, &compat);
}

static bool bench_open(struct bench *b)
{
	uint32_t block_bytes = LAYERS * LAYER_BYTES;
	b->slots_max = b->blocks / SLABS;
	struct ledger_options options = {
		.slabs = {.slab_count = SLABS, .slab_bytes = (uint64_t)b->slots_max * block_bytes, .slot_bytes_min = block_bytes,
			  .context = b, .open = open_slab, .close = close_slab},
		.entry_max = b->blocks + 1,
		.layers_max = LAYERS,
	};
	void *memory = calloc(1, ledger_bytes(&options));
	b->generations = calloc((size_t)SLABS * b->slots_max, sizeof(uint64_t));
	if (!memory || !b->generations)
		return false;
	b->ledger = ledger_init(memory, &options);
	for (uint32_t i = 0; i < 2 * b->blocks; i++) /* everything was used before */
		offer(b);
	return true;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void do_one(struct bench *b, enum op op, uint32_t i)
{
	switch (op) {
	case LOOK_UP:
		b->entries[i] = find(b, b->entries[i]);
		ledger_hold(b->ledger, b->entries[i]);
		break;
	case MISS:
		if (find(b, UINT32_MAX - (uint32_t)rng_below(&b->rng, b->blocks)) != LEDGER_NONE)
			abort();
		break;
	case RELEASE:
		ledger_release(b->ledger, b->entries[i]);
		break;
	case EVICT:
		if (ledger_evict(b->ledger, b->entries[i]) != ERR_OK)
			abort();
		break;
	case FULL_OFFER:
	case OFFER:
		offer(b);
		break;
	default:
		abort();
	}
}

/* Which blocks, and nothing of them is near the processor any more. */
static void prepare(struct bench *b, enum op op)
{
	for (uint32_t i = 0; op == LOOK_UP && i < OPS; i++) {
		do
			b->entries[i] = b->next - 1 - (uint32_t)rng_below(&b->rng, b->blocks);
		while (find(b, b->entries[i]) == LEDGER_NONE);
	}
	for (uint32_t i = 0; op == EVICT && i < OPS; i++) {
		do
			b->entries[i] = find(b, b->next - 1 - (uint32_t)rng_below(&b->rng, b->blocks));
		while (b->entries[i] == LEDGER_NONE || ledger_holds(b->ledger, b->entries[i]) > 0);
		ledger_hold(b->ledger, b->entries[i]); /* not a second time */
	}
	for (uint32_t i = 0; op == EVICT && i < OPS; i++)
		ledger_release(b->ledger, b->entries[i]);
	for (size_t i = 0; i < FLUSH_BYTES; i += 64)
		b->flush[i]++;
}

static void run(struct bench *b, uint32_t index)
{
	for (enum op op = 0; op < OP_COUNT; op++) {
		prepare(b, op);
		uint64_t start = cpu_ns();
		for (uint32_t i = 0; i < OPS; i++)
			do_one(b, op, i);
		b->ns[op][index] = (double)(cpu_ns() - start) / OPS;
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static enum err measure(uint32_t blocks, uint32_t runs, uint32_t sizes, double ret_ns[OP_COUNT])
{
	struct bench *b = calloc(1, sizeof(*b));
	if (!b)
		return ERR_NOMEM;
	*b = (struct bench){.blocks = blocks, .sizes = sizes, .rng = {.seed = 1}, .flush = malloc(FLUSH_BYTES)};
	enum err e = bench_open(b) && b->flush ? ERR_OK : ERR_NOMEM;
	for (uint32_t i = 0; e == ERR_OK && i < runs; i++)
		run(b, i);
	if (e == ERR_OK)
		ledger_check(b->ledger);
	for (int op = 0; op < OP_COUNT; op++) {
		qsort(b->ns[op], runs, sizeof(double), by_value);
		ret_ns[op] = b->ns[op][runs / 2];
	}
	free(b->ledger);
	free(b->generations);
	free(b->flush);
	free(b);
	return e;
}

static enum err report(uint32_t blocks, uint32_t runs, bool must_check)
{
	double ns[SIZES_MAX][OP_COUNT];
	for (uint32_t sizes = 1; sizes <= SIZES_MAX; sizes++) {
		enum err e = measure(blocks, runs, sizes, ns[sizes - 1]);
		if (e != ERR_OK)
			return e;
	}
	printf("%s, room for %u blocks of %d layers, median of %u runs of %d operations\n\n| ns an operation | blocks of one size | of two |\n"
	       "|---|---|---|\n", evict_policies[0]->name, blocks, LAYERS, runs, OPS);
	bool over = false;
	for (int op = 0; op < OP_COUNT; op++) {
		printf("| %s | %.0f | %.0f |\n", op_names[op], ns[0][op], ns[1][op]);
		over |= ns[0][op] > LIMIT_NS || ns[1][op] > LIMIT_NS;
	}
	return over && must_check ? ERR_TOO_LARGE : ERR_OK;
}

int main(int argc, char **argv, char **environment)
{
	uint64_t blocks = 100000, runs = 51;
	bool must_check = false;
	struct option table[] = {
		{"blocks", OPTION_COUNT, &blocks, 4 * OPS, 1 << 26, "N", "there is room for"},
		{"runs", OPTION_COUNT, &runs, 1, RUNS_MAX, "R", "of which the median is told"},
		{"check", OPTION_FLAG, &must_check, 0, 0, NULL, "fail when an operation costs more than 2 us"},
	};
	struct options options = {.program = "bench_kv_ledger", .usage = "[options]", .table = table,
				  .count = sizeof(table) / sizeof(table[0]), .environment = environment};
	struct why why = {0};
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help)
		options_print_help(&options);
	else if (e == ERR_OK)
		e = report((uint32_t)blocks, (uint32_t)runs, must_check);
	if (e != ERR_OK)
		fprintf(stderr, "bench_kv_ledger: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK ? 0 : 1;
}
