/* bench_kv_disk - the SSD tier of a store on real files: puts, the index after a start, loads.
 *
 *   meson compile -C build bench_kv_disk
 *   build/bench/kv/bench_kv_disk --path DIR [--blocks N] [--block-bytes B] [--disk-io auto|uring|plain] [--loads N] [--disk-key FILE]
 *                                [--encode] [--numbers]
 *
 * --numbers: the payload is bf16 as in KV, each channel of a scale of its own, else noise, of which encoding saves nothing.
 * Writes the blocks (each made durable, as with --persist ack), starts anew, times how long it takes until all are in the index,
 * and loads some, drawn at random.  The folder is removed at the end.  What is written is in the page cache of no one where
 * the file system knows O_DIRECT; the header of the table says which it was. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/log.h"
#include "base/options.h"
#include "base/rng.h"
#include "kvstore/disk.h"
#include "kvstore/disk_format.h"
#include "kvstore/disk_index.h"
#include "kvstore/disk_key.h"
#include "kvstore/disk_shell.h"
#include "net/loop.h"

enum { PUTS = 256, LOADS = 32, ENCODES = 16, SEGMENT_BYTES = 64 << 20 };

struct bench {
	const char *path, *io, *key_path;
	struct disk_key *key;
	uint64_t blocks, block_bytes, segment_bytes, loads;
	bool encode, numbers;
	struct loop *loop;
	struct disk_shell *shell;
	struct disk *disk;
	void *memory;
	size_t memory_bytes;
	uint32_t segments;
	uint8_t *payload;
	uint64_t digest;
	uint64_t put, durable, failed, asked, loaded, load_failed;
};

static void *landing_of(void *context, uint32_t landing, uint32_t offset)
{
	return ((struct bench *)context)->payload + landing * ((struct bench *)context)->block_bytes + offset;
}

static void on_io(void *context, uint64_t op, enum err e)
{
	struct bench *b = context;
	disk_done(b->disk, op, e, loop_now_ns(b->loop));
}

static void on_written(void *context, uint64_t cookie)
{
	(void)context, (void)cookie;
}

static void on_durable(void *context, uint64_t cookie, enum err e)
{
	struct bench *b = context;
	(void)cookie;
	b->durable += e == ERR_OK;
	b->failed += e != ERR_OK;
}

static void on_loaded(void *context, uint64_t cookie, enum err e, const struct ledger_block *block)
{
	struct bench *b = context;
	(void)cookie, (void)block;
	b->loaded++;
	b->load_failed += e != ERR_OK;
}

static struct id128 key_of(uint64_t block)
{
	struct id128 key;
	for (int i = 0; i < 2; i++) {
		uint64_t word = rng_at(9, block, (uint64_t)i);
		memcpy(key.bytes + 8 * i, &word, 8);
	}
	return key;
}

static double seconds(const struct bench *b, uint64_t from_ns)
{
	return (double)(loop_now_ns(b->loop) - from_ns) / 1e9;
}

static enum err start(struct bench *b, struct why *why)
{
	uint32_t pages = disk_record_pages(1, (uint32_t)b->block_bytes);
	uint64_t a_segment = (b->segment_bytes / DISK_PAGE_BYTES - 2) * 100 / (100 * pages + 1);
	b->segments = (uint32_t)(b->blocks / a_segment) + 8;
	struct disk_shell_options shell = {.path = b->path, .io = b->io, .segment_count = b->segments, .segment_bytes = b->segment_bytes,
					   .depth = 128, .key = b->key, .context = b, .landing = landing_of, .done = on_io};
	enum err e = disk_shell_create(b->loop, &shell, &b->shell, why);
	if (e != ERR_OK)
		return e;
	struct disk_options options = {
		.segment_count = b->segments, .segment_bytes = b->segment_bytes, .block_max = (uint32_t)b->blocks + 1024,
		.record_bytes_max = pages * DISK_PAGE_BYTES, .put_max = PUTS, .write_max = 64, .encode_max = b->encode ? ENCODES : 0, .load_max = LOADS, .read_max = LOADS,
		.keep_percent = 50, .note_max = 64, .file = disk_shell_file(b->shell), .context = b, .written = on_written, .durable = on_durable,
		.loaded = on_loaded,
	};
	e = disk_shell_id(&options.id, why);
	if (e != ERR_OK)
		return e;
	b->memory_bytes = disk_bytes(&options);
	b->memory = calloc(1, b->memory_bytes);
	if (!b->memory)
		return why_set(why, ERR_NOMEM, "no memory for the index");
	b->disk = disk_init(b->memory, &options, loop_now_ns(b->loop));
	return ERR_OK;
}

static void stop(struct bench *b)
{
	disk_shell_destroy(b->shell);
	free(b->memory);
	b->shell = NULL;
	b->memory = NULL;
}

static double cpu_seconds(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void wait_ready(struct bench *b)
{
	struct disk_status status;
	for (disk_status(b->disk, &status); !status.ready; disk_status(b->disk, &status))
		loop_turn(b->loop, 20000000);
}

static void write_all(struct bench *b)
{
	while (b->durable + b->failed < b->blocks) {
		struct ledger_block block = {.layer_count = 1, .layer_bytes = (uint32_t)b->block_bytes, .digests = &b->digest};
		while (b->put < b->blocks && disk_has_room(b->disk, 1)) {
			block.key = key_of(b->put);
			if (disk_put(b->disk, &block, 0, 0) != ERR_OK)
				break;
			b->put++;
		}
		disk_tick(b->disk, loop_now_ns(b->loop));
		loop_turn(b->loop, 20000000);
	}
}

static void load_some(struct bench *b)
{
	struct rng rng = {.seed = 4};
	while (b->loaded < b->loads) {
		while (b->asked < b->loads && b->asked - b->loaded < LOADS) {
			struct id128 key = key_of(rng_below(&rng, b->blocks));
			if (disk_load(b->disk, &key, 1 + b->asked % LOADS, 0) != ERR_OK)
				b->loaded++, b->load_failed++;
			b->asked++;
		}
		disk_tick(b->disk, loop_now_ns(b->loop));
		loop_turn(b->loop, 20000000);
	}
}

static enum err measure(struct bench *b, struct why *why)
{
	struct disk_status status;
	enum err e = start(b, why);
	if (e != ERR_OK)
		return e;
	wait_ready(b);
	printf("%llu blocks of %llu bytes in %u segments of %d KiB; %s\n\n", (unsigned long long)b->blocks,
	       (unsigned long long)b->block_bytes, b->segments, (int)(b->segment_bytes >> 10), disk_shell_name(b->shell));
	uint64_t from_ns = loop_now_ns(b->loop);
	double cpu_s = cpu_seconds();
	write_all(b);
	double put_s = seconds(b, from_ns), mib = (double)b->blocks * (double)b->block_bytes / (1 << 20);
	disk_status(b->disk, &status);
	printf("| puts, each durable | %.1f s | %.0f blocks/s | %.0f MiB/s | %llu syncs | %llu failed | %.2f s CPU a GiB | %.3f times smaller |\n",
	       put_s, (double)b->blocks / put_s, mib / put_s, (unsigned long long)status.counters.syncs, (unsigned long long)b->failed,
	       (cpu_seconds() - cpu_s) / mib * 1024, (double)status.counters.bytes_put_plain / (double)status.counters.bytes_put);
	for (int round = 0; round < 2; round++) { /* the first seals the segment that was open */
		stop(b);
		from_ns = loop_now_ns(b->loop);
		cpu_s = cpu_seconds();
		e = start(b, why);
		if (e != ERR_OK)
			return e;
		wait_ready(b);
		disk_status(b->disk, &status);
		printf("| index back | %.2f s | %.2f s CPU | %u blocks | %llu read record by record | %.1f bytes a block |\n",
		       seconds(b, from_ns), cpu_seconds() - cpu_s, status.blocks, (unsigned long long)status.counters.recovered_scanned,
		       (double)disk_index_bytes((uint32_t)b->blocks, b->segments) / (double)b->blocks);
	}
	from_ns = loop_now_ns(b->loop);
	cpu_s = cpu_seconds();
	load_some(b);
	double load_s = seconds(b, from_ns), load_mib = (double)b->loads * (double)b->block_bytes / (1 << 20);
	printf("| loads, %d at once | %.1f s | %.0f blocks/s | %.0f MiB/s | %llu | %llu failed | %.2f s CPU a GiB |\n", LOADS, load_s,
	       (double)b->loads / load_s, load_mib / load_s, (unsigned long long)b->loads, (unsigned long long)b->load_failed,
	       (cpu_seconds() - cpu_s) / load_mib * 1024);
	return ERR_OK;
}

