/* kv_client_impl - what kv_client.c (who is there, and what comes from them) and kv_client_ask.c (questions, reads, offers) share;
 * nobody else includes it. */
#ifndef TOOLS_KV_CLIENT_IMPL_H
#define TOOLS_KV_CLIENT_IMPL_H
#include "kvstore/visitor.h"
#include "tools/kv_client.h"

enum { PAGE = 4096, ENGINES_MAX = 1024, READS_MAX = 65536, ARENA_BYTES = 64 << 20 };

struct store {
	uint64_t node;
	char name[MEMBER_NAME_MAX + 1];
	bool gone; /* no member any more */
};

struct engine {
	bool has_compat;
	struct id128 compat;
	char name[MEMBER_NAME_MAX + 1];
};

/* A layer that is being read. */
struct layer_read {
	uint32_t block, layer;
	bool outcome, landed;
};

struct kv_client {
	struct kv_client_options options;
	struct visitor *visitor;
	struct process *process;   /* the visitor's */
	struct sessions *sessions; /* the same */
	struct store stores[KV_STORES_MAX];
	struct engine engines[ENGINES_MAX];
	uint32_t store_count, engine_count;
	bool synced, interrupted;
	/* The question that is out. */
	uint64_t op;
	uint64_t asked_node;
	bool lost; /* its store, before it answered */
	uint8_t *frame;
	size_t frame_capacity;
	struct codec_arena arena;
	const Wire__KvAnswer *answer;
	/* Reads: an op is a serial and the number of its layer. */
	uint8_t *landing;
	struct layer_read *reads; /* [READS_MAX] */
	uint32_t read_count, reads_open;
	uint32_t serial;
	struct kv_client_block *blocks;
	/* Offers: an op is a serial and the number of the block. */
	struct region *region;
	uint16_t region_next;
	uint32_t offers_open;
	struct kv_client_offer *offers;
	uint32_t offer_count;
};

uint64_t client_now(const struct kv_client *c);
/* When a question that begins now is over. */
uint64_t client_timeout(const struct kv_client *c);
/* One turn; false: no use in waiting on. */
bool client_turn(struct kv_client *c, uint64_t until_ns);
enum err client_why_not(const struct kv_client *c, const char *what, struct why *why);
bool client_has_session(const struct kv_client *c, uint32_t store);
bool client_all_up(const struct kv_client *c);
#endif
