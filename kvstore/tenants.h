/* tenants - what each tenant has in a store, what it may have, and how often it found what it asked for.  Pure.
 *
 * A tenant is known by its name: that of the keys file, of metrics and of logs, never the salt that is in its keys.  An
 * account is charged with the bytes of every slot that is taken for it, from the first byte that is written until the slot
 * is free again; so the accounts add up to what is taken, and none is ever over its quota.
 *
 * Owns:   its accounts.  Loop: the ledger's.
 * Bounds: TENANTS_MAX accounts; those with a quota are there from the start, others come with their first word and stay;
 *         when none is left, further names share the last one, "other". */
#ifndef KVSTORE_TENANTS_H
#define KVSTORE_TENANTS_H
#include <stdbool.h>
#include <stdint.h>

enum { TENANTS_MAX = 128, TENANT_NAME_MAX = 127, TENANT_QUOTAS_MAX = 64 };

#define TENANT_NO_QUOTA UINT64_MAX

/* name "": requests without a tenant; "*": each tenant that is not named. */
struct tenant_quota {
	char name[TENANT_NAME_MAX + 1];
	uint64_t bytes; /* 0: nothing may be kept */
};

/* Counters since the start. */
struct tenant_use {
	uint64_t keys_asked;
	uint64_t keys_found;
	uint64_t bytes_found; /* of the blocks found: what need not be computed */
	uint64_t refused;     /* offers, for its quota */
	uint64_t evicted;     /* blocks, for whatever reason */
};

struct tenant {
	char name[TENANT_NAME_MAX + 1];
	uint64_t hash;        /* of the name */
	uint64_t quota_bytes; /* TENANT_NO_QUOTA: none */
	uint64_t bytes;       /* charged */
	uint32_t blocks;      /* charged */
	struct tenant_use use;
};

struct tenants {
	uint64_t default_bytes; /* the quota of who comes later */
	uint32_t count;
	struct tenant list[TENANTS_MAX];
};

void tenants_init(struct tenants *tenants, const struct tenant_quota *quotas, uint32_t quota_count);
/* The account of that name (at most TENANT_NAME_MAX bytes): below TENANTS_MAX. */
uint32_t tenants_account(struct tenants *tenants, const char *name);
/* The account of that name, or UINT32_MAX: it has none of its own. */
uint32_t tenants_find(const struct tenants *tenants, const char *name);
/* May the account be charged with so many more? */
bool tenants_room(const struct tenants *tenants, uint32_t account, uint64_t bytes);
void tenants_charge(struct tenants *tenants, uint32_t account, uint64_t bytes);
void tenants_give_back(struct tenants *tenants, uint32_t account, uint64_t bytes);
#endif
