/* disk - the SSD tier of a store: blocks in a log of segments, found again after a crash.  Pure.
 *
 * A block is put once, appended to the open segment as one record (disk_format.h), and made durable together with others
 * by one SYNC.  When the segment is full its footer lists what is in it, so that a start reads footers and no records.
 *
 *   put:      QUEUED --encoded, turn, rate, room--> WRITING --written()--> WRITTEN --> SYNCING --durable(OK)--> (in the index)
 *                 +------- any error of the disk on the way: durable(error); the tier stops writing for a while -------+
 *   load:     QUEUED --turn--> READING --header and every digest right--> loaded(OK)
 *                                 +--wrong: once more; wrong again: the record is in quarantine, loaded(CORRUPT)
 *   segment:  FREE --> OPEN --footer durable--> SEALED --> EMPTYING --> TRIMMING (its head is erased) --> FREE
 *                       +--error, crash: no footer--> CLOSED --^
 *
 * Rules: 1 a block is in the index only when it is durable; what durable(OK) was said of is found after any crash, until
 *          gone() is said of it;
 *        2 loaded(OK) is said only of bytes whose header and digests are right, whatever the disk did, and, where the disk_file has
 *          a key, whose tag is right, whoever wrote there;
 *        3 a footer is written only when all records it lists are durable; a segment without one is believed record by record,
 *          each with its payload read and verified;
 *        4 a segment is used again only when what was moved out of it is durable, nobody reads it, and its head says, durably,
 *          that it is empty;
 *        5 when room is wanted the segment with the least to lose goes (LFS's cost and benefit): blocks that were hit since
 *          they were written are moved, as long as no more than keep_percent of what is put is written again, the others are
 *          gone; so write amplification is at most 1 + keep_percent / 100, and headers and footers;
 *        6 what disk_forget() and disk_pin() said is as durable as the blocks, once disk_noted(): what was forgotten is found by no start,
 *          until it is put again;
 *        7 an error of a write or a sync gives the open segment up, without footer, and stops writing for DISK_RETRY_NS at first,
 *          twice as long each time; loads go on.
 *
 * Memory: the caller's, 16-byte aligned.  Loop: the store's; no callback is called inside disk_put(), disk_load() or disk_forget().
 * Bounds: every number of disk_options. */
#ifndef KVSTORE_DISK_H
#define KVSTORE_DISK_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "kvstore/disk_file.h"
#include "kvstore/ledger.h"

enum { DISK_SEGMENTS_MIN = 4, DISK_SEGMENTS_MAX = 1 << 20 };
#define DISK_RETRY_NS 1000000000ull
#define DISK_RETRY_MAX_NS 60000000000ull

/* Why a block is not on the disk any more. */
enum disk_gone {
	DISK_GONE_ROOM,      /* its segment was emptied */
	DISK_GONE_BAD,       /* twice its bytes were not what they must be */
	DISK_GONE_FORGOTTEN, /* disk_forget() */
	DISK_GONE_UNKNOWN,   /* it is encoded in a way that is not known here */
	DISK_GONE_REASONS,
};

struct disk_options {
	uint32_t segment_count;    /* DISK_SEGMENTS_MIN to DISK_SEGMENTS_MAX */
	uint64_t segment_bytes;    /* a multiple of DISK_PAGE_BYTES; at least two records and their footer */
	uint32_t block_max;        /* in the index */
	uint32_t record_bytes_max; /* header page and payload, a multiple of DISK_PAGE_BYTES: larger blocks are not stored */
	uint32_t put_max;          /* blocks put and not yet durable */
	uint64_t put_bytes_max;    /* of them together, as far as disk_has_room() tells; 0: no bound */
	uint32_t write_max;        /* of them, being written at once */
	uint32_t encode_max;       /* of them, encoded and not yet written, at most 64; 0: all are written as they are */
	uint32_t load_max;         /* blocks asked for */
	uint32_t read_max;         /* of them, being read at once; at the start as many heads and footers are */
	uint64_t write_rate;       /* bytes a second of records, new and moved; 0: no bound */
	uint64_t scrub_rate;       /* bytes a second that are read to see whether they are still right; 0: none */
	uint32_t keep_percent;     /* rule 5 */
	uint64_t pin_bytes_max;    /* of records of blocks that are pinned hard */
	uint32_t note_max;         /* blocks of which something is to be remembered (rule 6): forgotten ones, pinned ones */
	uint64_t sync_delay_ns;    /* how long what is written may wait for company before it is made durable */
	uint64_t id;               /* of a disk that has none yet: random */
	const struct disk_file *file;
	void *context;
	/* The landing may be used again. */
	void (*written)(void *context, uint64_t cookie);
	/* The end of a put; with an error possibly without written(). */
	void (*durable)(void *context, uint64_t cookie, enum err e);
	/* The end of a load.  OK: all of the block lies verified in the landing; its digests are good during the call only.
	 * NOT_FOUND: gone meanwhile.  IO: it cannot be read now.  CORRUPT: its record is in quarantine.  UNSUPPORTED: so is one that is
	 * encoded in a way that is not known here. */
	void (*loaded)(void *context, uint64_t cookie, enum err e, const struct ledger_block *block);
	/* NULL: not wanted. */
	void (*gone)(void *context, const struct id128 *key, enum disk_gone why);
};

