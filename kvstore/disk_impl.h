/* disk_impl - what the files of the SSD tier share; nobody else includes it. */
#ifndef KVSTORE_DISK_IMPL_H
#define KVSTORE_DISK_IMPL_H
#include "base/map.h"
#include "kvstore/disk.h"
#include "kvstore/disk_format.h"
#include "kvstore/disk_index.h"
#include "kvstore/disk_payload.h"

/* Puts kept for what is moved, so that new blocks that wait for room cannot keep it from being made. */
enum { DISK_MOVES_MAX = 8 };

/* Pages of notes in a segment: what they take of its footer, and of memory for it, is bounded by that. */
enum { DISK_NOTE_PAGES_MAX = 64 };

/* New blocks, moved ones, and a page of notes. */
#define PUTS_ALL(options) ((options)->put_max + DISK_MOVES_MAX + 1)

#define PUT_NONE UINT32_MAX
#define LOAD_NONE UINT32_MAX
#define SEGMENT_NONE UINT32_MAX

enum segment_state {
	SEGMENT_FREE,
	SEGMENT_OPEN,
	SEGMENT_CLOSED,
	SEGMENT_SEALED,
	SEGMENT_EMPTYING,
	SEGMENT_TRIMMING,
	SEGMENT_STATES,
};

struct segment {
	enum segment_state state;
	uint64_t serial;
	uint32_t readers; /* loads under way */
	uint32_t moving;  /* blocks being moved out of it */
	bool damaged;     /* a bad record was found: it goes first */
	bool stale;       /* there may be records in it that are not in the index, and that no note says to be dead */
	uint32_t notes;   /* that lie in it */
	/* While the index is read back. */
	bool has_head, has_trailer, unread;
	uint64_t id;
	uint32_t entry_count, name_count;
	uint64_t footer_sum;
};

/* PUT_LEAVING: it has failed, and is being encoded: what lies in its landing is still read. */
enum put_state { PUT_FREE, PUT_QUEUED, PUT_LEAVING, PUT_WRITING, PUT_WRITTEN, PUT_SYNCING, PUT_STATES };

/* Of a put that waits: whether it may be written as it is, or as it was encoded. */
enum put_coding { CODING_OVER, CODING_WANTED, CODING_OUT };

#define CODER_NONE UINT32_MAX
enum { DISK_CODERS_MAX = 64 };

/* A record on its way to the disk: a new block, one that is moved, or notes. */
struct put {
	enum put_state state;
	bool notes;
	uint64_t cookie;
	struct id128 key;
	uint32_t layer_count, layer_bytes;
	uint8_t tenant;
	bool low;
	uint32_t landing;
	uint32_t plain_pages, pages; /* as it is in memory; as it will lie on disk */
	uint32_t page;      /* in the open segment */
	uint32_t from, from_page; /* moved: whence; SEGMENT_NONE: new */
	uint8_t *head;      /* its header page; behind it, if it is moved or encoded, the payload */
	uint8_t *own_head;
	enum put_coding coding;
	uint32_t coder;     /* where it is encoded to; CODER_NONE: it is not */
	struct disk_coded coded;
	enum err failed;    /* PUT_LEAVING */
	uint32_t next;
};

enum log_state {
	LOG_NONE,     /* no segment is open */
	LOG_OPENING,  /* its head is being written */
	LOG_OPEN,
	LOG_SEALING,  /* takes no more: what is written becomes durable */
	LOG_FOOTER,   /* the footer is being written */
	LOG_FOOTER_SYNC,
};

struct log {
	enum log_state state;
	enum err failed;    /* the open segment is given up, as soon as nothing is under way */
	uint32_t segment;
	uint32_t page_next;
	uint32_t entry_count, name_count; /* of its footer */
	uint32_t note_pages;
	uint32_t writing, written, syncing; /* puts */
	bool head_out, sync_out, footer_out; /* operations */
	uint64_t written_first_ns; /* since when something waits for a sync */
	uint32_t queue_first, queue_last;
};

enum load_state { LOAD_FREE, LOAD_QUEUED, LOAD_READING };

struct load {
	enum load_state state;
	uint64_t cookie;
	struct id128 key;
	uint32_t landing;
	uint32_t layer_count, layer_bytes; /* of the landing */
	struct disk_place place;           /* while reading */
	uint32_t pages;                    /* of what is read */
	uint32_t tries;
	uint8_t *head;     /* [1 page] */
	uint64_t *digests; /* [DISK_LAYERS_MAX] of what landed */
	uint8_t tag[DISK_TAG_BYTES]; /* and its tag */
	uint32_t next;
};

