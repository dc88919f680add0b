#include "kvstore/hot.h"

uint32_t hot_more(const struct hot *hot, const struct id128 *key)
{
	const struct hot_key *at = &hot->keys[id128_hash(key) % HOT_KEYS];
	return id128_equal(&at->key, key) ? at->more : 0;
}

void hot_note(struct hot *hot, const struct id128 *key, uint32_t more)
{
	struct hot_key *at = &hot->keys[id128_hash(key) % HOT_KEYS];
	if (more > 0)
		*at = (struct hot_key){*key, more, HOT_CREDIT};
	else if (id128_equal(&at->key, key) && at->more > 0 && --at->credit == 0)
		at->more = 0;
}
