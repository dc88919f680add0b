#include "engine/load_reader.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/hash.h"
#include "engine/load_file.h"
#include "engine/tensor_rows.h"
#include "kernels/device.h"

#define RING_BYTES ((uint64_t)LOAD_BUFFERS * LOAD_PIECE_BYTES)

/* free -> (a worker's) -> ready -> (the taker's) -> held, until the device is done with it -> free */
struct buffer {
	struct load_piece piece;
	uint8_t *memory;
	uint64_t mark; /* held: of the device */
	struct buffer *next;
};

struct queue {
	struct buffer *first, **end;
};

struct worker {
	struct load_reader *reader;
	pthread_t thread;
	bool started;
	struct load_file file, scale_file;
	struct sha256 sha, scale_sha;
	uint8_t *raw, *scales; /* LOAD_ALIGN; NULL: the plan asks for none */
	struct why why;
};

struct load_reader {
	struct load_reader_options options;
	void *ring;
	size_t ring_bytes;
	struct buffer buffers[LOAD_BUFFERS];
	struct buffer *taken; /* the taker's, with what follows */
	struct queue held;
	uint32_t held_count;
	struct worker workers[LOAD_WORKERS];

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t news;  /* for the taker */
	pthread_cond_t room;  /* for workers */
	struct queue free, ready;
	uint32_t lane_next;
	uint32_t running; /* workers */
	uint64_t bytes, cached_bytes;
	bool stop;
	enum err e; /* the first */
	struct why why;
};

static void queue_init(struct queue *queue)
{
	queue->first = NULL;
	queue->end = &queue->first;
}

static void queue_push(struct queue *queue, struct buffer *buffer)
{
	buffer->next = NULL;
	*queue->end = buffer;
	queue->end = &buffer->next;
}

static struct buffer *queue_pop(struct queue *queue)
{
	struct buffer *buffer = queue->first;
	if (buffer)
		queue->first = buffer->next;
	if (!queue->first)
		queue->end = &queue->first;
	return buffer;
}

/* --- workers --------------------------------------------------------------------------------------------- */

/* NULL: it is over. */
static struct buffer *take_buffer(struct load_reader *reader)
{
	struct buffer *buffer = NULL;
	pthread_mutex_lock(&reader->lock);
	while (!reader->stop && !(buffer = queue_pop(&reader->free)))
		pthread_cond_wait(&reader->room, &reader->lock);
	pthread_mutex_unlock(&reader->lock);
	return buffer;
}

static const struct load_lane *take_lane(struct load_reader *reader)
{
	const struct load_plan *plan = reader->options.plan;
	const struct load_lane *lane = NULL;
	pthread_mutex_lock(&reader->lock);
	if (!reader->stop && reader->lane_next < plan->lane_count)
		lane = &plan->lanes[reader->lane_next++];
	pthread_mutex_unlock(&reader->lock);
	return lane;
}

static void hand_over(struct load_reader *reader, struct buffer *buffer)
{
	pthread_mutex_lock(&reader->lock);
	queue_push(&reader->ready, buffer);
	pthread_cond_signal(&reader->news);
	pthread_mutex_unlock(&reader->lock);
}

static void count_bytes(struct worker *worker, uint64_t bytes)
{
	struct load_reader *reader = worker->reader;
	pthread_mutex_lock(&reader->lock);
	reader->bytes += bytes;
	reader->cached_bytes += worker->file.cached_bytes + worker->scale_file.cached_bytes;
	pthread_mutex_unlock(&reader->lock);
	worker->file.cached_bytes = worker->scale_file.cached_bytes = 0;
}

/* A range of a tensor into memory, and into its digest. */
static enum err read_range(struct worker *worker, struct load_file *file, const struct tensor *tensor, struct load_range range,
			   uint8_t *memory, uint8_t **ret_data)
{
	enum err e = load_file_read(file, tensor->shard_offset + range.offset, range.bytes, memory, &worker->why, ret_data);
	if (e != ERR_OK) {
		why_prefix(&worker->why, "%s", tensor->name);
		return e;
	}
	if (worker->reader->options.digests)
		sha256_add(file == &worker->file ? &worker->sha : &worker->scale_sha, *ret_data, range.bytes);
	count_bytes(worker, range.bytes);
	return ERR_OK;
}

