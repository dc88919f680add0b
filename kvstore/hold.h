/* hold - answers Lookup from an engine node's own pool, and keeps what it found until Release.  Pure.
 *
 * Law 3: what is held hangs off the asker's session; its end frees everything at once.
 * Memory: the caller's.  Loop: the node's.  Bounds: hold_max blocks of each layer group; a Lookup finds no more than there
 * is room. */
#ifndef KVSTORE_HOLD_H
#define KVSTORE_HOLD_H
#include "kvstore/local.h"

struct kv_hold;

size_t kv_hold_bytes(const struct kv_local *local);
struct kv_hold *kv_hold_init(void *memory, struct kv_local *local);
void kv_hold_lookup(struct kv_hold *hold, uint32_t peer, const Wire__Lookup *lookup);
void kv_hold_release(struct kv_hold *hold, uint32_t peer, uint64_t op);
void kv_hold_peer_down(struct kv_hold *hold, uint32_t peer);
uint32_t kv_hold_count(const struct kv_hold *hold);
#endif