/* What the tier does for itself, one operation at a time. */
enum care_state {
	CARE_HEADS,    /* start: head and trailer of each segment */
	CARE_FOOTERS,  /* start: of each sealed one */
	CARE_RECORDS,  /* start: of each without footer */
	CARE_RESEAL,   /* start: it gets its footer */
	CARE_IDLE,
	CARE_EMPTY,    /* a segment is emptied: between two blocks */
	CARE_MOVE,     /* a block is being read to be moved */
	CARE_MOVE_OUT, /* it is being written */
	CARE_ERASE,      /* it is empty: its head says so */
	CARE_ERASE_SYNC, /* durably, before anything else is written there */
	CARE_TRIM,
	CARE_SCRUB,
};

struct care {
	enum care_state state;
	bool out;          /* its operation is under way */
	uint32_t tries;
	uint32_t segment;
	uint32_t page;     /* CARE_RECORDS */
	uint32_t pages;    /* of what is read */
	enum segment_state was; /* of the segment that is emptied, before */
	uint32_t entry;    /* next to be moved */
	struct id128 key;  /* of what is being read */
	struct disk_place place;
};

/* The start reads heads, trailers and footers as many at a time as loads later. */
struct start_read {
	uint32_t segment;
	uint32_t page, pages;
	uint8_t *at;       /* in the scratch */
	uint32_t tries;
};

struct start {
	struct start_read *reads; /* [read_max] */
	uint32_t count, left;     /* of a batch; of it, still out */
	bool trailers;            /* CARE_HEADS: the second pages of the segments of the last batch */
	uint32_t next, next_closed; /* segments before have been read: heads, then footers; records */
};

/* A block that somebody wants to be looked at. */
struct check {
	enum { CHECK_NONE, CHECK_WANTED, CHECK_READING, CHECK_OVER } state;
	struct id128 key;
	enum err outcome;
};

enum note_state { NOTE_FREE, NOTE_PENDING, NOTE_WRITING, NOTE_THERE };

struct note {
	struct disk_note note;
	uint64_t seq;     /* of its last change, until that is durable; 0: nobody waits */
	uint32_t segment; /* where its newest durable copy lies; SEGMENT_NONE */
	enum note_state state;
	bool changed;     /* while it was being written */
	bool dropped;     /* while it was on its way */
	uint32_t next;    /* pending, or free */
};

struct notes {
	struct note *list; /* [note_max] */
	struct map maps[DISK_NOTE_KINDS]; /* by key */
	uint32_t free_first, pending_first, pending_last;
	uint32_t count;
	uint64_t seq, noted; /* of the last change; of the last for which all before are durable */
	uint64_t oldest;     /* the start: serial of a segment in use */
	uint32_t in_page;    /* in the page that is on its way */
	uint32_t page_of[DISK_NOTES_A_PAGE];
	uint8_t *page;
};

struct disk {
	struct disk_options options;
	uint32_t segment_pages;
	uint64_t now_ns;
	uint64_t id;
	uint64_t serial_next;
	bool ready;
	enum err stopped;
	uint64_t retry_ns, retry_wait_ns;
	int64_t write_tokens, scrub_tokens; /* bytes; negative: spent before they were earned */
	uint64_t tokens_ns;
	int64_t keep_credit; /* pages that may be written again */
	uint32_t scratch_pages;
	uint32_t segments_free;
	struct disk_counters counters;

	struct disk_index *index;
	struct segment *segments; /* [segment_count] */
	struct log log;
	struct care care;
	struct start start;
	struct notes notes;
	uint32_t scrub_next;
	struct check check;
	struct put *puts;   /* [put_max] */
	uint32_t put_free, put_count, move_count; /* new ones; moved ones */
	uint64_t put_pages;                       /* of new ones, as they are in memory */
	uint8_t *coders;        /* [encode_max][record_bytes_max] */
	uint64_t coders_taken;  /* a bit for each */
	uint32_t encode_next;   /* of the queue the first that is to be encoded; PUT_NONE */
	struct load *loads; /* [load_max] */
	uint32_t load_free, load_count, load_reading;
	uint32_t load_first, load_last;
	uint64_t *load_digests; /* [load_max][DISK_LAYERS_MAX] */
	uint64_t *digests;      /* [DISK_LAYERS_MAX] of the header that is looked at */
	uint8_t *put_heads;     /* [put_max] pages */
	uint8_t *load_heads;    /* [load_max] pages */
	uint8_t *page;          /* head or trailer being written */
	uint8_t *footer;        /* of the open segment: its entries, and room for names and the trailer */
	char (*names)[DISK_NAME_BYTES]; /* [DISK_NAMES_MAX] of tenants; the first is "" */
	uint32_t name_count;
	uint8_t *scratch;       /* [scratch_pages]: what care reads */
};

