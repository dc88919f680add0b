#include "tests/sim/promises.h"

#include <assert.h>
#include <stdlib.h>

#include "proto/job.h"
#include "tests/sim/cluster_impl.h"

enum { LINES_MAX = 2048 };

/* Under which agreement a place was told: a transfer by its job, a look-up or an offer by its op. */
enum agreement_kind { TRANSFER, LOOKUP, OFFER };

struct agreement {
	enum agreement_kind kind;
	struct job_key job;
	uint32_t asker; /* whose op */
	uint64_t op;
};

struct line {
	uint64_t offset, generation;
	uint32_t region, bytes; /* of the whole block there */
	uint32_t peer;
	uint32_t connection; /* it ends with that */
	bool open_only; /* no place: says that the reader still wants to hear of them */
	struct agreement agreement;
};

struct book {
	uint32_t count;
	struct line lines[LINES_MAX];
};

struct promises {
	struct cluster *cluster;
	struct book owners[MEMBERS_MAX];  /* promises, by the owner */
	struct book readers[MEMBERS_MAX]; /* permits, by the reader */
};

struct promises *promises_create(struct cluster *cluster)
{
	struct promises *p = calloc(1, sizeof(*p));
	assert(p);
	p->cluster = cluster;
	return p;
}

void promises_destroy(struct promises *p)
{
	free(p);
}

/* ---- the books */

static bool same(const struct agreement *a, const struct agreement *b)
{
	if (a->kind != b->kind)
		return false;
	return a->kind == TRANSFER ? job_key_equal(&a->job, &b->job) : a->op == b->op && a->asker == b->asker;
}

static void book_add(struct book *book, const struct line *line)
{
	for (uint32_t i = 0; i < book->count; i++) {
		struct line *l = &book->lines[i];
		if (l->offset == line->offset && l->generation == line->generation && l->peer == line->peer &&
		    l->region == line->region && l->open_only == line->open_only && same(&l->agreement, &line->agreement)) {
			l->connection = line->connection;
			return; /* each layer is announced by itself */
		}
	}
	assert(book->count < LINES_MAX);
	book->lines[book->count++] = *line;
}

/* Strikes what there is with the peer of that agreement; NULL: of that connection. */
static void book_strike(struct book *book, uint32_t peer, const struct agreement *agreement, uint32_t connection)
{
	for (uint32_t i = 0; i < book->count;) {
		const struct line *l = &book->lines[i];
		if (l->peer == peer && (agreement ? same(&l->agreement, agreement) : l->connection == connection))
			book->lines[i] = book->lines[--book->count];
		else
			i++;
	}
}

static bool is_open(const struct book *book, uint32_t peer, const struct agreement *agreement)
{
	for (uint32_t i = 0; i < book->count; i++) {
		const struct line *l = &book->lines[i];
		if (l->open_only && l->peer == peer && same(&l->agreement, agreement))
			return true;
	}
	return false;
}

/* ---- promises */

static void check_line(struct cluster *c, uint32_t node, const struct line *l)
{
	uint64_t generation = 0;
	const uint8_t *bytes = member_ops.memory(&c->members[node], l->region, l->offset, 1, &generation);
	if (!bytes || generation != l->generation)
		cluster_fail(c, "I7: %s promised %s region %u offset %llu of generation %llu, and %s", c->members[node].name,
			     c->members[l->peer].name, l->region, (unsigned long long)l->offset,
			     (unsigned long long)l->generation, bytes ? "gave it away" : "took the region away");
}

void promises_check(struct promises *p, uint32_t node)
{
	for (uint32_t i = 0; i < p->owners[node].count; i++)
		check_line(p->cluster, node, &p->owners[node].lines[i]);
}

static struct agreement by_job(const Wire__JobId *job)
{
	return (struct agreement){.kind = TRANSFER, .job = job_key_of(job)};
}

static struct agreement by_op(enum agreement_kind kind, uint32_t asker, uint64_t op)
{
	return (struct agreement){.kind = kind, .asker = asker, .op = op};
}

static void add_place(struct promises *p, struct book *book, uint32_t peer, const struct agreement *agreement,
		      const Wire__Place *place, uint32_t bytes)
{
	struct line line = {.offset = place->offset, .generation = place->generation, .region = place->region, .bytes = bytes,
			    .peer = peer, .connection = sim_connection(p->cluster->sim), .agreement = *agreement};
	book_add(book, &line);
}

/* Of a block with a digest for each of its layers: the group whose blocks have so many. */
static uint32_t bytes_of(const struct promises *p, size_t digest_count)
{
	enum toy_kind kind = p->cluster->options.kind;
	for (uint32_t g = 0; g < toy_group_count(kind); g++)
		if (toy_block_bytes(kind, g) == digest_count * TOY_LAYER_BYTES)
			return toy_block_bytes(kind, g);
	cluster_fail(p->cluster, "I7: a block of %zu layers is said to be somewhere, and no layer group has so many", digest_count);
}

static void add_places(struct promises *p, struct book *book, uint32_t peer, const struct agreement *agreement,
		       const Wire__Envelope *e)
{
	if (e->body_case == WIRE__ENVELOPE__BODY_ANNOUNCE)
		for (size_t i = 0; i < e->announce->n_places; i++)
			add_place(p, book, peer, agreement, e->announce->places[i],
				  toy_block_bytes(p->cluster->options.kind, e->announce->layer_group));
	else if (e->body_case == WIRE__ENVELOPE__BODY_FOUND)
		for (size_t i = 0; i < e->found->n_blocks; i++)
			add_place(p, book, peer, agreement, e->found->blocks[i]->place, bytes_of(p, e->found->blocks[i]->n_digests));
	else if (e->body_case == WIRE__ENVELOPE__BODY_OFFER)
		add_place(p, book, peer, agreement, e->offer->place, bytes_of(p, e->offer->n_digests));
}

