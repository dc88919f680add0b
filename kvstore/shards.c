#include "kvstore/shards.h"

#include <assert.h>
#include <stdbool.h>

/* Of `count` things that lie side by side over `parts` equal parts, those that part `index` touches. */
static struct kv_heads touched(uint32_t count, uint32_t parts, uint32_t index)
{
	uint64_t first = (uint64_t)index * count / parts;
	uint64_t end = ((uint64_t)(index + 1) * count + parts - 1) / parts;
	return (struct kv_heads){(uint32_t)first, (uint32_t)(end - first)};
}

static uint32_t end_of(struct kv_heads heads)
{
	return heads.first + heads.count;
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static bool same(struct kv_heads a, struct kv_heads b)
{
	return a.first == b.first && a.count == b.count;
}

struct kv_heads kv_shard_heads(uint32_t head_count, uint32_t degree, uint32_t rank)
{
	assert(head_count > 0 && degree > 0 && degree <= KV_DEGREE_MAX && rank < degree);
	return touched(head_count, degree, rank);
}

static struct kv_heads wanted_heads(const struct kv_shard_read *read)
{
	return kv_shard_heads(read->head_count, read->reader_degree, read->reader_rank);
}

/* Whom to ask for a run of the wanted heads that begins with `head`.  Ranks touch heads as heads touch ranks, so those that
 * hold it are one run of ranks, and the later begin and end later.  The last reaches furthest; those that reach no less far, as
 * far as the reader cares, are as good: except that with a rank of the very same heads all layers are one piece. */
static uint32_t source_of(const struct kv_shard_read *read, struct kv_heads wanted, uint32_t head)
{
	struct kv_heads holders = touched(read->source_degree, read->head_count, head);
	uint32_t first = end_of(holders) - 1, count = 0;
	uint32_t reach = least(end_of(kv_shard_heads(read->head_count, read->source_degree, first)), end_of(wanted));
	bool exact = false;
	for (uint32_t rank = end_of(holders); rank-- > holders.first;) {
		struct kv_heads held = kv_shard_heads(read->head_count, read->source_degree, rank);
		if (least(end_of(held), end_of(wanted)) < reach)
			break;
		bool this_exact = same(held, wanted);
		if (exact && !this_exact)
			break;
		count = exact == this_exact ? count + 1 : 1;
		exact = this_exact;
		first = rank;
	}
	return first + (uint32_t)(((uint64_t)read->reader_rank + read->turn) % count);
}

uint32_t kv_shard_pieces_max(const struct kv_shard_read *read)
{
	return read->layer_count * least(wanted_heads(read).count, read->source_degree);
}

/* Adds a piece, to the last one where it goes on there; its landing always does. */
static uint32_t add(struct kv_piece *pieces, uint32_t count, const struct kv_piece *piece)
{
	if (count > 0) {
		struct kv_piece *last = &pieces[count - 1];
		if (last->source_rank == piece->source_rank && last->source_offset + last->length == piece->source_offset) {
			last->length += piece->length;
			return count;
		}
	}
	pieces[count] = *piece;
	return count + 1;
}

uint32_t kv_shard_plan(const struct kv_shard_read *read, struct kv_piece *ret_pieces)
{
	struct kv_heads wanted = wanted_heads(read);
	uint32_t count = 0;
	for (uint32_t layer = read->layer_first; layer < read->layer_first + read->layer_count; layer++)
		for (uint32_t head = wanted.first, end; head < end_of(wanted); head = end) {
			uint32_t rank = source_of(read, wanted, head);
			struct kv_heads held = kv_shard_heads(read->head_count, read->source_degree, rank);
			end = least(end_of(held), end_of(wanted));
			struct kv_piece piece = {
				.source_rank = rank,
				.source_offset = ((uint64_t)layer * held.count + head - held.first) * read->head_bytes,
				.landing_offset = ((uint64_t)layer * wanted.count + head - wanted.first) * read->head_bytes,
				.length = (uint64_t)(end - head) * read->head_bytes,
			};
			count = add(ret_pieces, count, &piece);
		}
	return count;
}
