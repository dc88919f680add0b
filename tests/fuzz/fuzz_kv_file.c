/* Any bytes as a file of `baton kv export`: what a block promises holds, and nothing is allocated beyond its limits.  A second
 * pass mends the checksums first, so that what stands behind them is reached. */
#include <assert.h>
#include <stdlib.h>

#include "base/digest.h"
#include "base/hash.h"
#include "bytes.h"
#include "tools/kv_file.h"

enum { HEAD = 64, BLOCK = 256, TAIL = 64 };

static uint32_t number_at(const uint8_t *at)
{
	uint32_t number;
	memcpy(&number, at, sizeof(number));
	return number;
}

static void seal(uint8_t *at, size_t length)
{
	uint64_t sum = hash_xxh3(at, length - 8, 0);
	memcpy(at + length - 8, &sum, sizeof(sum));
}

/* As far as the sizes that stand in it lead. */
static void mend(uint8_t *data, size_t length)
{
	uint64_t blocks = 0, all = 0;
	size_t at = HEAD;
	if (length < HEAD)
		return;
	seal(data, HEAD);
	while (length - at >= BLOCK && memcmp(data + at, "BKVb", 4) == 0) {
		uint64_t layers = number_at(data + at + 56), layer_bytes = number_at(data + at + 60);
		size_t left = length - at - BLOCK;
		if (layers > PROTO_LAYERS_MAX || 8 * layers + layers * layer_bytes > left)
			return;
		uint8_t *digests = data + at + BLOCK, *bytes = digests + 8 * layers;
		for (uint64_t i = 0; i < layers; i++) {
			uint64_t digest = digest_of(bytes + i * layer_bytes, layer_bytes);
			memcpy(digests + 8 * i, &digest, sizeof(digest));
		}
		uint64_t sum = hash_xxh3(digests, 8 * layers, hash_xxh3(data + at, BLOCK - 8, 0));
		memcpy(data + at + BLOCK - 8, &sum, sizeof(sum));
		all = hash_xxh3(&sum, sizeof(sum), all);
		at += BLOCK + 8 * layers + layers * layer_bytes;
		blocks++;
	}
	if (length - at < TAIL)
		return;
	memcpy(data + at + 8, &blocks, sizeof(blocks));
	memcpy(data + at + 16, &all, sizeof(all));
	seal(data + at, TAIL);
}

static void read_all(const uint8_t *data, size_t length)
{
	FILE *stream = fmemopen((void *)(uintptr_t)data, length, "rb");
	struct kv_reader *reader = NULL;
	struct kv_file_block block;
	struct why why = {0};
	size_t seen = 0;
	assert(stream);
	enum err e = kv_reader_open(stream, "file", &reader, &why);
	while (e == ERR_OK && (e = kv_reader_next(reader, &block, &why)) == ERR_OK) {
		seen += (size_t)block.layer_count * block.layer_bytes;
		assert(block.layer_count >= 1 && block.layer_count <= PROTO_LAYERS_MAX && seen <= length);
		assert(strlen(block.tenant) <= PROTO_TENANT_MAX);
		for (uint32_t i = 0; i < block.layer_count; i++)
			assert(digest_of(block.bytes + (size_t)i * block.layer_bytes, block.layer_bytes) == block.digests[i]);
	}
	assert(why.text[0] || e == ERR_NOT_FOUND);
	kv_reader_close(reader);
	fclose(stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
	if (length == 0)
		return 0;
	read_all(data, length);
	uint8_t *copy = malloc(length);
	memcpy(copy, data, length);
	mend(copy, length);
	read_all(copy, length);
	free(copy);
	return 0;
}
