/* ghosts - hashes of the keys of what went, in the order of going.  Pure.
 *
 * Several lists share one pool.  A hash is in at most one list; a list that is over its limit forgets its oldest, and
 * where the pool is used up the longest list does.  Nothing but the lists is touched before it is used.
 *
 * Memory: the caller's, zeroed, 16-byte aligned.  Loop: the policy's.  Bounds: ghost_max hashes, list_max lists; O(1) expected, put
 * O(list_max) while the pool is used up. */
#ifndef KVSTORE_GHOSTS_H
#define KVSTORE_GHOSTS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ghosts;

size_t ghosts_bytes(uint32_t ghost_max, uint32_t list_max);
struct ghosts *ghosts_init(void *memory, uint32_t ghost_max, uint32_t list_max);
/* The newest of its list, which then keeps its `limit` newest. */
void ghosts_put(struct ghosts *ghosts, uint32_t list, uint64_t hash, uint32_t limit);
/* Forgets the hash.  False: it was in no list.  ret_age: how many came into its list after it. */
bool ghosts_take(struct ghosts *ghosts, uint64_t hash, uint32_t *ret_list, uint64_t *ret_age);
uint32_t ghosts_count(const struct ghosts *ghosts, uint32_t list);
#endif