struct disk_counters {
	uint64_t puts, puts_durable, puts_failed;
	uint64_t loads, loads_good, loads_failed;
	uint64_t bytes_put, bytes_moved;    /* of records, written */
	uint64_t bytes_put_plain;           /* what bytes_put would be if nothing was encoded */
	uint64_t bytes_loaded, bytes_scrubbed;
	uint64_t gone[DISK_GONE_REASONS];
	uint64_t kept;                      /* blocks moved */
	uint64_t reads_bad;                 /* of any kind, first tries too */
	uint64_t errors;                    /* operations that failed */
	uint64_t syncs, segments_sealed, segments_emptied;
	uint64_t recovered;                 /* blocks found at the start; of them by reading records: */
	uint64_t recovered_scanned;
	uint64_t recovered_torn;            /* records that were not whole */
	uint64_t other_versions;            /* segments of another layout version: they are room */
};

struct disk_status {
	bool ready;         /* the index is back */
	enum err stopped;   /* why nothing is written now; OK: it is */
	uint32_t blocks;
	uint32_t puts;      /* not yet durable */
	uint64_t put_bytes; /* of them: what a crash would lose */
	uint32_t loads;
	uint32_t segments, segments_free;
	uint32_t notes;
	uint64_t bytes_used, bytes_max; /* of segments: with living blocks, and all */
	uint64_t bytes_stored, bytes_plain; /* of records with living blocks: on disk, and if nothing was encoded */
	struct disk_counters counters;
};

struct disk;

size_t disk_bytes(const struct disk_options *options);
/* Begins to read what is there; until it is ready nothing is found, and what is put waits. */
struct disk *disk_init(void *memory, const struct disk_options *options, uint64_t now_ns);

/* Events. */
void disk_done(struct disk *disk, uint64_t op, enum err e, uint64_t now_ns);
/* Some times a second, and after calls of disk_put() and disk_load(): they begin to move. */
void disk_tick(struct disk *disk, uint64_t now_ns);

/* What the index knows of a block. */
struct disk_found {
	uint32_t layer_count, layer_bytes;
	const char *tenant; /* good as long as the disk is */
	enum ledger_priority priority;
	enum ledger_pin pin;
};

/* Is the index back? */
bool disk_is_ready(const struct disk *disk);
/* Of a block on disk (ret may be NULL). */
bool disk_find(const struct disk *disk, const struct id128 *key, struct disk_found *ret_found);
/* The number of the first block in the index at or after `from` and before `end`; `end`: there is none.  Numbers are below
 * disk_numbers(), the most blocks that there were at once in this life, and a block that stays keeps its own. */
uint32_t disk_numbers(const struct disk *disk);
uint32_t disk_next(const struct disk *disk, uint32_t from, uint32_t end);
void disk_at(const struct disk *disk, uint32_t number, struct id128 *ret_key, struct disk_found *ret_found);
/* Blocks by the hash of their key, as those of the ledger (ledger_homes()); false: that was all of this home. */
uint32_t disk_homes(const struct disk *disk);
bool disk_at_home(const struct disk *disk, uint32_t home, uint32_t *step, struct id128 *ret_key);
/* The bytes lie in the landing until written() or durable().  AGAIN: put_max.  EXISTS.  TOO_LARGE.  IO: stopped. */
MUST_USE enum err disk_put(struct disk *disk, const struct ledger_block *block, uint32_t landing, uint64_t cookie);
/* Into a landing of its layers' size.  NOT_FOUND, AGAIN: load_max. */
MUST_USE enum err disk_load(struct disk *disk, const struct id128 *key, uint32_t landing, uint64_t cookie);
/* It is not found any more; nor after a restart, once the note is durable.  NOT_FOUND.  BUSY: it is being written, or the index is
 * not back.  AGAIN: note_max. */
MUST_USE enum err disk_forget(struct disk *disk, const struct id128 *key, uint64_t *ret_note);
/* Pinned hard it goes for room only if nothing else can be had, pinned softly it is kept as if it had been hit; until it is unpinned.
 * NOT_FOUND.  AGAIN: note_max, pin_bytes_max. */
MUST_USE enum err disk_pin(struct disk *disk, const struct id128 *key, enum ledger_pin pin, uint64_t *ret_note);
/* Is that note durable, and all before it? */
bool disk_noted(const struct disk *disk, uint64_t note);

/* Reads the record to see whether it is right, as scrubbing does.  AGAIN: another one is being looked at; then the outcome, once: OK,
 * CORRUPT, UNSUPPORTED (both: it is gone), IO, NOT_FOUND. */
MUST_USE enum err disk_check_block(struct disk *disk, const struct id128 *key);
bool disk_checked(struct disk *disk, const struct id128 *key, enum err *ret_outcome);

/* Is there room for so many more puts, and does the tier write? */
bool disk_has_room(const struct disk *disk, uint32_t count);
void disk_status(const struct disk *disk, struct disk_status *ret_status);
/* Asserts what must hold; for tests and simulation. */
void disk_check(const struct disk *disk);
#endif
