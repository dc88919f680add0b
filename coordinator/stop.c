#include "coordinator/stop.h"

#include <string.h>

void stopper_init(struct stopper *stopper, const struct stop_set *set)
{
	*stopper = (struct stopper){.set = set};
}

void stopper_fini(struct stopper *stopper)
{
	buf_fini(&stopper->held);
}

/* The earliest whole stop string at or after `from`. */
static int find(const struct stop_set *set, const char *text, size_t length, size_t from, size_t *ret_at)
{
	int match = STOP_NONE;
	size_t best = length;
	for (uint32_t i = 0; i < set->count; i++) {
		const char *at = memmem(text + from, length - from, set->text[i], set->length[i]);
		if (!at || (size_t)(at - text) >= best)
			continue;
		best = (size_t)(at - text);
		match = (int)i;
	}
	*ret_at = best;
	return match;
}

/* Where the longest end of the text begins that a stop string begins with; the length of the text when none does. */
static size_t first_doubt(const struct stop_set *set, const char *text, size_t length, size_t from)
{
	size_t doubt = length;
	for (uint32_t i = 0; i < set->count; i++) {
		size_t longest = set->length[i] - 1;
		size_t at = length - from > longest ? length - longest : from;
		for (; at < doubt; at++)
			if (memcmp(text + at, set->text[i], length - at) == 0)
				doubt = at;
	}
	return doubt;
}

static enum err release(struct stopper *stopper, size_t count, struct buf *out)
{
	struct buf *held = &stopper->held;
	enum err e = buf_append(out, held->data, count);
	if (e != ERR_OK)
		return e;
	memmove(held->data, held->data + count, held->length - count);
	held->length -= count;
	stopper->exempt -= stopper->exempt < count ? stopper->exempt : count;
	return ERR_OK;
}

enum err stopper_feed(struct stopper *stopper, const char *text, size_t length, bool exempt, struct buf *out,
		      int *ret_match)
{
	struct buf *held = &stopper->held;
	*ret_match = STOP_NONE;
	if (stopper->set->count == 0)
		return buf_append(out, text, length);
	enum err e = buf_append(held, text, length);
	if (e != ERR_OK || held->length == 0)
		return e;
	if (exempt)
		stopper->exempt = held->length;
	size_t at;
	int match = find(stopper->set, held->data, held->length, stopper->exempt, &at);
	if (match == STOP_NONE)
		return release(stopper, first_doubt(stopper->set, held->data, held->length, stopper->exempt), out);
	*ret_match = match;
	e = release(stopper, at + (stopper->set->include ? stopper->set->length[match] : 0), out);
	buf_clear(held);
	return e;
}

enum err stopper_finish(struct stopper *stopper, struct buf *out)
{
	return stopper->held.length ? release(stopper, stopper->held.length, out) : ERR_OK;
}
