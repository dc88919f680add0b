#include "engine/load_reader.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/hash.h"
#include "engine/load_file.h"
#include "engine/tensor_rows.h"
#include "kernels/device.h"

enum { BUFFERS = 2 }; /* of a worker: one is read into while the device has the other; a CPU is done with it at once */

struct buffer {
	uint8_t *memory;
	uint64_t mark;
	bool marked;
};

struct worker {
	struct load_reader *reader;
	pthread_t thread;
	bool started;
	struct buffer buffers[BUFFERS];
	uint32_t buffer_next;
	struct load_file file, scale_file;
	struct sha256 sha, scale_sha;
	uint8_t *raw, *scales; /* LOAD_ALIGN; NULL: the plan asks for none */
	struct tensor piece_scales;
	struct why why;
};

struct load_reader {
	struct load_reader_options options;
	void *ring;
	size_t ring_bytes;
	uint32_t buffer_count; /* of a worker */
	struct worker workers[LOAD_WORKERS_MAX];
	uint32_t worker_count;

	pthread_mutex_t device_lock; /* of a queued one: one caller at a time */
	pthread_mutex_t lock;	     /* of what follows */
	pthread_cond_t news;
	uint32_t lane_next;
	uint32_t running; /* workers */
	struct load_progress progress;
	enum err e; /* the first; with it the others stop */
	struct why why;
};

/* --- workers --------------------------------------------------------------------------------------------- */

/* NULL: there is none left, or it is over. */
static const struct load_lane *take_lane(struct load_reader *reader)
{
	const struct load_plan *plan = reader->options.plan;
	const struct load_lane *lane = NULL;
	pthread_mutex_lock(&reader->lock);
	if (reader->e == ERR_OK && reader->lane_next < plan->lane_count)
		lane = &plan->lanes[reader->lane_next++];
	pthread_mutex_unlock(&reader->lock);
	return lane;
}