/* Of a part's rows as they were read: a tensor of these rows alone. */
static void convert(const struct load_part *part, enum elem elem, uint32_t count, const uint8_t *raw, const uint8_t *scales,
		    void *ret_rows)
{
	struct tensor rows = *part->found.tensor, scale = {0};
	struct tensor_found found = {.tensor = &rows};
	rows.data = raw;
	if (part->found.scale) {
		scale = *part->found.scale;
		scale.data = scales;
		found.scale = &scale;
	}
	if (part->spec.dim_count == 1)
		tensor_widen(&rows, 0, count, ret_rows);
	else
		tensor_rows_read(&found, elem, 0, count, ret_rows);
}

static enum err fill_buffer(struct worker *worker, const struct load_part *part, struct buffer *buffer)
{
	const struct tensor_found *found = &part->found;
	struct load_piece *piece = &buffer->piece;
	enum elem elem = worker->reader->options.elem;
	struct load_range rows = load_part_rows(part, piece->first, piece->count);
	struct load_range scales = load_part_scales(part, piece->first, piece->count);
	uint8_t *raw, *scale = NULL;
	if (load_part_plain(part, elem)) {
		enum err e = read_range(worker, &worker->file, found->tensor, rows, buffer->memory, &raw);
		piece->rows = e == ERR_OK ? raw : NULL;
		return e;
	}
	enum err e = read_range(worker, &worker->file, found->tensor, rows, worker->raw, &raw);
	if (e == ERR_OK && found->scale)
		e = read_range(worker, &worker->scale_file, found->scale, scales, worker->scales, &scale);
	if (e == ERR_OK)
		convert(part, elem, piece->count, raw, scale, buffer->memory);
	piece->rows = buffer->memory;
	return e;
}

static enum err read_part(struct worker *worker, const struct load_part *part)
{
	struct load_reader *reader = worker->reader;
	uint32_t rows = (uint32_t)part->spec.dims[0];
	for (uint32_t first = 0, count; first < rows; first += count) {
		count = rows - first < part->piece_rows ? rows - first : part->piece_rows;
		struct buffer *buffer = take_buffer(reader);
		if (!buffer)
			return ERR_CANCELED;
		buffer->piece = (struct load_piece){&part->spec, first, count, NULL};
		enum err e = fill_buffer(worker, part, buffer);
		if (e != ERR_OK)
			return e;
		hand_over(reader, buffer);
	}
	return ERR_OK;
}

/* What the model does not use. */
static enum err read_for_digest(struct worker *worker, const struct tensor *tensor)
{
	uint64_t most = worker->reader->options.plan->piece_raw_bytes;
	enum err e = ERR_OK;
	for (uint64_t at = 0, bytes; at < tensor->bytes && e == ERR_OK; at += bytes) {
		uint8_t *data;
		bytes = tensor->bytes - at < most ? tensor->bytes - at : most;
		e = read_range(worker, &worker->file, tensor, (struct load_range){at, bytes}, worker->raw, &data);
	}
	return e;
}

static enum err open_shard(struct worker *worker, const struct tensor *tensor, struct load_file *file)
{
	const struct load_reader_options *o = &worker->reader->options;
	if (file->name && file->name == weights_shard_name(o->weights, tensor->shard_index))
		return ERR_OK;
	return load_file_open(o->weights, tensor->shard_index, o->hooks, &worker->why, file);
}

static void end_digest(struct worker *worker, const struct tensor *tensor, struct sha256 *sha)
{
	const struct load_reader_options *o = &worker->reader->options;
	if (o->digests)
		sha256_end(sha, o->digests[tensor - weights_at(o->weights, 0)]);
}