/* Writing is stopped, and it is not yet time to try again. */
static inline bool disk_rests(const struct disk *d)
{
	return d->stopped != ERR_OK && d->now_ns < d->retry_ns;
}

/* An operation's number says whose it is. */
enum op_kind { OP_PUT, OP_LOAD, OP_HEAD, OP_SYNC, OP_FOOTER, OP_CARE, OP_ENCODE };

static inline uint64_t op_of(enum op_kind kind, uint32_t number)
{
	return (uint64_t)kind << 32 | number;
}

/* disk.c */
void disk_submit(struct disk *d, const struct disk_io *io);
void disk_pump(struct disk *d);
/* Out of the index, said to the store. */
void disk_lose(struct disk *d, uint32_t entry, enum disk_gone why);
/* Is this, read whole into the scratch, the record of so many pages of that key (NULL: any), all of it right?  Its digests: d->digests.
 * CORRUPT, UNSUPPORTED (disk_format.h). */
enum err disk_verify(struct disk *d, const uint8_t *record, uint32_t pages, const struct id128 *key, struct disk_record *ret_record);
void disk_set_state(struct disk *d, uint32_t segment, enum segment_state state);
/* Nothing is written for a while; what waits for its turn fails. */
void disk_stop(struct disk *d, enum err e);
/* A record was bad twice, or is encoded in a way that is not known here. */
void disk_quarantine(struct disk *d, uint32_t entry, enum err e);
/* The number of a tenant's name; of one too many that of "other". */
uint8_t disk_name_number(struct disk *d, const char *name);

/* disk_encode.c */
void disk_encode_init(struct disk *d);
/* A new one, behind all others in the queue. */
void disk_encode_push(struct disk *d, uint32_t put);
void disk_encode_pump(struct disk *d);
void disk_encode_done(struct disk *d, uint32_t put, enum err e);
/* Of those in the queue none is to be encoded any more. */
void disk_encode_stop(struct disk *d);
/* What it was encoded to is written, or will not be. */
void disk_encode_release(struct disk *d, struct put *put);
void disk_encode_check(const struct disk *d);

/* disk_log.c */
void disk_log_init(struct disk *d);
/* Of one that failed before it was its turn. */
void disk_log_drop(struct disk *d, uint32_t put, enum err e);
uint32_t disk_log_take_put(struct disk *d); /* PUT_NONE: none is free */
void disk_log_push(struct disk *d, uint32_t put, bool first);
void disk_log_pump(struct disk *d);
void disk_log_done(struct disk *d, enum op_kind kind, uint32_t number, enum err e);
/* Takes a segment that has no footer, with the entries that were noted since the last one, to be sealed. */
void disk_log_reseal(struct disk *d, uint32_t segment);
/* Adds to the footer of the open segment. */
void disk_log_note_entry(struct disk *d, const struct disk_footer_entry *entry);
void disk_log_check(const struct disk *d);

/* disk_notes.c */
void disk_notes_init(struct disk *d);
/* A pinned block is not on disk any more. */
void disk_notes_gone(struct disk *d, const struct id128 *key);
/* So many that segments should go for their sake. */
bool disk_notes_many(const struct disk *d);
/* Is there something to be written, and nothing on its way? */
bool disk_notes_wait(const struct disk *d);
/* Fills notes.page for that place, and the footer; how many, perhaps 0. */
uint32_t disk_notes_fill(struct disk *d, const struct disk_place *place);
/* What was filled is durable in the open segment, or is not. */
void disk_notes_written(struct disk *d, enum err e);
/* The segment is to be emptied: true when nothing that is needed lies there any more. */
bool disk_notes_leave(struct disk *d, uint32_t segment);
/* A segment went: what was needed for its sake goes. */
void disk_notes_purge(struct disk *d);
/* The start: which segments there are is known; a note in one; is a record dead by what was found so far; all is found. */
void disk_notes_begin(struct disk *d);
void disk_notes_found(struct disk *d, const struct disk_note *note, uint32_t segment);
bool disk_notes_dead(struct disk *d, const struct id128 *key, uint64_t serial, uint32_t page);
void disk_notes_settle(struct disk *d);
void disk_notes_check(const struct disk *d);

/* disk_loads.c */
void disk_loads_init(struct disk *d);
void disk_loads_pump(struct disk *d);
void disk_loads_done(struct disk *d, uint32_t number, enum err e);
void disk_loads_check(const struct disk *d);

/* disk_recover.c: the start */
void disk_recover_pump(struct disk *d);
void disk_recover_done(struct disk *d, uint32_t number, enum err e);

/* disk_care.c: room, and scrubbing */
void disk_care_pump(struct disk *d);
void disk_care_done(struct disk *d, enum err e);
/* The scratch is free again: what was read from there is written, or will not be. */
void disk_care_moved(struct disk *d, enum err e);
#endif
