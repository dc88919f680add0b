/* What fetch.c (asking) and fetch_read.c (reading) share. */
#ifndef KVSTORE_FETCH_IMPL_H
#define KVSTORE_FETCH_IMPL_H
#include "base/layer_groups.h"
#include "kvstore/fetch.h"

enum fetch_state { FETCH_FREE, FETCH_ASKING, FETCH_READING };

/* Where one block may be read: first and second choice. */
struct fetch_copy {
	uint32_t peer; /* PEER_NONE: none */
	uint64_t node;
	uint32_t region;
	uint64_t offset;
	uint64_t generation;
};

enum { FETCH_COPIES = 2 };

struct fetch_block {
	struct fetch_copy copies[FETCH_COPIES];
	uint8_t copy_next;    /* the copy to try next */
	bool have;            /* was in the pool when the fetch began */
	bool reading;
	bool done;
	bool failed;
	uint32_t block;       /* landing, or kept in the pool; KV_BLOCK_NONE: neither */
	uint32_t layers_left;
};

struct fetch_source {
	uint32_t peer;
	uint64_t op;
	bool heard;    /* it has answered, and may have more to say */
	bool answered; /* all of it */
};

struct fetch {
	enum fetch_state state;
	uint32_t serial;
	uint32_t cookie;
	const struct id128 *keys[LAYER_GROUPS_MAX];
	uint32_t key_count;
	uint32_t have;
	uint32_t front;         /* leading blocks that are not wanted, since the job has them by itself: `have` at first */
	uint64_t began_ns;
	uint64_t started_ns;    /* began, or went on beside computing: the deadline counts from here */
	uint64_t deadline_ns;
	uint32_t source_count;
	struct fetch_source sources[KV_FETCH_SOURCES_MAX];
	uint32_t run;           /* the longest beginning that is known to be had */
	uint32_t goal;          /* what is read for: all of it while more may be found, then run */
	uint32_t missing;       /* blocks that it wants and that have not come */
	uint32_t reading;       /* blocks under way */
	uint32_t issue_end[LAYER_GROUPS_MAX]; /* reads are issued from the end: this one's next is before */
	struct kv_fetch_counts counts;
	struct fetch_block *blocks[LAYER_GROUPS_MAX]; /* [block_max] */
	uint64_t *digests[LAYER_GROUPS_MAX];          /* [block_max][FETCH_COPIES][layer_count] expected */
	uint32_t *key_indexes;      /* [KV_FETCH_SOURCES_MAX][groups * block_max]: group * block_max + index asked for */
	uint32_t key_counts[KV_FETCH_SOURCES_MAX];
};

struct kv_fetches {
	struct kv_fetch_options options;
	struct kv_local *local;
	uint64_t op_next;
	uint32_t count;
	struct fetch *fetches;
	uint8_t *key_bytes;     /* [groups * block_max * 16] of the look-up being sent */
	bool *present[LAYER_GROUPS_MAX]; /* [block_max] */
	struct hot *hot;
};

static inline uint64_t *fetch_digests(const struct kv_fetches *f, const struct fetch *fetch, uint32_t group, uint32_t i,
				      uint32_t copy)
{
	return fetch->digests[group] + ((size_t)i * FETCH_COPIES + copy) * f->local->groups[group].layer_count;
}

static inline uint32_t fetch_index(const struct kv_fetches *f, const struct fetch *fetch)
{
	return (uint32_t)(fetch - f->fetches);
}

/* fetch_read.c */
void fetch_begin_reading(struct kv_fetches *f, struct fetch *fetch);
/* The longest beginning of which all that is needed is here, on its way, or may yet be read, and what is read for; what of that
 * is to be read is looked for anew. */
void fetch_plan(struct kv_fetches *f, struct fetch *fetch);
void fetch_issue(struct kv_fetches *f, struct fetch *fetch);
/* More copies are known than when it was planned. */
void fetch_extend(struct kv_fetches *f, struct fetch *fetch);
/* The job has the first n blocks by itself. */
void fetch_advance(struct kv_fetches *f, struct fetch *fetch, uint32_t n);
/* fetch.c: not all is here or on its way, a source has more to say, and there is time for that. */
bool fetch_waits_for_more(const struct kv_fetches *f, const struct fetch *fetch);
/* Releases what holders keep; reports when `report`; gives the blocks back and frees the slot. */
void fetch_end(struct kv_fetches *f, struct fetch *fetch, bool report);
#endif
