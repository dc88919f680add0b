/* crash_disk - a disk in memory that behaves as badly as one may: it answers in any order, loses what was not synced, tears,
 * flips, misdirects and fails. */
#ifndef TESTS_KVSTORE_CRASH_DISK_H
#define TESTS_KVSTORE_CRASH_DISK_H
#include <stdbool.h>
#include "base/err.h"
#include "base/rng.h"
#include "kvstore/disk_file.h"

enum { CRASH_DISK_OPS_MAX = 64 };

struct crash_disk_options {
	uint64_t seed;
	uint32_t segment_count;
	uint64_t segment_bytes;
	uint32_t landing_count;
	uint32_t landing_bytes;
	/* NULL: landings of its own; digest_of; nobody wants to know. */
	void *context;
	uint8_t *(*landing)(void *context, uint32_t landing);
	uint64_t (*digest)(const void *data, size_t length);
	void (*submitted)(void *context, const struct disk_io *io);
	const char *secret; /* NULL: records have no tag */
};

/* Faults, each in so many of 65536 operations of its kind. */
struct crash_disk_faults {
	uint32_t fail;            /* any operation: IO; a write has happened in part */
	uint32_t flip_read;       /* a bit of what is read */
	uint32_t flip_rest;       /* with an operation, a bit of anything on the disk */
	uint32_t misdirect_read;  /* other pages are read */
	uint32_t misdirect_write; /* it is written elsewhere, and lost where it should be */
};

struct crash_disk {
	struct crash_disk_options options;
	struct disk_file file;
	struct rng rng;
	struct crash_disk_faults faults;
	uint64_t submitted;     /* operations so far */
	uint64_t fail_at;       /* that operation fails, counted from 1; 0: none */
	bool fail_on;           /* and all after it */
	uint64_t reads, writes, syncs, trims;
	uint64_t struck;        /* faults that happened */
	uint32_t pending_count;
	struct disk_io pending[CRASH_DISK_OPS_MAX];
	bool pending_fails[CRASH_DISK_OPS_MAX];
	uint8_t *now;     /* what a read sees */
	uint8_t *durable; /* what a crash leaves at least */
	uint8_t *dirty;   /* a page: 0 durable, 1 written, 2 covered by a sync under way */
	uint8_t *landings; /* [landing_count][landing_bytes] */
};

void crash_disk_init(struct crash_disk *disk, const struct crash_disk_options *options);
void crash_disk_fini(struct crash_disk *disk);
/* One operation ends, any of those under way; false: none is.  Its outcome is to be told with disk_done(). */
bool crash_disk_step(struct crash_disk *disk, uint64_t *ret_op, enum err *ret_err);
/* Power is lost: of what was not durable each sector may be there or not. */
void crash_disk_crash(struct crash_disk *disk);
/* The process alone dies: what was written is there, what was under way in part. */
void crash_disk_kill(struct crash_disk *disk);
/* The tag of a record, as who has the secret makes it. */
void crash_disk_tag(const char *secret, const uint8_t *header, const void *payload, size_t length, uint8_t ret_tag[DISK_TAG_BYTES]);
uint8_t *crash_disk_landing(struct crash_disk *disk, uint32_t landing);
uint8_t *crash_disk_page(struct crash_disk *disk, uint32_t segment, uint32_t page);
#endif
