#include "engine/constraints.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/rng.h"
#include "engine/sequence.h"
#include "model/mask.h"
#include "model/structure.h"
#include "model/tokenizer.h"

enum { PROGRESS_SLOTS = 1024, DIGEST_BYTES = 32 };

struct constraint {
	uint8_t digest[DIGEST_BYTES]; /* of the text */
	struct grammar *grammar;
	struct mask_cache *masks;     /* the mask thread's, while a plan names it */
	uint32_t references;
	uint64_t used;                /* when: counts takes */
	size_t bytes;
};

/* How far a sequence's answer was read. */
struct progress {
	uint64_t serial; /* of the grammar */
	uint32_t read;   /* generated tokens */
	uint64_t digest; /* of them */
	bool ended;      /* an end-of-text token was among them */
	struct matcher_state state;
};

struct constraints {
	struct constraints_options options;
	struct token_trie *trie;
	struct constraint *all[CONSTRAINTS_MAX];
	uint32_t count;
	size_t bytes;
	uint64_t takes;

	/* The mask thread's. */
	struct mask_maker *maker;
	struct matcher *matcher;
	struct progress *progress;     /* [PROGRESS_SLOTS] by sequence */
	uint64_t *masks[PLAN_RUNS_MAX]; /* [words] of the run with that index; made when first wanted */
	size_t words;

	pthread_t thread;
	bool thread_started;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t turn, done;
	const struct plan *plan; /* NULL: nothing is being made */
	enum err error;
	bool stop;
};

/* ---- structures, on the loop */

static void destroy_constraint(struct constraint *constraint)
{
	mask_cache_destroy(constraint->masks);
	grammar_destroy(constraint->grammar);
	free(constraint);
}

static size_t bytes_of(const struct grammar *g)
{
	return g->node_count * (sizeof(*g->nodes) + sizeof(void *)) + g->edge_count * sizeof(*g->edges) +
	       g->call_count * sizeof(*g->calls) + g->rule_count * sizeof(*g->rules) + MASK_CACHE_BYTES_MAX;
}

/* The one in no use that was taken longest ago; count: none. */
static uint32_t oldest_idle(const struct constraints *c)
{
	uint32_t oldest = c->count;
	for (uint32_t i = 0; i < c->count; i++)
		if (c->all[i]->references == 0 && (oldest == c->count || c->all[i]->used < c->all[oldest]->used))
			oldest = i;
	return oldest;
}

static enum err make_room(struct constraints *c, size_t bytes, struct why *why)
{
	while (c->count == CONSTRAINTS_MAX || c->bytes + bytes > CONSTRAINTS_BYTES_MAX) {
		uint32_t idle = oldest_idle(c);
		if (idle == c->count)
			return why_set(why, ERR_AGAIN, "%u structures of %zu bytes are in use", c->count, c->bytes);
		c->bytes -= c->all[idle]->bytes;
		destroy_constraint(c->all[idle]);
		c->all[idle] = c->all[--c->count];
	}
	return ERR_OK;
}

static enum err compile(struct constraints *c, const char *structure, size_t length, struct why *why,
			struct constraint **ret_constraint)
{
	const struct structure_tokens tokens = {c->options.tokenizer, c->trie};
	struct constraint *made = calloc(1, sizeof(*made));
	if (!made)
		return ERR_NOMEM;
	enum err e = structure_compile(structure, length, &tokens, why, &made->grammar);
	if (e == ERR_OK)
		e = mask_cache_create(made->grammar, &made->masks);
	if (e == ERR_OK) {
		made->bytes = bytes_of(made->grammar);
		e = make_room(c, made->bytes, why);
	}
	if (e != ERR_OK) {
		destroy_constraint(made);
		return e;
	}
	c->bytes += made->bytes;
	c->all[c->count++] = made;
	*ret_constraint = made;
	return ERR_OK;
}

