/* load_reader - reads the files of a model by several threads and hands over what the engine packs.
 *
 * Owns:   its threads, and a ring of pinned buffers that pieces lie in.
 * Loop:   created, asked and destroyed by the one thread that also uses the device.
 * Bounds: LOAD_WORKERS threads with a read each on its way; LOAD_BUFFERS buffers of LOAD_PIECE_BYTES, fewer and larger ones
 *         where a piece must be more, two at least; each thread as much again for what it converts.
 * Rules:  1 pieces of a lane come in order, lanes beside each other in any;
 *         2 a thread reads a lane from end to end: it digests what it read and makes of it what the engine takes;
 *         3 a piece is its taker's until the next is asked for; its buffer is read into again once what the device was told to
 *           do until then has been done. */
#ifndef ENGINE_LOAD_READER_H
#define ENGINE_LOAD_READER_H
#include "engine/load_plan.h"

struct device;
struct load_hooks;
struct load_reader;

/* More buffers than threads: some are being packed.  16 MiB: rows enough for every core to pack some. */
enum { LOAD_WORKERS = 8, LOAD_BUFFERS = 12 };
#define LOAD_PIECE_BYTES ((uint64_t)16 << 20)

struct load_piece {
	const struct tensor_spec *spec;
	uint32_t first, count; /* rows; of a vector all of it */
	void *rows;            /* [count][inputs] of elem; of a vector [count] of float, aligned; the taker may change them */
};

struct load_reader_options {
	struct device *device;
	const struct weights *weights;
	const struct load_plan *plan;
	enum elem elem;                 /* the plan's */
	uint8_t (*digests)[32];         /* [weights_count] SHA-256 of each tensor's bytes, there at the end; NULL: not wanted */
	const struct load_hooks *hooks; /* or NULL */
};

MUST_USE enum err load_reader_create(const struct load_reader_options *options, struct why *why,
				     struct load_reader **ret_reader);
/* Waits for the threads; what the device was told to do has been done. */
void load_reader_destroy(struct load_reader *reader); /* NULL is fine */

/* The next piece, or NULL once all were taken and digested.  What failed first is the error: of a file or of the device. */
MUST_USE enum err load_reader_next(struct load_reader *reader, struct why *why, const struct load_piece **ret_piece);

/* Bytes read, and those of them that the page cache had; all of them once there is no next piece. */
uint64_t load_reader_bytes(struct load_reader *reader, uint64_t *ret_cached);
#endif