static void open(struct promises *p, uint32_t reader, uint32_t owner, const struct agreement *agreement)
{
	struct line line = {.peer = owner, .connection = sim_connection(p->cluster->sim),
			    .agreement = *agreement, .open_only = true};
	book_add(&p->readers[reader], &line);
}

/* The agreement is over between the two, by one's word to the other: the one who says it is bound at once. */
static void over(struct promises *p, uint32_t node, uint32_t peer, const struct agreement *agreement)
{
	for (uint32_t i = 0; i < p->owners[node].count; i++) {
		const struct line *l = &p->owners[node].lines[i];
		if (l->peer == peer && same(&l->agreement, agreement))
			check_line(p->cluster, node, l);
	}
	book_strike(&p->owners[node], peer, agreement, 0);
	book_strike(&p->readers[node], peer, agreement, 0);
}

void promises_sent(struct promises *p, uint32_t from, uint32_t to, const Wire__Envelope *e)
{
	struct agreement a;
	switch (e->body_case) {
	case WIRE__ENVELOPE__BODY_ATTACH:
		a = by_job(e->attach->job);
		open(p, from, to, &a);
		break;
	case WIRE__ENVELOPE__BODY_LOOKUP:
		a = by_op(LOOKUP, from, e->lookup->op);
		open(p, from, to, &a);
		break;
	case WIRE__ENVELOPE__BODY_ANNOUNCE:
		a = by_job(e->announce->job);
		add_places(p, &p->owners[from], to, &a, e);
		break;
	case WIRE__ENVELOPE__BODY_FOUND:
		a = by_op(LOOKUP, to, e->found->op);
		add_places(p, &p->owners[from], to, &a, e);
		break;
	case WIRE__ENVELOPE__BODY_OFFER:
		a = by_op(OFFER, from, e->offer->op);
		add_places(p, &p->owners[from], to, &a, e);
		break;
	case WIRE__ENVELOPE__BODY_TRANSFER_END:
		a = by_job(e->transfer_end->job);
		over(p, from, to, &a);
		break;
	case WIRE__ENVELOPE__BODY_RELEASE:
		a = by_op(LOOKUP, from, e->release->op);
		over(p, from, to, &a);
		break;
	case WIRE__ENVELOPE__BODY_OFFER_DONE:
		a = by_op(OFFER, to, e->offer_done->op);
		over(p, from, to, &a);
		break;
	default:
		break;
	}
}

/* A look-up's answer is good once; what comes again for it is void. */
static void hear_found(struct promises *p, uint32_t from, uint32_t to, const Wire__Envelope *e)
{
	struct agreement a = by_op(LOOKUP, to, e->found->op);
	if (is_open(&p->readers[to], from, &a))
		add_places(p, &p->readers[to], from, &a, e);
}

void promises_heard(struct promises *p, uint32_t from, uint32_t to, const Wire__Envelope *e)
{
	struct agreement a;
	switch (e->body_case) {
	case WIRE__ENVELOPE__BODY_ANNOUNCE:
		a = by_job(e->announce->job);
		if (is_open(&p->readers[to], from, &a))
			add_places(p, &p->readers[to], from, &a, e);
		break;
	case WIRE__ENVELOPE__BODY_FOUND:
		hear_found(p, from, to, e);
		break;
	case WIRE__ENVELOPE__BODY_OFFER:
		a = by_op(OFFER, from, e->offer->op);
		add_places(p, &p->readers[to], from, &a, e);
		break;
	case WIRE__ENVELOPE__BODY_LOOKUP: /* asked anew: the answer before is void */
		a = by_op(LOOKUP, from, e->lookup->op);
		over(p, to, from, &a);
		break;
	case WIRE__ENVELOPE__BODY_TRANSFER_END:
		a = by_job(e->transfer_end->job);
		over(p, to, from, &a);
		break;
	case WIRE__ENVELOPE__BODY_RELEASE:
		a = by_op(LOOKUP, from, e->release->op);
		over(p, to, from, &a);
		break;
	case WIRE__ENVELOPE__BODY_OFFER_DONE:
		a = by_op(OFFER, to, e->offer_done->op);
		over(p, to, from, &a);
		break;
	default:
		break;
	}
}

void promises_parted(struct promises *p, uint32_t node, uint32_t peer)
{
	book_strike(&p->owners[node], peer, NULL, sim_connection(p->cluster->sim));
	book_strike(&p->readers[node], peer, NULL, sim_connection(p->cluster->sim));
}

void promises_died(struct promises *p, uint32_t node)
{
	p->owners[node].count = p->readers[node].count = 0;
}

/* ---- permits */

void promises_reading(struct promises *p, uint32_t reader, uint32_t owner, const struct env_read *read)
{
	const struct book *book = &p->readers[reader];
	for (uint32_t i = 0; i < book->count; i++) {
		const struct line *l = &book->lines[i];
		bool within = read->offset >= l->offset && read->offset + read->length <= l->offset + l->bytes;
		if (within && !l->open_only && l->peer == owner && l->region == read->region &&
		    l->generation == read->generation)
			return;
	}
	cluster_fail(p->cluster, "I7: %s reads region %u offset %llu generation %llu of %s, of which it was not told or is through",
		     p->cluster->members[reader].name, read->region, (unsigned long long)read->offset,
		     (unsigned long long)read->generation, p->cluster->members[owner].name);
}