static enum err take(void *context, const char *structure, size_t length, struct why *why,
		     struct constraint **ret_constraint)
{
	struct constraints *c = context;
	struct constraint *found = NULL;
	struct sha256 sha;
	uint8_t digest[DIGEST_BYTES];
	sha256_init(&sha);
	sha256_add(&sha, structure, length);
	sha256_end(&sha, digest);
	for (uint32_t i = 0; i < c->count && !found; i++)
		if (memcmp(c->all[i]->digest, digest, DIGEST_BYTES) == 0)
			found = c->all[i];
	enum err e = found ? ERR_OK : compile(c, structure, length, why, &found);
	if (e != ERR_OK)
		return e;
	memcpy(found->digest, digest, DIGEST_BYTES);
	found->references++;
	found->used = c->takes++;
	*ret_constraint = found;
	return ERR_OK;
}

static void give(void *context, struct constraint *constraint)
{
	(void)context;
	assert(constraint->references > 0);
	constraint->references--;
}

struct constraint_hooks constraints_hooks(struct constraints *c)
{
	return (struct constraint_hooks){.context = c, .take = take, .give = give};
}

/* ---- masks, on their thread */

static bool is_eos(const struct constraints *c, uint32_t token)
{
	for (uint32_t i = 0; i < c->options.eos_count; i++)
		if (c->options.eos_ids[i] == token)
			return true;
	return false;
}

static void read_token(struct constraints *c, struct progress *progress, uint32_t token)
{
	const uint8_t *bytes;
	size_t length;
	uint8_t spelling[TOKEN_SPELLING];
	if (is_eos(c, token))
		progress->ended = true;
	if (progress->ended)
		return;
	if (token_trie_bytes(c->options.tokenizer, token, spelling, &bytes, &length) == ERR_OK &&
	    matcher_read(c->matcher, bytes, length))
		return;
	log_error("constraints: token %u does not go on with what was generated; the answer ends", token);
	progress->ended = true;
}

static struct progress *progress_of(struct constraints *c, const struct sequence *sequence)
{
	return &c->progress[rng_mix((uintptr_t)sequence) % PROGRESS_SLOTS];
}

/* Sets the matcher behind all that was generated. */
static enum err read_answer(struct constraints *c, const struct sequence *sequence, struct progress *p)
{
	const struct grammar *grammar = sequence->constraint->grammar;
	const uint32_t *generated = sequence->tokens + sequence->prompt_count;
	uint32_t count = sequence->token_count - sequence->prompt_count;
	bool goes_on = p->serial == grammar->serial && p->read <= count &&
		       p->digest == hash_xxh3(generated, p->read * sizeof(*generated), 0);
	if (goes_on) {
		matcher_load(c->matcher, grammar, &p->state);
	} else {
		matcher_begin(c->matcher, grammar);
		p->read = 0;
		p->ended = false;
	}
	for (uint32_t i = p->read; i < count; i++)
		read_token(c, p, generated[i]);
	enum err e = matcher_save(c->matcher, &p->state);
	p->serial = e == ERR_OK ? grammar->serial : 0;
	p->read = count;
	p->digest = hash_xxh3(generated, count * sizeof(*generated), 0);
	return e;
}

static void allow_eos(const struct constraints *c, uint64_t *mask, bool allowed)
{
	for (uint32_t i = 0; i < c->options.eos_count; i++) {
		uint32_t id = c->options.eos_ids[i];
		uint64_t bit = UINT64_C(1) << id % 64;
		if (id < c->options.vocab_size)
			mask[id / 64] = allowed ? mask[id / 64] | bit : mask[id / 64] & ~bit;
	}
}

static bool is_empty(const uint64_t *mask, size_t words)
{
	for (size_t i = 0; i < words; i++)
		if (mask[i])
			return false;
	return true;
}

static enum err make_mask(struct constraints *c, const struct sequence *sequence, uint64_t *mask)
{
	struct progress *p = progress_of(c, sequence);
	enum err e = read_answer(c, sequence, p);
	memset(mask, 0, c->words * sizeof(*mask));
	if (e == ERR_OK && !p->ended)
		e = mask_fill(c->maker, sequence->constraint->masks, c->matcher, mask);
	if (e != ERR_OK)
		return e;
	allow_eos(c, mask, p->ended || matcher_accepts(c->matcher));
	if (is_empty(mask, c->words)) {
		log_error("constraints: sequence %llu has no token to go on with", (unsigned long long)sequence->id);
		allow_eos(c, mask, true);
	}
	return ERR_OK;
}

