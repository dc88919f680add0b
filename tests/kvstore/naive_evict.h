/* naive_evict - the rules of the eviction policies once more, as plain lists that are searched: what tests compare with. */
#ifndef TESTS_KVSTORE_NAIVE_EVICT_H
#define TESTS_KVSTORE_NAIVE_EVICT_H
#include "kvstore/evict.h"

/* In the order of evict_policies. */
extern const struct evict_policy *const naive_policies[EVICT_POLICIES];
#endif
