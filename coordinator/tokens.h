/* tokens - the tokens of all requests, in pages of one pool of fixed size.  Pure.
 *
 * A run is a growing list of 32-bit words.  Room is promised first (tokens_promise) and pages are taken as they are
 * filled, so a request that was accepted never runs out, and memory that is not used is never touched.
 * Memory: the caller's.  Loop: the owner's.  Bounds: page_count pages. */
#ifndef COORDINATOR_TOKENS_H
#define COORDINATOR_TOKENS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TOKENS_PAGE = 256 }; /* words */

struct token_pool {
	uint32_t *words; /* [page_count][TOKENS_PAGE] */
	uint32_t *next;  /* [page_count] of the run or the free list */
	uint32_t page_count;
	uint32_t fresh;  /* pages from here on were never used */
	uint32_t free;   /* head of the list of those given back */
	uint32_t promised;
	uint32_t used;
};

/* Zeroed: empty. */
struct token_run {
	uint32_t first, last; /* pages */
	uint32_t count;       /* words */
};

static inline uint32_t tokens_pages(uint64_t words)
{
	return (uint32_t)((words + TOKENS_PAGE - 1) / TOKENS_PAGE);
}

size_t tokens_bytes(uint32_t page_count);
void tokens_init(struct token_pool *pool, void *memory, uint32_t page_count);

/* False when so many pages are not left to promise. */
bool tokens_promise(struct token_pool *pool, uint32_t pages);
void tokens_release(struct token_pool *pool, uint32_t pages); /* a promise */

/* The pages were promised. */
void tokens_append(struct token_pool *pool, struct token_run *run, const uint32_t *words, uint32_t count);
/* out: [run->count] */
void tokens_copy(const struct token_pool *pool, const struct token_run *run, uint32_t *out);
void tokens_free(struct token_pool *pool, struct token_run *run);
#endif