static bool is_wanted(const struct run *run)
{
	return run->sample_count > 0 && run->sequence->constraint;
}

static enum err make_masks(struct constraints *c, const struct plan *plan)
{
	for (uint32_t i = 0; i < plan->run_count; i++) {
		if (!is_wanted(&plan->runs[i]))
			continue;
		if (!c->masks[i])
			c->masks[i] = calloc(c->words, sizeof(uint64_t));
		enum err e = c->masks[i] ? make_mask(c, plan->runs[i].sequence, c->masks[i]) : ERR_NOMEM;
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

static void *mask_thread(void *argument)
{
	struct constraints *c = argument;
	pthread_mutex_lock(&c->lock);
	for (;;) {
		while (!c->plan && !c->stop)
			pthread_cond_wait(&c->turn, &c->lock);
		if (c->stop)
			break;
		const struct plan *plan = c->plan;
		pthread_mutex_unlock(&c->lock);
		enum err e = make_masks(c, plan);
		pthread_mutex_lock(&c->lock);
		c->error = e;
		c->plan = NULL;
		pthread_cond_signal(&c->done);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* ---- from the compute thread */

void constraints_begin(struct constraints *c, const struct plan *plan)
{
	bool wanted = false;
	for (uint32_t i = 0; i < plan->run_count; i++)
		wanted |= is_wanted(&plan->runs[i]);
	if (!wanted)
		return;
	pthread_mutex_lock(&c->lock);
	assert(!c->plan);
	c->plan = plan;
	pthread_cond_signal(&c->turn);
	pthread_mutex_unlock(&c->lock);
}

enum err constraints_wait(struct constraints *c)
{
	pthread_mutex_lock(&c->lock);
	while (c->plan)
		pthread_cond_wait(&c->done, &c->lock);
	enum err e = c->error;
	c->error = ERR_OK;
	pthread_mutex_unlock(&c->lock);
	return e;
}

const uint64_t *constraints_allowed(const struct constraints *c, const struct plan *plan, const struct run *run)
{
	return is_wanted(run) ? c->masks[run - plan->runs] : NULL;
}

/* ---- life */

static enum err allocate(struct constraints *c)
{
	enum err e = token_trie_create(c->options.tokenizer, &c->trie);
	if (e == ERR_OK)
		e = mask_maker_create(c->trie, &c->maker);
	if (e != ERR_OK)
		return e;
	c->matcher = malloc(sizeof(*c->matcher));
	c->progress = calloc(PROGRESS_SLOTS, sizeof(*c->progress));
	size_t ours = mask_words(c->trie), theirs = (c->options.vocab_size + 63u) / 64;
	c->words = ours > theirs ? ours : theirs;
	return c->matcher && c->progress ? ERR_OK : ERR_NOMEM;
}

enum err constraints_create(const struct constraints_options *options, struct constraints **ret_constraints)
{
	struct constraints *c = calloc(1, sizeof(*c));
	if (!c)
		return ERR_NOMEM;
	c->options = *options;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->turn, NULL);
	pthread_cond_init(&c->done, NULL);
	enum err e = allocate(c);
	c->thread_started = e == ERR_OK && pthread_create(&c->thread, NULL, mask_thread, c) == 0;
	if (!c->thread_started) {
		constraints_destroy(c);
		return ERR_NOMEM;
	}
	*ret_constraints = c;
	return ERR_OK;
}

static void stop_thread(struct constraints *c)
{
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_cond_signal(&c->turn);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
}

void constraints_destroy(struct constraints *c)
{
	if (!c)
		return;
	if (c->thread_started)
		stop_thread(c);
	for (uint32_t i = 0; i < c->count; i++)
		destroy_constraint(c->all[i]);
	for (uint32_t i = 0; c->progress && i < PROGRESS_SLOTS; i++)
		matcher_state_fini(&c->progress[i].state);
	for (uint32_t i = 0; i < PLAN_RUNS_MAX; i++)
		free(c->masks[i]);
	free(c->progress);
	free(c->matcher);
	mask_maker_destroy(c->maker);
	token_trie_destroy(c->trie);
	pthread_cond_destroy(&c->turn);
	pthread_cond_destroy(&c->done);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
