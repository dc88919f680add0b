#include "kvstore/tenants.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"
#include "base/planted.h"

static uint64_t hash_of(const char *name)
{
	return hash_xxh3(name, strlen(name), 0);
}

static uint32_t add(struct tenants *t, const char *name, uint64_t quota_bytes)
{
	assert(t->count < TENANTS_MAX && strlen(name) <= TENANT_NAME_MAX);
	struct tenant *tenant = &t->list[t->count];
	*tenant = (struct tenant){.hash = hash_of(name), .quota_bytes = quota_bytes};
	strcpy(tenant->name, name);
	return t->count++;
}

void tenants_init(struct tenants *t, const struct tenant_quota *quotas, uint32_t quota_count)
{
	assert(quota_count <= TENANT_QUOTAS_MAX);
	t->count = 0;
	t->default_bytes = TENANT_NO_QUOTA;
	for (uint32_t i = 0; i < quota_count; i++)
		if (strcmp(quotas[i].name, "*") == 0)
			t->default_bytes = quotas[i].bytes;
	for (uint32_t i = 0; i < quota_count; i++)
		if (strcmp(quotas[i].name, "*") != 0 && tenants_find(t, quotas[i].name) == UINT32_MAX)
			add(t, quotas[i].name, quotas[i].bytes);
}

uint32_t tenants_find(const struct tenants *t, const char *name)
{
	uint64_t hash = hash_of(name);
	for (uint32_t i = 0; i < t->count; i++)
		if (t->list[i].hash == hash && strcmp(t->list[i].name, name) == 0)
			return i;
	return UINT32_MAX;
}

uint32_t tenants_account(struct tenants *t, const char *name)
{
	uint32_t account = tenants_find(t, name);
	if (account != UINT32_MAX)
		return account;
	if (t->count == TENANTS_MAX)
		return TENANTS_MAX - 1;
	return add(t, t->count == TENANTS_MAX - 1 ? "other" : name, t->default_bytes);
}

bool tenants_room(const struct tenants *t, uint32_t account, uint64_t bytes)
{
	const struct tenant *tenant = &t->list[account];
	if (planted(QUOTA_NOT_CHECKED))
		return true;
	return bytes <= tenant->quota_bytes && tenant->bytes <= tenant->quota_bytes - bytes;
}

void tenants_charge(struct tenants *t, uint32_t account, uint64_t bytes)
{
	t->list[account].bytes += bytes;
	t->list[account].blocks++;
}

void tenants_give_back(struct tenants *t, uint32_t account, uint64_t bytes)
{
	struct tenant *tenant = &t->list[account];
	assert(tenant->bytes >= bytes && tenant->blocks > 0);
	tenant->bytes -= bytes;
	tenant->blocks--;
}
