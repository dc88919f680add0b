/* load_reader - reads the files of a model by several threads, each of which packs what it read.
 *
 * Owns:   its threads and a ring of pinned buffers, for the time of one call.
 * Loop:   the thread that also uses the device, which waits.
 * Bounds: LOAD_WORKERS threads or as many as the device has, each with one read on its way and one buffer of LOAD_PIECE_BYTES, two
 *         where the device runs behind; what it converts is read into as much again.  LOAD_RING_BYTES of buffers, or those of one
 *         thread where a piece must be larger.
 * Rules:  1 a thread reads a lane from end to end: it digests what it read, makes of it what the engine takes and gives
 *           it to `take`;
 *         2 what `take` was given stays as it is until what it told the device to do has been done;
 *         3 the first error ends it, and names file and offset. */
#ifndef ENGINE_LOAD_READER_H
#define ENGINE_LOAD_READER_H
#include "engine/load_plan.h"

struct device;
struct load_hooks;

/* 4 MiB: deep enough for any disk with so many on their way, and few enough that what one core reads is near it when it
 * packs it. */
#define LOAD_PIECE_BYTES ((uint64_t)4 << 20)
#define LOAD_RING_BYTES	 ((uint64_t)256 << 20)
enum { LOAD_WORKERS = 12, LOAD_WORKERS_MAX = 64, LOAD_PROGRESS_SECONDS = 2 };

struct load_piece {
	const struct tensor_spec *spec;
	uint32_t first, count; /* rows; of a vector all of it */
	void *rows;            /* [count][inputs] of its elem; of a vector [count] of float, aligned; the taker may change them */
	const struct tensor *scales; /* of ELEM_E4M3: those of the piece's rows alone, as stored; else NULL */
};

struct load_progress {
	uint64_t bytes, cached_bytes; /* read; of those, what the page cache had */
};

struct load_reader_options {
	struct device *device;
	const struct weights *weights;
	const struct load_plan *plan;
	uint8_t (*digests)[32];         /* [weights_count] SHA-256 of each tensor's bytes; NULL: not wanted */
	const struct load_hooks *hooks; /* or NULL */
	void *context;
	/* Pieces of a lane in order, lanes beside each other.  Called by any thread; by one at a time where the device is queued, on a CPU by
	 * several, for rows of their own. */
	enum err (*take)(void *context, const struct load_piece *piece, struct why *why);
	/* Every LOAD_PROGRESS_SECONDS, on the caller's thread; or NULL. */
	void (*progress)(void *context, const struct load_progress *progress);
};

/* Reads all of the plan.  ERR_IO, ERR_CORRUPT: of a file; what `take` said; the device's; ERR_NOMEM. */
MUST_USE enum err load_read(const struct load_reader_options *options, struct why *why, struct load_progress *ret_progress);
#endif