static enum err read_lane(struct worker *worker, const struct load_lane *lane)
{
	const struct load_plan *plan = worker->reader->options.plan;
	sha256_init(&worker->sha);
	sha256_init(&worker->scale_sha);
	enum err e = open_shard(worker, lane->tensor, &worker->file);
	if (e == ERR_OK && lane->scale)
		e = open_shard(worker, lane->scale, &worker->scale_file);
	if (e == ERR_OK && lane->part_count == 0)
		e = read_for_digest(worker, lane->tensor);
	for (uint32_t i = 0; i < lane->part_count && e == ERR_OK; i++)
		e = read_part(worker, &plan->parts[lane->part_first + i]);
	if (e != ERR_OK)
		return e;
	end_digest(worker, lane->tensor, &worker->sha);
	if (lane->scale)
		end_digest(worker, lane->scale, &worker->scale_sha);
	return ERR_OK;
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct load_reader *reader = worker->reader;
	const struct load_lane *lane;
	enum err e = ERR_OK;
	while (e == ERR_OK && (lane = take_lane(reader)))
		e = read_lane(worker, lane);
	load_file_close(&worker->file);
	load_file_close(&worker->scale_file);
	pthread_mutex_lock(&reader->lock);
	if (e != ERR_OK && !reader->stop) {
		reader->stop = true;
		reader->e = e;
		reader->why = worker->why;
		pthread_cond_broadcast(&reader->room);
	}
	reader->running--;
	pthread_cond_signal(&reader->news);
	pthread_mutex_unlock(&reader->lock);
	return NULL;
}

/* --- the taker ------------------------------------------------------------------------------------------- */

static enum err free_oldest(struct load_reader *reader)
{
	struct buffer *buffer = reader->held.first;
	enum err e = device_wait(reader->options.device, buffer->mark);
	if (e != ERR_OK)
		return e;
	queue_pop(&reader->held);
	reader->held_count--;
	pthread_mutex_lock(&reader->lock);
	queue_push(&reader->free, buffer);
	pthread_cond_signal(&reader->room);
	pthread_mutex_unlock(&reader->lock);
	return ERR_OK;
}

/* Of a queued device a quarter of the ring stays behind with it. */
static enum err free_held(struct load_reader *reader, uint32_t left)
{
	enum err e = ERR_OK;
	while (reader->held_count > left && e == ERR_OK)
		e = free_oldest(reader);
	return e;
}

static enum err give_back(struct load_reader *reader)
{
	struct device *device = reader->options.device;
	if (reader->taken) {
		reader->taken->mark = device_mark(device);
		queue_push(&reader->held, reader->taken);
		reader->held_count++;
		reader->taken = NULL;
	}
	pthread_mutex_lock(&reader->lock);
	bool waiting = !reader->ready.first;
	pthread_mutex_unlock(&reader->lock);
	/* Whoever has nothing to do may as well wait for the device: workers may be waiting for these buffers. */
	return free_held(reader, waiting || !device_props(device)->queued ? 0 : LOAD_BUFFERS / 4);
}

enum err load_reader_next(struct load_reader *reader, struct why *why, const struct load_piece **ret_piece)
{
	enum err e = give_back(reader);
	if (e != ERR_OK)
		return why_set(why, e, "weights do not reach the device: %s", err_text(e));
	pthread_mutex_lock(&reader->lock);
	while (!reader->stop && reader->running > 0 && !reader->ready.first)
		pthread_cond_wait(&reader->news, &reader->lock);
	e = reader->e;
	reader->taken = e == ERR_OK ? queue_pop(&reader->ready) : NULL;
	pthread_mutex_unlock(&reader->lock);
	if (e != ERR_OK)
		return why_set(why, e, "%s", reader->why.text);
	*ret_piece = reader->taken ? &reader->taken->piece : NULL;
	return ERR_OK;
}

uint64_t load_reader_bytes(struct load_reader *reader, uint64_t *ret_cached)
{
	pthread_mutex_lock(&reader->lock);
	uint64_t bytes = reader->bytes;
	*ret_cached = reader->cached_bytes;
	pthread_mutex_unlock(&reader->lock);
	return bytes;
}