/* ERR_CANCELED: another worker failed. */
static enum err count_bytes(struct worker *worker, uint64_t bytes)
{
	struct load_reader *reader = worker->reader;
	pthread_mutex_lock(&reader->lock);
	reader->progress.bytes += bytes;
	reader->progress.cached_bytes += worker->file.cached_bytes + worker->scale_file.cached_bytes;
	bool over = reader->e != ERR_OK;
	pthread_mutex_unlock(&reader->lock);
	worker->file.cached_bytes = worker->scale_file.cached_bytes = 0;
	return over ? ERR_CANCELED : ERR_OK;
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
	return count_bytes(worker, range.bytes);
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

/* A tensor of these alone. */
static const struct tensor *scales_of(struct worker *worker, const struct tensor *all, const uint8_t *data, uint64_t bytes)
{
	worker->piece_scales = *all;
	worker->piece_scales.data = data;
	worker->piece_scales.bytes = bytes;
	worker->piece_scales.dims[0] = bytes / (all->dims[1] * tensor_dtype_bytes(all->dtype));
	return &worker->piece_scales;
}

static enum err read_piece(struct worker *worker, const struct load_part *part, uint8_t *memory, struct load_piece *piece)
{
	const struct tensor_found *found = &part->found;
	struct load_range rows = load_part_rows(part, piece->first, piece->count);
	struct load_range scales = load_part_scales(part, piece->first, piece->count);
	uint8_t *raw, *scale = NULL;
	bool plain = load_part_plain(part);
	enum err e = read_range(worker, &worker->file, found->tensor, rows, plain ? memory : worker->raw, &raw);
	if (e == ERR_OK && found->scale)
		e = read_range(worker, &worker->scale_file, found->scale, scales, worker->scales, &scale);
	if (e != ERR_OK)
		return e;
	piece->rows = plain ? raw : memory;
	if (!plain)
		convert(part, part->elem, piece->count, raw, scale, memory);
	else if (found->scale)
		piece->scales = scales_of(worker, found->scale, scale, scales.bytes);
	return ERR_OK;
}

/* The device may still be reading what was in it. */
static enum err await_buffer(struct worker *worker, struct buffer *buffer)
{
	struct load_reader *reader = worker->reader;
	enum err e = ERR_OK;
	if (buffer->marked) {
		pthread_mutex_lock(&reader->device_lock);
		e = device_wait(reader->options.device, buffer->mark);
		pthread_mutex_unlock(&reader->device_lock);
	}
	return e == ERR_OK ? e : why_set(&worker->why, e, "weights do not reach the device: %s", err_text(e));
}

static enum err give(struct worker *worker, struct buffer *buffer, const struct load_piece *piece)
{
	struct load_reader *reader = worker->reader;
	const struct load_reader_options *o = &reader->options;
	if (!device_props(o->device)->queued)
		return o->take(o->context, piece, &worker->why);
	pthread_mutex_lock(&reader->device_lock);
	enum err e = o->take(o->context, piece, &worker->why);
	buffer->mark = device_mark(o->device);
	buffer->marked = true;
	pthread_mutex_unlock(&reader->device_lock);
	return e;
}

static enum err read_part(struct worker *worker, const struct load_part *part)
{
	uint32_t rows = (uint32_t)part->spec.dims[0];
	enum err e = ERR_OK;
	for (uint32_t first = 0, count; first < rows && e == ERR_OK; first += count) {
		struct buffer *buffer = &worker->buffers[worker->buffer_next++ % worker->reader->buffer_count];
		count = rows - first < part->piece_rows ? rows - first : part->piece_rows;
		struct load_piece piece = {.spec = &part->spec, .first = first, .count = count};
		e = await_buffer(worker, buffer);
		if (e == ERR_OK)
			e = read_piece(worker, part, buffer->memory, &piece);
		if (e == ERR_OK)
			e = give(worker, buffer, &piece);
	}
	return e;
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
	if (reader->e == ERR_OK && e != ERR_OK) {
		reader->e = e;
		reader->why = worker->why;
	}
	reader->running--;
	pthread_cond_signal(&reader->news);
	pthread_mutex_unlock(&reader->lock);
	return NULL;
}

/* --- the caller ------------------------------------------------------------------------------------------ */

/* Workers share the ring; where pieces are large there are fewer of them. */
static enum err make_ring(struct load_reader *reader)
{
	const struct load_reader_options *o = &reader->options;
	const struct device_props *props = device_props(o->device);
	uint64_t room = load_file_room(o->plan->piece_out_bytes), workers = props->thread_count;
	workers = workers < LOAD_WORKERS ? LOAD_WORKERS : workers > LOAD_WORKERS_MAX ? LOAD_WORKERS_MAX : workers;
	workers = workers < o->plan->lane_count ? workers : o->plan->lane_count;
	reader->buffer_count = props->queued ? BUFFERS : 1;
	while (workers > 1 && workers * reader->buffer_count * room > LOAD_RING_BYTES)
		workers--;
	reader->worker_count = (uint32_t)workers;
	reader->ring_bytes = workers * reader->buffer_count * room + LOAD_ALIGN;
	enum err e = dev_alloc(o->device, MEM_PINNED, reader->ring_bytes, &reader->ring);
	if (e != ERR_OK)
		return e;
	uint8_t *memory = (uint8_t *)(((uintptr_t)reader->ring + LOAD_ALIGN - 1) / LOAD_ALIGN * LOAD_ALIGN);
	for (uint32_t i = 0; i < workers * reader->buffer_count; i++, memory += room)
		reader->workers[i / reader->buffer_count].buffers[i % reader->buffer_count].memory = memory;
	return ERR_OK;
}

static enum err start_worker(struct load_reader *reader, struct worker *worker)
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

static void fail(struct load_reader *reader, enum err e)
{
	pthread_mutex_lock(&reader->lock);
	if (reader->e == ERR_OK) {
		reader->e = e;
		why_set(&reader->why, e, "no memory to read weights in pieces of %llu bytes",
			(unsigned long long)reader->options.plan->piece_out_bytes);
	}
	pthread_mutex_unlock(&reader->lock);
}

static void await_workers(struct load_reader *reader)
{
	const struct load_reader_options *o = &reader->options;
	pthread_mutex_lock(&reader->lock);
	while (reader->running > 0) {
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += LOAD_PROGRESS_SECONDS;
		if (pthread_cond_timedwait(&reader->news, &reader->lock, &until) != ETIMEDOUT || !o->progress)
			continue;
		struct load_progress progress = reader->progress;
		pthread_mutex_unlock(&reader->lock);
		o->progress(o->context, &progress);
		pthread_mutex_lock(&reader->lock);
	}
	pthread_mutex_unlock(&reader->lock);
	for (uint32_t i = 0; i < reader->worker_count; i++)
		if (reader->workers[i].started)
			pthread_join(reader->workers[i].thread, NULL);
}

static void fini(struct load_reader *reader)
{
	for (uint32_t i = 0; i < reader->worker_count; i++) {
		free(reader->workers[i].raw);
		free(reader->workers[i].scales);
	}
	dev_free(reader->options.device, MEM_PINNED, reader->ring, reader->ring_bytes);
	pthread_cond_destroy(&reader->news);
	pthread_mutex_destroy(&reader->lock);
	pthread_mutex_destroy(&reader->device_lock);
	free(reader);
}

enum err load_read(const struct load_reader_options *options, struct why *why, struct load_progress *ret_progress)
{
	struct load_reader *reader = calloc(1, sizeof(*reader));
	if (!reader)
		return why_set(why, ERR_NOMEM, "no memory to read weights");
	reader->options = *options;
	pthread_mutex_init(&reader->device_lock, NULL);
	pthread_mutex_init(&reader->lock, NULL);
	pthread_cond_init(&reader->news, NULL);
	enum err e = make_ring(reader);
	for (uint32_t i = 0; i < reader->worker_count && e == ERR_OK; i++)
		e = start_worker(reader, &reader->workers[i]);
	if (e != ERR_OK)
		fail(reader, e);
	await_workers(reader);
	enum err last = device_sync(options->device); /* it may still be reading the ring */
	e = reader->e;
	if (e != ERR_OK)
		why_set(why, e, "%s", reader->why.text);
	else if (last != ERR_OK)
		e = why_set(why, last, "weights do not reach the device: %s", err_text(last));
	else
		*ret_progress = reader->progress;
	fini(reader);
	return e;
}
