#include <stdio.h>

#include "bench/gpu/bench.h"

/* KV on its way out: blocks of a layer that lie apart, to the host's memory where they lie apart, too.  A piece is a layer of a block of 64
 * tokens of an 8B model, or an eighth of it, as a rank of eight has it; beside them one piece of as many bytes, which is what PCIe gives.
 * What the call costs the host is a figure of its own: the compute thread makes one for each layer of a chunk, of each rank. */
enum { LAYER_BYTES = 256 << 10, PIECES = 128 };

struct fetch {
	struct bench *bench;
	uint8_t *from, *to;
	struct fetch_piece pieces[PIECES];
	uint32_t count;
};

static void fetch(void *context, uint32_t index)
{
	struct fetch *f = context;
	dev_fetch(f->bench->device, f->pieces, f->count);
	if (index % 64 == 63) /* the queue stays short: its end would make the host wait */
		bench_check(device_sync(f->bench->device), "copies");
}

static void measure(struct fetch *f, const char *name)
{
	double bytes = 0;
	for (uint32_t i = 0; i < f->count; i++)
		bytes += (double)f->pieces[i].bytes;
	bench_measure(f->bench, name, (struct work){.bytes = bytes}, fetch, f);
}

/* Pieces of one size, every other of the places for it, in another order here and there. */
static void measure_pieces(struct fetch *f, uint32_t bytes, const char *name)
{
	f->count = PIECES;
	for (uint32_t i = 0; i < PIECES; i++)
		f->pieces[i] = (struct fetch_piece){f->to + (size_t)((i * 37) % PIECES) * 2 * bytes,
						    f->from + (size_t)((i * 59 + 7) % PIECES) * 2 * bytes, bytes};
	measure(f, name);
}

void bench_fetch(struct bench *bench)
{
	const size_t bytes = (size_t)2 * PIECES * LAYER_BYTES;
	void *host = NULL;
	bench_check(dev_alloc(bench->device, MEM_PINNED, bytes, &host), "pinned memory");
	struct fetch f = {.bench = bench, .from = bench_alloc(bench, bytes), .to = host};
	measure_pieces(&f, LAYER_BYTES, "fetch/128 of 256 KiB");
	measure_pieces(&f, LAYER_BYTES / 8, "fetch/128 of 32 KiB");
	measure_pieces(&f, 16, "fetch/128 of 16 bytes: the call");
	f.pieces[0] = (struct fetch_piece){f.to, f.from, (size_t)PIECES * LAYER_BYTES};
	f.count = 1;
	measure(&f, "fetch/1 of 32 MiB");
	bench_free(bench, f.from, bytes);
	dev_free(bench->device, MEM_PINNED, host, bytes);
}
