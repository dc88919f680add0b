#include "coordinator/quota.h"

#include <assert.h>
#include <string.h>

#define MINUTE_NS 60e9

static void fill(struct quota_bucket *bucket, uint64_t now_ns)
{
	double more = (double)(now_ns - bucket->at_ns) / MINUTE_NS * bucket->limit;
	bucket->left = bucket->left + more < bucket->limit ? bucket->left + more : bucket->limit;
	bucket->at_ns = now_ns;
}

/* A limit that changes leaves what was used used. */
static void set_limit(struct quota_bucket *bucket, uint32_t limit, uint64_t now_ns)
{
	fill(bucket, now_ns);
	bucket->left += (double)limit - bucket->limit;
	bucket->limit = limit;
}

static bool is_forgettable(struct quota_account *account, uint64_t now_ns)
{
	fill(&account->requests, now_ns);
	fill(&account->tokens, now_ns);
	return !account->open && account->requests.left >= account->requests.limit &&
	       account->tokens.left >= account->tokens.limit;
}

/* The last place is for all that find no other. */
static uint32_t place_for_new(struct quota *quota, uint64_t now_ns)
{
	if (quota->count < QUOTA_ACCOUNTS_MAX - 1)
		return quota->count++;
	for (uint32_t i = 0; i < QUOTA_ACCOUNTS_MAX - 1; i++)
		if (is_forgettable(&quota->accounts[i], now_ns))
			return i;
	return QUOTA_ACCOUNTS_MAX - 1;
}

uint32_t quota_account(struct quota *quota, const char *name, const struct quota_limits *limits, uint64_t now_ns)
{
	assert(strnlen(name, QUOTA_NAME_MAX + 1) <= QUOTA_NAME_MAX);
	uint32_t i = 0;
	while (i < quota->count && strcmp(quota->accounts[i].name, name) != 0)
		i++;
	if (i == quota->count) {
		i = place_for_new(quota, now_ns);
		struct quota_account *account = &quota->accounts[i];
		if (i < QUOTA_ACCOUNTS_MAX - 1 || !account->used) {
			*account = (struct quota_account){.used = true, .requests.at_ns = now_ns, .tokens.at_ns = now_ns};
			strcpy(account->name, i < QUOTA_ACCOUNTS_MAX - 1 ? name : "other");
		}
	}
	set_limit(&quota->accounts[i].requests, limits->requests_per_minute, now_ns);
	set_limit(&quota->accounts[i].tokens, limits->tokens_per_minute, now_ns);
	return i;
}

static enum err take(struct quota_bucket *bucket, uint64_t amount, uint64_t now_ns, uint64_t *ret_retry_after_ns)
{
	*ret_retry_after_ns = 0;
	if (!bucket->limit)
		return ERR_OK;
	if (amount > bucket->limit)
		return ERR_TOO_LARGE;
	fill(bucket, now_ns);
	if ((double)amount <= bucket->left) {
		bucket->left -= (double)amount;
		return ERR_OK;
	}
	*ret_retry_after_ns = 1 + (uint64_t)(((double)amount - bucket->left) / bucket->limit * MINUTE_NS);
	return ERR_AGAIN;
}

enum err quota_take_request(struct quota *quota, uint32_t account, uint64_t now_ns, uint64_t *ret_retry_after_ns)
{
	struct quota_account *a = &quota->accounts[account];
	enum err e = take(&a->requests, 1, now_ns, ret_retry_after_ns);
	a->use.requests++;
	a->use.refused += e != ERR_OK;
	return e;
}

enum err quota_take_tokens(struct quota *quota, uint32_t account, uint64_t tokens, uint64_t now_ns,
			   uint64_t *ret_retry_after_ns)
{
	struct quota_account *a = &quota->accounts[account];
	enum err e = take(&a->tokens, tokens, now_ns, ret_retry_after_ns);
	a->use.refused += e != ERR_OK;
	a->open += e == ERR_OK;
	return e;
}

void quota_settle(struct quota *quota, uint32_t account, uint64_t taken, uint64_t used, uint64_t now_ns)
{
	struct quota_account *a = &quota->accounts[account];
	assert(a->open > 0);
	a->open--;
	if (!a->tokens.limit)
		return;
	fill(&a->tokens, now_ns);
	a->tokens.left += (double)taken - (double)used;
	if (a->tokens.left > a->tokens.limit)
		a->tokens.left = a->tokens.limit;
}

void quota_show(struct quota_bucket *bucket, uint64_t now_ns, uint32_t *ret_left, uint64_t *ret_full_in_ns)
{
	fill(bucket, now_ns);
	*ret_left = bucket->left > 0 ? (uint32_t)bucket->left : 0;
	*ret_full_in_ns = bucket->limit ? (uint64_t)((bucket->limit - bucket->left) / bucket->limit * MINUTE_NS) : 0;
}
