/* Shared memory as the asynchronous proxy sees it: wgmma and the copy engine go by another way than loads and stores, and what was
 * stored or came by cp.async is there only after simt_fence_async() in the thread that wrote it.
 *
 * Of cp.async each 16 bytes are known to be a thread's until it fences.  Ordinary stores of a fiber cannot be seen: a piece that wgmma
 * finds changed must have seen a fence, since wgmma last found it so, of some thread that had no cp.async to fence. */
#include <string.h>
#include <algorithm>
#include "tests/gpu/fake/simt_block.h"

#define PIECE  16u
#define PIECES (SHARED_STRIDE / PIECE)

struct simt_proxy {
	uint8_t seen[SHARED_STRIDE];   /* as it was found, or landed */
	uint32_t fences;	       /* of threads without copies of their own */
	uint32_t fences_then[PIECES];  /* when the piece was found changed */
	uint16_t copied_by[PIECES];    /* the thread that has not fenced its copy, and 1; 0: none */
	uint16_t reading[PIECES];      /* by so many products that are not over */
	bool sent[PIECES];	       /* by another block, and no product has read it */
};

static struct simt_proxy proxies[CLUSTER_MAX];

static bool is_in(const simt_block *block, const void *at)
{
	const uint8_t *byte = static_cast<const uint8_t *>(at);
	return byte >= block->shared && byte < block->shared + SHARED_STRIDE;
}

static int block_rank(const simt_block *block)
{
	return (int)(block - simt_group.blocks);
}

void simt_proxy_begin(simt_block *block, uint32_t rank, size_t shared_bytes)
{
	struct simt_proxy *proxy = block->proxy = &proxies[rank];
	size_t end = SHARED_RESERVED + shared_bytes, pieces = (end + PIECE - 1) / PIECE;
	memset(proxy->seen + SHARED_RESERVED, 0xff, shared_bytes);
	memset(proxy->fences_then, 0, pieces * sizeof(proxy->fences_then[0]));
	memset(proxy->copied_by, 0, pieces * sizeof(proxy->copied_by[0]));
	memset(proxy->reading, 0, pieces * sizeof(proxy->reading[0]));
	memset(proxy->sent, 0, pieces * sizeof(proxy->sent[0]));
	proxy->fences = 0;
}

void simt_proxy_landed(simt_block *block, const void *at)
{
	if (!is_in(block, at))
		return;
	size_t offset = (size_t)(static_cast<const uint8_t *>(at) - block->shared);
	memcpy(block->proxy->seen + offset, at, PIECE);
	block->proxy->copied_by[offset / PIECE] = 0;
}

void simt_proxy_fill(simt_block *block, const void *at)
{
	if (!is_in(block, at))
		return;
	size_t offset = (size_t)(static_cast<const uint8_t *>(at) - block->shared);
	if (block->proxy->reading[offset / PIECE] > 0)
		simt_fault("a copy to shared memory at %zu of block %d of the cluster, which wgmma still reads", offset, block_rank(block));
	if (block->proxy->sent[offset / PIECE])
		simt_fault("a copy to shared memory at %zu of block %d of the cluster, where nobody has read what another block sent", offset,
			   block_rank(block));
}

void simt_proxy_sent(simt_block *block, const void *at)
{
	if (is_in(block, at))
		block->proxy->sent[(size_t)(static_cast<const uint8_t *>(at) - block->shared) / PIECE] = true;
}

void simt_proxy_copied(simt_thread *thread, const void *at)
{
	simt_block *block = thread->block_of;
	if (!is_in(block, at))
		return;
	uint32_t piece = (uint32_t)(static_cast<const uint8_t *>(at) - block->shared) / PIECE;
	simt_proxy_landed(block, at);
	block->proxy->copied_by[piece] = (uint16_t)(thread->index + 1);
	thread->unfenced.push_back(piece);
}

void simt_fence_async()
{
	simt_thread *self = simt_self();
	struct simt_proxy *proxy = self->block_of->proxy;
	proxy->fences += self->unfenced.empty();
	for (uint32_t piece : self->unfenced)
		if (proxy->copied_by[piece] == self->index + 1)
			proxy->copied_by[piece] = 0;
	self->unfenced.clear();
}

void simt_proxy_read(uint32_t address)
{
	simt_block *block = simt_self()->block_of;
	struct simt_proxy *proxy = block->proxy;
	uint32_t at = address / PIECE * PIECE, piece = address / PIECE;
	proxy->reading[piece]++;
	proxy->sent[piece] = false;
	if (proxy->copied_by[piece] != 0)
		simt_fault("wgmma reads shared memory at %u, which thread %u copied there and did not fence", at, proxy->copied_by[piece] - 1u);
	if (memcmp(proxy->seen + at, block->shared + at, PIECE) == 0)
		return;
	if (proxy->fences == proxy->fences_then[piece])
		simt_fault("wgmma reads shared memory at %u, where stores were not fenced", at);
	memcpy(proxy->seen + at, block->shared + at, PIECE);
	proxy->fences_then[piece] = proxy->fences;
}

void simt_proxy_read_over(uint32_t address)
{
	simt_self()->block_of->proxy->reading[address / PIECE]--;
}
