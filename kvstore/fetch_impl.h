/* What fetch.c (asking) and fetch_read.c (reading) share. */
#ifndef KVSTORE_FETCH_IMPL_H
#define KVSTORE_FETCH_IMPL_H
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
	bool reading;
	bool done;
	bool failed;
	uint32_t block;       /* landing; KV_BLOCK_NONE: none yet */
	uint32_t layers_left;
};

struct fetch_source {
	uint32_t peer;
	uint64_t op;
	bool answered;
};

struct fetch {
	enum fetch_state state;
	uint32_t serial;
	uint32_t cookie;
	const struct id128 *keys;
	uint32_t key_count;
	uint64_t started_ns;
	uint64_t deadline_ns;
	uint32_t source_count;
	struct fetch_source sources[KV_FETCH_SOURCES_MAX];
	uint32_t run;           /* leading blocks worth reading */
	uint32_t reading;       /* of them under way */
	uint32_t issue_next;
	struct kv_fetch_counts counts;
	struct fetch_block *blocks; /* [block_max] */
	uint64_t *digests;          /* [block_max][FETCH_COPIES][layer_count] expected */
	uint32_t *key_indexes;      /* [KV_FETCH_SOURCES_MAX][block_max]: what each source was asked for */
	uint32_t key_counts[KV_FETCH_SOURCES_MAX];
};

struct kv_fetches {
	struct kv_fetch_options options;
	struct kv_local *local;
	uint64_t op_next;
	uint32_t count;
	struct fetch *fetches;
	uint8_t *key_bytes;     /* [block_max * 16] of the look-up being sent */
	uint32_t *result;       /* [block_max] */
};

static inline uint64_t *fetch_digests(const struct kv_fetches *f, const struct fetch *fetch, uint32_t i, uint32_t copy)
{
	return fetch->digests + ((size_t)i * FETCH_COPIES + copy) * f->local->layer_count;
}

static inline uint32_t fetch_index(const struct kv_fetches *f, const struct fetch *fetch)
{
	return (uint32_t)(fetch - f->fetches);
}

/* fetch_read.c */
void fetch_begin_reading(struct kv_fetches *f, struct fetch *fetch);
void fetch_issue(struct kv_fetches *f, struct fetch *fetch);
/* Gives the landings back, releases what holders keep, frees the slot; reports when `report`. */
void fetch_end(struct kv_fetches *f, struct fetch *fetch, bool report);
#endif