/* Noise, or bf16: a channel's numbers around a power of two of its own, of 64 channels side by side. */
static void fill(struct bench *b)
{
	for (uint64_t i = 0; i < b->block_bytes; i += 8) {
		uint64_t word = rng_at(2, 2, i);
		for (uint64_t k = 0; b->numbers && k < 4; k++) {
			uint64_t number = rng_at(2, 3, i + k), exponent = 120 + rng_mix(i / 2 % 64 + k) % 4;
			exponent -= number ? (uint64_t)__builtin_ctzll(number) : 0; /* one step down for each half of what is left */
			word = (word & ~(UINT64_C(0x7f80) << 16 * k)) | exponent << (16 * k + 7);
		}
		memcpy(b->payload + i, &word, 8);
	}
	b->digest = digest_of(b->payload, b->block_bytes);
}

static void remove_folder(const char *path)
{
	char name[4200];
	snprintf(name, sizeof(name), "%s/blocks", path);
	unlink(name);
	snprintf(name, sizeof(name), "%s/lock", path);
	unlink(name);
	rmdir(path);
}

int main(int argc, char **argv, char **environment)
{
	struct bench b = {.blocks = 1000000, .block_bytes = 4096, .loads = 20000, .io = "auto", .segment_bytes = SEGMENT_BYTES};
	struct option table[] = {
		{"path", OPTION_TEXT, &b.path, 0, 0, "DIR", "a folder that does not exist yet"},
		{"disk-io", OPTION_TEXT, &b.io, 0, 0, "HOW", "auto, uring or plain"},
		{"blocks", OPTION_COUNT, &b.blocks, 1, 1 << 29, "N", "how many are written"},
		{"block-bytes", OPTION_BYTES, &b.block_bytes, 64, 16 << 20, "B", "payload of each"},
		{"segment-bytes", OPTION_BYTES, &b.segment_bytes, 32 << 10, 1 << 30, "B", "of a segment"},
		{"disk-key", OPTION_TEXT, &b.key_path, 0, 0, "FILE", "records are signed with it"},
		{"encode", OPTION_FLAG, &b.encode, 0, 0, NULL, "payloads are encoded where that saves something"},
		{"numbers", OPTION_FLAG, &b.numbers, 0, 0, NULL, "payloads are bf16, not noise"},
		{"loads", OPTION_COUNT, &b.loads, 1, 0, "N", "how many are loaded"},
	};
	struct options options = {.program = "bench_kv_disk", .usage = "--path DIR [options]", .table = table,
				  .count = sizeof(table) / sizeof(*table), .environment = environment};
	struct why why = {0};
	log_init("bench", LOG_WARN, false);
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && !b.path)
		e = why_set(&why, ERR_INVALID, "--path is missing");
	if (e == ERR_OK && b.key_path)
		e = disk_key_read(b.key_path, &b.key, &why);
	if (e == ERR_OK)
		e = loop_create(&b.loop);
	if (e == ERR_OK) {
		b.payload = aligned_alloc(DISK_PAGE_BYTES, (1 + LOADS) * ((b.block_bytes + DISK_PAGE_BYTES - 1) / DISK_PAGE_BYTES * DISK_PAGE_BYTES));
		fill(&b);
		e = measure(&b, &why);
		if (b.shell)
			stop(&b);
		remove_folder(b.path);
		free(b.payload);
		loop_destroy(b.loop);
	}
	if (e != ERR_OK)
		fprintf(stderr, "bench_kv_disk: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	disk_key_destroy(b.key);
	options_fini(&options);
	return e == ERR_OK && b.failed == 0 && b.load_failed == 0 ? 0 : 1;
}
