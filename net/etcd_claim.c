#include "net/etcd_claim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/claim.h"
#include "net/etcd.h"

enum { VALUE_BYTES = ETCD_CLAIM_VALUE_BYTES };

struct etcd_claim {
	struct etcd *etcd;
	struct claim claim;
	uint64_t life;
	char *key, *guard_key;
	int64_t guard_revision;
	int64_t read_revision; /* mod revision of what was judged; 0: there was nothing */
	uint64_t number;       /* being written */
	uint64_t call;
	uint32_t tries;
	etcd_claim_fn *done;
	void *arg;
};

static void claim_free(struct etcd_claim *c)
{
	free(c->key);
	free(c->guard_key);
	free(c);
}

static void finish(struct etcd_claim *c, enum err e, const char *text, uint64_t number)
{
	etcd_claim_fn *done = c->done;
	void *arg = c->arg;
	claim_free(c);
	done(arg, e, text, number);
}

/* What is no number counts as nothing, and is written over. */
static void take_stored(struct etcd_claim *c, const struct etcd_kv *kv)
{
	char text[VALUE_BYTES] = "", rest;
	unsigned long long number, life;
	c->claim.stored = 0;
	c->claim.mine = false;
	if (!kv || kv->value_length >= sizeof(text))
		return;
	memcpy(text, kv->value, kv->value_length);
	if (sscanf(text, "%llu %llx%c", &number, &life, &rest) != 2)
		return;
	c->claim.stored = number;
	c->claim.mine = life == c->life;
}

void etcd_claim_value(uint64_t number, uint64_t life, char ret_value[ETCD_CLAIM_VALUE_BYTES])
{
	snprintf(ret_value, ETCD_CLAIM_VALUE_BYTES, "%llu %016llx", (unsigned long long)number, (unsigned long long)life);
}

static void read_number(struct etcd_claim *c);

static void on_written(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply, void *arg)
{
	(void)etcd;
	struct etcd_claim *c = arg;
	if (e == ERR_CANCELED)
		return;
	c->call = 0;
	if (e != ERR_OK) {
		finish(c, e, text, 0);
		return;
	}
	if (reply->succeeded) {
		finish(c, ERR_OK, "", c->number);
		return;
	}
	if (++c->tries >= ETCD_CLAIM_TRIES)
		finish(c, ERR_AGAIN, "others write the same key all the time", 0);
	else
		read_number(c);
}

static void write_number(struct etcd_claim *c)
{
	char value[VALUE_BYTES];
	etcd_claim_value(c->number, c->life, value);
	struct etcd_compare compares[2] = {
		{.key = c->key, .target = ETCD_MOD_REVISION, .relation = ETCD_EQUAL, .number = c->read_revision},
		{.key = c->guard_key, .target = ETCD_CREATE_REVISION, .relation = ETCD_EQUAL, .number = c->guard_revision},
	};
	struct etcd_op put = {.kind = ETCD_OP_PUT, .key = c->key, .value = value, .value_length = strlen(value)};
	struct etcd_txn txn = {.compares = compares, .compare_count = c->guard_key ? 2 : 1, .then_ops = &put, .then_count = 1};
	c->call = etcd_txn(c->etcd, &txn, on_written, c);
}

static void on_read(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply, void *arg)
{
	(void)etcd;
	struct etcd_claim *c = arg;
	if (e == ERR_CANCELED)
		return;
	c->call = 0;
	if (e != ERR_OK) {
		finish(c, e, text, 0);
		return;
	}
	if (!reply->succeeded) {
		finish(c, ERR_STALE, "the candidacy is over", 0);
		return;
	}
	c->read_revision = reply->kv_count ? reply->kvs[0].mod_revision : 0;
	take_stored(c, reply->kv_count ? &reply->kvs[0] : NULL);
	switch (claim_judge(&c->claim, &c->number)) {
	case CLAIM_TAKE:
		write_number(c);
		break;
	case CLAIM_HELD:
		finish(c, ERR_OK, "", c->number);
		break;
	case CLAIM_LOST:
		finish(c, ERR_STALE, "etcd has a higher number", c->number);
		break;
	}
}

/* Guard and number are looked at in one transaction.  Even a stale answer does no harm: the write compares. */
static void read_number(struct etcd_claim *c)
{
	struct etcd_compare guard = {.key = c->guard_key, .target = ETCD_CREATE_REVISION, .relation = ETCD_EQUAL,
				     .number = c->guard_revision};
	struct etcd_op get = {.kind = ETCD_OP_GET, .key = c->key};
	struct etcd_txn txn = {.compares = &guard, .compare_count = c->guard_key ? 1 : 0, .then_ops = &get, .then_count = 1};
	c->call = etcd_txn(c->etcd, &txn, on_read, c);
}

enum err etcd_claim_start(struct etcd *etcd, const struct etcd_claim_options *options, etcd_claim_fn *done, void *arg,
			  struct etcd_claim **ret_claim)
{
	struct etcd_claim *c = calloc(1, sizeof(*c));
	if (!c)
		return ERR_NOMEM;
	*c = (struct etcd_claim){
		.etcd = etcd,
		.claim = {.own = options->own, .beaten = options->beaten, .wall_ns = options->wall_ns},
		.life = options->life,
		.key = strdup(options->key),
		.guard_key = options->guard_key ? strdup(options->guard_key) : NULL,
		.guard_revision = options->guard_revision,
		.done = done,
		.arg = arg,
	};
	if (!c->key || (options->guard_key && !c->guard_key)) {
		claim_free(c);
		return ERR_NOMEM;
	}
	read_number(c);
	*ret_claim = c;
	return ERR_OK;
}

void etcd_claim_cancel(struct etcd_claim *c)
{
	if (!c)
		return;
	uint64_t call = c->call;
	c->call = 0;
	if (call)
		etcd_cancel(c->etcd, call); /* its callback runs, with CANCELED, and touches nothing */
	claim_free(c);
}
