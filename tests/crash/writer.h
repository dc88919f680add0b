/* writer - what the files of crash_writer share: an offerer that remembers what stores acknowledged, and asks for it.
 *
 * Block n is the same everywhere and always: its key begins with n, its bytes and its size follow from n.  So who reads it needs
 * nothing but its number to tell whether a byte is wrong, also when the one who offered it is long gone. */
#ifndef TESTS_CRASH_WRITER_H
#define TESTS_CRASH_WRITER_H
#include "kvstore/visitor.h"
#include "net/region.h"

enum {
	STORES_MAX = 8,
	BLOCKS_MAX = 1 << 22,  /* of a run */
	LAYERS = 3,
	SLOT_BYTES = 64 << 10,
	WINDOW_MAX = 64,       /* offers under way */
	LOOKUPS = 8,           /* look-ups under way */
	LOOKUP_KEYS = 16,
};

struct writer_store {
	uint64_t node;
	uint32_t peer; /* PEER_NONE: no session */
	char name[64];
};

/* An offer under way; its bytes lie in the slot of its number. */
struct writer_offer {
	bool used;
	uint32_t block;
	uint64_t node;
	uint64_t op;
};

struct writer_read {
	bool found, bad;
	enum err e;
	uint32_t outcomes, landings; /* still to come */
	uint64_t digests[LAYERS];
};

/* Reads of some blocks from one store.  A check's are judged; the others only must not be wrong. */
struct writer_lookup {
	bool used, over, checks; /* over: nothing further is found */
	uint32_t serial;
	uint64_t node, op;
	uint32_t count;
	uint32_t blocks[LOOKUP_KEYS];
	struct writer_read reads[LOOKUP_KEYS];
};

/* Is there, at one store, everything that it acknowledged?  What is not found at once is asked for again and again. */
struct writer_check {
	bool running;
	uint32_t store;
	uint32_t tries;                  /* passes so far */
	uint64_t resume_ns;
	uint32_t asked, found;
	uint32_t *list, *again;          /* [BLOCKS_MAX] to be asked for in this pass, and in the next */
	uint32_t list_count, list_next, again_count;
};

struct writer {
	struct process_settings settings;
	uint64_t rate, first_block;
	struct visitor *visitor;
	struct process *process;   /* the visitor's */
	struct sessions *sessions; /* the same */
	struct region *source, *sink;
	struct loop_watch *input;
	struct loop_timer *timer;
	struct writer_store stores[STORES_MAX];
	uint32_t store_count;
	bool writing;
	double allowance;
	uint64_t ticked_ns, stat_ns;
	uint32_t block_next;
	uint64_t op_next;
	struct writer_offer offers[WINDOW_MAX];
	uint32_t *unsent;                /* [WINDOW_MAX] blocks to be offered again */
	uint32_t unsent_count;
	uint8_t *acks;                   /* [BLOCKS_MAX] a bit a store */
	uint64_t acked, refused, failed, offered_again;
	struct writer_lookup lookups[LOOKUPS];
	uint64_t verified, unreadable;
	struct writer_check check;
	uint64_t rng;
};

struct id128 block_key(uint32_t block);
uint32_t block_layer_bytes(uint32_t block);
void block_fill(uint32_t block, uint8_t *ret_bytes);

/* Says why and ends the process: nothing here is to be gone on from. */
__attribute__((noreturn, format(printf, 1, 2))) void writer_fail(const char *format, ...);
uint64_t writer_now(struct writer *writer);

/* lookups.c */
void check_begin(struct writer *writer, uint32_t store);
void lookups_tick(struct writer *writer);
void lookups_found(struct writer *writer, uint64_t node, const Wire__Found *found);
void lookups_down(struct writer *writer, uint64_t node);
void lookups_outcome(struct writer *writer, uint64_t op, enum err e, uint64_t digest);
void lookups_landed(struct writer *writer, uint64_t op);
#endif
