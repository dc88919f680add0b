#include "tools/kv_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/hash.h"

enum {
	VERSION = 1,
	HEAD_BYTES = 64,
	TAIL_BYTES = 64,
	BLOCK_BYTES = 256, /* of a block's own head */
	CHECKSUM_BYTES = 8,
	FLAG_PARENT = 1,
	FLAG_LOW = 2,
	/* Where things are in a block's head. */
	AT_FLAGS = 4,
	AT_KEY = 8,
	AT_PARENT = 24,
	AT_COMPAT = 40,
	AT_LAYERS = 56,
	AT_LAYER_BYTES = 60,
	AT_TENANT = 64,
};

static const char head_magic[8] = "BATONKV1", block_magic[4] = "BKVb", tail_magic[4] = "BKVe";

static void put(uint8_t *at, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *at, int bytes)
{
	uint64_t value = 0;
	for (int i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << (8 * i);
	return value;
}

/* Its last eight bytes are the checksum of all before. */
static void seal(uint8_t *bytes, size_t length)
{
	put(bytes + length - CHECKSUM_BYTES, hash_xxh3(bytes, length - CHECKSUM_BYTES, 0), CHECKSUM_BYTES);
}

static bool is_sealed(const uint8_t *bytes, size_t length)
{
	return get(bytes + length - CHECKSUM_BYTES, CHECKSUM_BYTES) == hash_xxh3(bytes, length - CHECKSUM_BYTES, 0);
}

/* Of a block's head without its checksum, and the digests behind it as they stand in the file. */
static uint64_t block_sum(const uint8_t *head, const uint8_t *digests, size_t digests_length)
{
	return hash_xxh3(digests, digests_length, hash_xxh3(head, BLOCK_BYTES - CHECKSUM_BYTES, 0));
}

/* ---- writing */

struct kv_writer {
	FILE *stream;
	char path[PATH_MAX], part[PATH_MAX + 8];
	uint64_t blocks, sum;
};

static enum err write_all(struct kv_writer *w, const void *data, size_t length, struct why *why)
{
	if (fwrite(data, 1, length, w->stream) == length)
		return ERR_OK;
	return why_set(why, ERR_IO, "%s: %s", w->part, strerror(errno));
}

/* Who has the file has the KV of its prompts.  One that is left from another time may have another mode. */
static FILE *open_private(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FILE *stream = fd >= 0 && fchmod(fd, 0600) == 0 ? fdopen(fd, "wb") : NULL;
	if (!stream && fd >= 0)
		close(fd);
	return stream;
}

enum err kv_writer_open(const char *path, struct kv_writer **ret_writer, struct why *why)
{
	struct kv_writer *w = calloc(1, sizeof(*w));
	if (!w)
		return ERR_NOMEM;
	if ((size_t)snprintf(w->path, sizeof(w->path), "%s", path) >= sizeof(w->path)) {
		free(w);
		return why_set(why, ERR_INVALID, "the path of the file has over %d bytes", PATH_MAX - 1);
	}
	snprintf(w->part, sizeof(w->part), "%s.part", path);
	uint8_t head[HEAD_BYTES] = {0};
	memcpy(head, head_magic, sizeof(head_magic));
	put(head + 8, VERSION, 4);
	seal(head, sizeof(head));
	w->stream = open_private(w->part);
	enum err e = w->stream ? write_all(w, head, sizeof(head), why)
			       : why_set(why, ERR_IO, "%s: %s", w->part, strerror(errno));
	if (e != ERR_OK) {
		kv_writer_abandon(w);
		return e;
	}
	*ret_writer = w;
	return ERR_OK;
}

enum err kv_writer_add(struct kv_writer *w, const struct kv_file_block *block, struct why *why)
{
	uint8_t head[BLOCK_BYTES] = {0}, digests[PROTO_LAYERS_MAX * 8];
	memcpy(head, block_magic, sizeof(block_magic));
	put(head + AT_FLAGS, (block->has_parent ? FLAG_PARENT : 0) | (block->low ? FLAG_LOW : 0), 4);
	memcpy(head + AT_KEY, block->key.bytes, sizeof(block->key.bytes));
	if (block->has_parent)
		memcpy(head + AT_PARENT, block->parent.bytes, sizeof(block->parent.bytes));
	memcpy(head + AT_COMPAT, block->compat.bytes, sizeof(block->compat.bytes));
	put(head + AT_LAYERS, block->layer_count, 4);
	put(head + AT_LAYER_BYTES, block->layer_bytes, 4);
	memcpy(head + AT_TENANT, block->tenant, strlen(block->tenant));
	for (uint32_t i = 0; i < block->layer_count; i++)
		put(digests + 8 * (size_t)i, block->digests[i], 8);
	uint64_t sum = block_sum(head, digests, 8 * (size_t)block->layer_count);
	put(head + BLOCK_BYTES - CHECKSUM_BYTES, sum, CHECKSUM_BYTES);
	enum err e = write_all(w, head, sizeof(head), why);
	if (e == ERR_OK)
		e = write_all(w, digests, 8 * (size_t)block->layer_count, why);
	if (e == ERR_OK)
		e = write_all(w, block->bytes, (size_t)block->layer_count * block->layer_bytes, why);
	w->blocks++;
	w->sum = hash_xxh3(&sum, sizeof(sum), w->sum);
	return e;
}

static enum err finish(struct kv_writer *w, struct why *why)
{
	uint8_t tail[TAIL_BYTES] = {0};
	memcpy(tail, tail_magic, sizeof(tail_magic));
	put(tail + 8, w->blocks, 8);
	put(tail + 16, w->sum, 8);
	seal(tail, sizeof(tail));
	enum err e = write_all(w, tail, sizeof(tail), why);
	if (e == ERR_OK && (fflush(w->stream) != 0 || fsync(fileno(w->stream)) != 0))
		e = why_set(why, ERR_IO, "%s: %s", w->part, strerror(errno));
	if (e == ERR_OK && rename(w->part, w->path) != 0)
		e = why_set(why, ERR_IO, "%s: %s", w->path, strerror(errno));
	return e;
}

enum err kv_writer_close(struct kv_writer *w, struct why *why)
{
	enum err e = finish(w, why);
	if (e != ERR_OK) {
		kv_writer_abandon(w);
		return e;
	}
	fclose(w->stream);
	free(w);
	return ERR_OK;
}

void kv_writer_abandon(struct kv_writer *w)
{
	if (!w)
		return;
	if (w->stream) {
		fclose(w->stream);
		unlink(w->part);
	}
	free(w);
}

/* ---- reading */

struct kv_reader {
	FILE *stream;
	const char *name;
	uint64_t blocks, sum;
	uint64_t digests[PROTO_LAYERS_MAX];
	uint8_t *bytes;
	size_t capacity;
};

/* Where the file ends is told apart from where it is wrong. */
static enum err read_all(struct kv_reader *r, void *data, size_t length, struct why *why)
{
	if (fread(data, 1, length, r->stream) == length)
		return ERR_OK;
	if (ferror(r->stream))
		return why_set(why, ERR_IO, "%s: %s", r->name, strerror(errno));
	return why_set(why, ERR_CORRUPT, "%s ends after %llu whole blocks, without its tail: it is not all of the export", r->name,
		       (unsigned long long)r->blocks);
}

static enum err read_head(struct kv_reader *r, struct why *why)
{
	uint8_t head[HEAD_BYTES];
	enum err e = read_all(r, head, sizeof(head), why);
	if (e == ERR_IO)
		return e;
	if (e != ERR_OK || memcmp(head, head_magic, sizeof(head_magic)) != 0)
		return why_set(why, ERR_CORRUPT, "%s is no file of `baton kv export`", r->name);
	if (!is_sealed(head, sizeof(head)))
		return why_set(why, ERR_CORRUPT, "%s: the head does not match its checksum", r->name);
	if (get(head + 8, 4) != VERSION)
		return why_set(why, ERR_UNSUPPORTED, "%s is of version %llu, this program reads %d", r->name,
			       (unsigned long long)get(head + 8, 4), VERSION);
	return ERR_OK;
}

enum err kv_reader_open(FILE *stream, const char *name, struct kv_reader **ret_reader, struct why *why)
{
	struct kv_reader *r = calloc(1, sizeof(*r));
	if (!r)
		return ERR_NOMEM;
	r->stream = stream;
	r->name = name;
	enum err e = read_head(r, why);
	if (e != ERR_OK) {
		kv_reader_close(r);
		return e;
	}
	*ret_reader = r;
	return ERR_OK;
}

static enum err read_tail(struct kv_reader *r, const uint8_t *start, struct why *why)
{
	uint8_t tail[TAIL_BYTES];
	memcpy(tail, start, sizeof(tail_magic));
	enum err e = read_all(r, tail + sizeof(tail_magic), sizeof(tail) - sizeof(tail_magic), why);
	if (e != ERR_OK)
		return e;
	if (!is_sealed(tail, sizeof(tail)) || get(tail + 8, 8) != r->blocks || get(tail + 16, 8) != r->sum)
		return why_set(why, ERR_CORRUPT, "%s: the tail does not match the %llu blocks before it", r->name,
			       (unsigned long long)r->blocks);
	if (fgetc(r->stream) != EOF)
		return why_set(why, ERR_CORRUPT, "%s goes on after its tail", r->name);
	return ERR_NOT_FOUND;
}

static enum err take_head(struct kv_reader *r, const uint8_t *head, struct kv_file_block *block, struct why *why)
{
	unsigned long long number = r->blocks + 1;
	uint64_t flags = get(head + AT_FLAGS, 4), layers = get(head + AT_LAYERS, 4), layer_bytes = get(head + AT_LAYER_BYTES, 4);
	if (layers == 0 || layers > PROTO_LAYERS_MAX || layer_bytes == 0 || layers * layer_bytes > KV_FILE_BLOCK_MAX)
		return why_set(why, ERR_TOO_LARGE, "%s: block %llu has %llu layers of %llu bytes, at most %d and %d together", r->name,
			       number, (unsigned long long)layers, (unsigned long long)layer_bytes, PROTO_LAYERS_MAX, KV_FILE_BLOCK_MAX);
	if (head[AT_TENANT + PROTO_TENANT_MAX] != 0 || flags & ~(uint64_t)(FLAG_PARENT | FLAG_LOW))
		return why_set(why, ERR_CORRUPT, "%s: block %llu is malformed", r->name, number);
	memcpy(block->key.bytes, head + AT_KEY, sizeof(block->key.bytes));
	memcpy(block->parent.bytes, head + AT_PARENT, sizeof(block->parent.bytes));
	memcpy(block->compat.bytes, head + AT_COMPAT, sizeof(block->compat.bytes));
	memcpy(block->tenant, head + AT_TENANT, sizeof(block->tenant));
	block->has_parent = flags & FLAG_PARENT;
	block->low = flags & FLAG_LOW;
	block->layer_count = (uint32_t)layers;
	block->layer_bytes = (uint32_t)layer_bytes;
	return ERR_OK;
}

static enum err read_digests(struct kv_reader *r, const uint8_t *head, uint32_t count, struct why *why)
{
	uint8_t digests[PROTO_LAYERS_MAX * 8];
	enum err e = read_all(r, digests, 8 * (size_t)count, why);
	if (e != ERR_OK)
		return e;
	uint64_t sum = block_sum(head, digests, 8 * (size_t)count);
	if (get(head + BLOCK_BYTES - CHECKSUM_BYTES, CHECKSUM_BYTES) != sum)
		return why_set(why, ERR_CORRUPT, "%s: the head of block %llu does not match its checksum", r->name,
			       (unsigned long long)r->blocks + 1);
	for (uint32_t i = 0; i < count; i++)
		r->digests[i] = get(digests + 8 * (size_t)i, 8);
	r->sum = hash_xxh3(&sum, sizeof(sum), r->sum);
	return ERR_OK;
}

static enum err read_layers(struct kv_reader *r, const struct kv_file_block *block, struct why *why)
{
	size_t bytes = (size_t)block->layer_count * block->layer_bytes;
	if (bytes > r->capacity) {
		free(r->bytes);
		r->bytes = malloc(bytes);
		r->capacity = r->bytes ? bytes : 0;
	}
	if (!r->bytes)
		return why_set(why, ERR_NOMEM, "%s: no memory for a block of %zu bytes", r->name, bytes);
	enum err e = read_all(r, r->bytes, bytes, why);
	for (uint32_t i = 0; e == ERR_OK && i < block->layer_count; i++)
		if (digest_of(r->bytes + (size_t)i * block->layer_bytes, block->layer_bytes) != r->digests[i])
			e = why_set(why, ERR_CORRUPT, "%s: layer %u of block %llu does not match its digest", r->name, i,
				    (unsigned long long)r->blocks + 1);
	return e;
}

enum err kv_reader_next(struct kv_reader *r, struct kv_file_block *ret_block, struct why *why)
{
	uint8_t head[BLOCK_BYTES];
	struct kv_file_block block = {.digests = r->digests};
	enum err e = read_all(r, head, sizeof(tail_magic), why);
	if (e == ERR_OK && memcmp(head, tail_magic, sizeof(tail_magic)) == 0)
		return read_tail(r, head, why);
	if (e == ERR_OK && memcmp(head, block_magic, sizeof(block_magic)) != 0)
		e = why_set(why, ERR_CORRUPT, "%s: after %llu blocks comes neither a block nor the tail", r->name,
			    (unsigned long long)r->blocks);
	if (e == ERR_OK)
		e = read_all(r, head + sizeof(block_magic), sizeof(head) - sizeof(block_magic), why);
	if (e == ERR_OK)
		e = take_head(r, head, &block, why);
	if (e == ERR_OK)
		e = read_digests(r, head, block.layer_count, why);
	if (e == ERR_OK)
		e = read_layers(r, &block, why);
	if (e != ERR_OK)
		return e;
	r->blocks++;
	block.bytes = r->bytes;
	*ret_block = block;
	return ERR_OK;
}

void kv_reader_close(struct kv_reader *r)
{
	if (!r)
		return;
	free(r->bytes);
	free(r);
}
