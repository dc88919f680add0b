#include "coordinator/tokens.h"

#include <assert.h>
#include <string.h>

#define PAGE_NONE UINT32_MAX

size_t tokens_bytes(uint32_t page_count)
{
	return (size_t)page_count * (TOKENS_PAGE + 1) * sizeof(uint32_t);
}

void tokens_init(struct token_pool *pool, void *memory, uint32_t page_count)
{
	*pool = (struct token_pool){.words = memory, .page_count = page_count, .free = PAGE_NONE};
	pool->next = pool->words + (size_t)page_count * TOKENS_PAGE;
}

bool tokens_promise(struct token_pool *pool, uint32_t pages)
{
	if (pages > pool->page_count - pool->promised)
		return false;
	pool->promised += pages;
	return true;
}

void tokens_release(struct token_pool *pool, uint32_t pages)
{
	assert(pool->promised >= pages && pool->promised - pages >= pool->used);
	pool->promised -= pages;
}

static uint32_t take(struct token_pool *pool)
{
	assert(pool->used < pool->promised);
	pool->used++;
	uint32_t page = pool->free;
	if (page == PAGE_NONE)
		page = pool->fresh++;
	else
		pool->free = pool->next[page];
	pool->next[page] = PAGE_NONE;
	return page;
}

void tokens_append(struct token_pool *pool, struct token_run *run, const uint32_t *words, uint32_t count)
{
	while (count) {
		uint32_t at = run->count % TOKENS_PAGE;
		if (at == 0) {
			uint32_t page = take(pool);
			if (run->count)
				pool->next[run->last] = page;
			else
				run->first = page;
			run->last = page;
		}
		uint32_t n = count < TOKENS_PAGE - at ? count : TOKENS_PAGE - at;
		memcpy(pool->words + (size_t)run->last * TOKENS_PAGE + at, words, n * sizeof(*words));
		run->count += n;
		words += n;
		count -= n;
	}
}

void tokens_copy(const struct token_pool *pool, const struct token_run *run, uint32_t *out)
{
	uint32_t page = run->first;
	for (uint32_t done = 0; done < run->count; done += TOKENS_PAGE) {
		uint32_t n = run->count - done < TOKENS_PAGE ? run->count - done : TOKENS_PAGE;
		memcpy(out + done, pool->words + (size_t)page * TOKENS_PAGE, n * sizeof(*out));
		page = pool->next[page];
	}
}

void tokens_free(struct token_pool *pool, struct token_run *run)
{
	if (run->count) {
		pool->next[run->last] = pool->free;
		pool->free = run->first;
		pool->used -= tokens_pages(run->count);
	}
	*run = (struct token_run){0};
}