/* --- life ------------------------------------------------------------------------------------------------ */

static enum err make_ring(struct load_reader *reader)
{
	const struct load_plan *plan = reader->options.plan;
	size_t room = load_file_room(plan->piece_out_bytes);
	uint64_t count = RING_BYTES / (room > LOAD_PIECE_BYTES ? room : LOAD_PIECE_BYTES);
	count = count < 2 ? 2 : count;
	count = count < plan->piece_count ? count : plan->piece_count;
	reader->ring_bytes = count * room + LOAD_ALIGN;
	enum err e = dev_alloc(reader->options.device, MEM_PINNED, reader->ring_bytes, &reader->ring);
	if (e != ERR_OK)
		return e;
	uint8_t *memory = (uint8_t *)(((uintptr_t)reader->ring + LOAD_ALIGN - 1) / LOAD_ALIGN * LOAD_ALIGN);
	for (uint64_t i = 0; i < count; i++) {
		reader->buffers[i].memory = memory + i * room;
		queue_push(&reader->free, &reader->buffers[i]);
	}
	return ERR_OK;
}

static enum err make_worker(struct load_reader *reader, struct worker *worker)
{
	const struct load_plan *plan = reader->options.plan;
	worker->reader = reader;
	if (plan->piece_raw_bytes > 0)
		worker->raw = aligned_alloc(LOAD_ALIGN, load_file_room(plan->piece_raw_bytes));
	if (plan->piece_scale_bytes > 0)
		worker->scales = aligned_alloc(LOAD_ALIGN, load_file_room(plan->piece_scale_bytes));
	if ((plan->piece_raw_bytes > 0 && !worker->raw) || (plan->piece_scale_bytes > 0 && !worker->scales))
		return ERR_NOMEM;
	pthread_mutex_lock(&reader->lock);
	worker->started = pthread_create(&worker->thread, NULL, work, worker) == 0;
	reader->running += worker->started;
	pthread_mutex_unlock(&reader->lock);
	return worker->started ? ERR_OK : ERR_NOMEM;
}

enum err load_reader_create(const struct load_reader_options *options, struct why *why, struct load_reader **ret_reader)
{
	const struct load_plan *plan = options->plan;
	struct load_reader *reader = calloc(1, sizeof(*reader));
	if (!reader)
		return why_set(why, ERR_NOMEM, "no memory to read weights");
	reader->options = *options;
	pthread_mutex_init(&reader->lock, NULL);
	pthread_cond_init(&reader->news, NULL);
	pthread_cond_init(&reader->room, NULL);
	queue_init(&reader->free);
	queue_init(&reader->ready);
	queue_init(&reader->held);
	enum err e = make_ring(reader);
	for (uint32_t i = 0; i < LOAD_WORKERS && i < plan->lane_count && e == ERR_OK; i++)
		e = make_worker(reader, &reader->workers[i]);
	if (e != ERR_OK) {
		why_set(why, e, "no memory to read weights in pieces of %llu bytes", (unsigned long long)plan->piece_out_bytes);
		load_reader_destroy(reader);
		return e;
	}
	*ret_reader = reader;
	return ERR_OK;
}

void load_reader_destroy(struct load_reader *reader)
{
	if (!reader)
		return;
	pthread_mutex_lock(&reader->lock);
	reader->stop = true;
	pthread_cond_broadcast(&reader->room);
	pthread_mutex_unlock(&reader->lock);
	for (uint32_t i = 0; i < LOAD_WORKERS; i++) {
		struct worker *worker = &reader->workers[i];
		if (worker->started)
			pthread_join(worker->thread, NULL);
		free(worker->raw);
		free(worker->scales);
	}
	(void)!device_sync(reader->options.device); /* it may still read the ring; what failed was said to whoever asked next */
	dev_free(reader->options.device, MEM_PINNED, reader->ring, reader->ring_bytes);
	pthread_cond_destroy(&reader->room);
	pthread_cond_destroy(&reader->news);
	pthread_mutex_destroy(&reader->lock);
	free(reader);
}
