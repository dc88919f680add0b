#include "said.h"

#include <stdlib.h>

#include "proto/job.h"

enum { LIST = 12, KEYS = 12 };

/* Room for the parts of one message. */
struct parts {
	uint32_t have[2];
	Wire__JobId job;
	Wire__Sampling sampling;
	Wire__TokenBias bias;
	Wire__TokenBias *biases[1];
	Wire__Holder holder[2];
	Wire__Holder *holders[2];
	Wire__Place place[LIST];
	Wire__Place *places[LIST];
	Wire__Token token[LIST];
	Wire__Token *tokens[LIST];
	Wire__FoundBlock block[LIST];
	Wire__FoundBlock *blocks[LIST];
	Wire__Transport transport;
	Wire__Transport *transports[1];
	Wire__Accounting accounting;
	uint64_t digests[LIST];
	uint32_t numbers[256], choices[LIST];
	uint8_t keys[KEYS * PROTO_KEY_BYTES], more_keys[KEYS * PROTO_KEY_BYTES];
	uint8_t id[PROTO_KEY_BYTES], other_id[PROTO_KEY_BYTES];
	char text[16];
};

uint64_t said_digest(uint64_t offset)
{
	return offset * 31 + 7;
}

void said_init(struct said *said, const uint8_t *data, size_t length)
{
	said->in = (struct bytes){data, length};
	said->job_next = said->op_next = 0;
	memset(said->jobs, 0, sizeof(said->jobs));
	memset(said->ops, 0, sizeof(said->ops));
	said->arena = (struct codec_arena){.memory = said->arena_memory, .capacity = sizeof(said->arena_memory)};
}

/* ---- parts */

static Wire__JobId *job(struct said *s, struct parts *p)
{
	uint8_t which = bytes_u8(&s->in);
	wire__job_id__init(&p->job);
	if (which < 224) {
		p->job.coordinator = s->jobs[which % SAID_JOBS].coordinator;
		p->job.number = s->jobs[which % SAID_JOBS].number;
		p->job.attempt = s->jobs[which % SAID_JOBS].attempt;
		return &p->job;
	}
	p->job.coordinator = bytes_number(&s->in);
	p->job.number = bytes_number(&s->in);
	p->job.attempt = (uint32_t)bytes_number(&s->in);
	return &p->job;
}

static uint64_t op(struct said *s)
{
	uint8_t which = bytes_u8(&s->in);
	return which < 200 ? s->ops[which % SAID_OPS] : bytes_number(&s->in);
}

static ProtobufCBinaryData compat(struct said *s, struct parts *p)
{
	memset(p->other_id, 0, sizeof(p->other_id));
	p->other_id[0] = bytes_u8(&s->in) < 240 ? 9 : 8;
	return (ProtobufCBinaryData){sizeof(p->other_id), p->other_id};
}

static ProtobufCBinaryData keys(struct said *s, uint8_t *memory, uint32_t most)
{
	uint32_t count = bytes_below(&s->in, most + 1);
	memset(memory, 0, (size_t)count * PROTO_KEY_BYTES);
	for (uint32_t i = 0; i < count; i++)
		memory[i * PROTO_KEY_BYTES] = bytes_u8(&s->in) % 32;
	return (ProtobufCBinaryData){(size_t)count * PROTO_KEY_BYTES, memory};
}

static char *tenant(struct said *s)
{
	static char names[][8] = {"", "ant", "bee", "cat"};
	return names[bytes_below(&s->in, 4)];
}

static Wire__Place *place(struct said *s, Wire__Place *at)
{
	wire__place__init(at);
	at->offset = bytes_u8(&s->in) < 250 ? (uint64_t)bytes_below(&s->in, 64) * 192 : bytes_number(&s->in);
	at->region = bytes_below(&s->in, 4);
	at->generation = bytes_below(&s->in, 8) ? 1 : bytes_number(&s->in);
	return at;
}

static uint64_t digest(struct said *s, uint64_t offset)
{
	return bytes_below(&s->in, 16) ? said_digest(offset) : bytes_number(&s->in);
}

static float number(struct said *s)
{
	static const float odd[] = {0, -1, 1e30f, -1e30f, 1e-30f};
	uint8_t b = bytes_u8(&s->in);
	return b < 250 ? (float)b / 8 : odd[b % 5];
}

static Wire__Sampling *sampling(struct said *s, struct parts *p)
{
	wire__sampling__init(&p->sampling);
	p->sampling.seed = bytes_number(&s->in);
	p->sampling.top_p = 1;
	p->sampling.repetition_penalty = 1;
	p->sampling.logprobs = -1;
	p->sampling.max_tokens = bytes_below(&s->in, 16) ? 1 + bytes_below(&s->in, 24) : (uint32_t)bytes_number(&s->in);
	p->sampling.ignore_eos = true;
	if (bytes_below(&s->in, 16) == 15)
		p->sampling.top_p = number(s), p->sampling.temperature = number(s), p->sampling.min_p = number(s);
	if (bytes_below(&s->in, 16) == 15)
		p->sampling.logprobs = (int32_t)bytes_number(&s->in), p->sampling.top_k = (int32_t)bytes_number(&s->in);
	if (bytes_below(&s->in, 16) == 15) {
		wire__token_bias__init(&p->bias);
		p->bias.token = (uint32_t)bytes_number(&s->in), p->bias.bias = number(s);
		p->biases[0] = &p->bias;
		p->sampling.biases = p->biases, p->sampling.n_biases = 1;
	}
	return &p->sampling;
}

static void token(struct said *s, struct parts *p, uint32_t i)
{
	Wire__Token *t = p->tokens[i] = &p->token[i];
	wire__token__init(t);
	t->job = i ? p->token[0].job : job(s, p);
	t->choice = bytes_below(&s->in, 16) ? bytes_below(&s->in, 4) : (uint32_t)bytes_number(&s->in);
	t->position = bytes_below(&s->in, 16) ? bytes_below(&s->in, 64) : (uint32_t)bytes_number(&s->in);
	t->token = bytes_u8(&s->in);
	t->logprob = number(s);
	t->finish = (Wire__Finish)(bytes_below(&s->in, 8) == 7 ? bytes_below(&s->in, 5) : 0);
	t->stop_token = bytes_below(&s->in, 16) == 15 ? (uint32_t)bytes_number(&s->in) : 0;
}

static char *text(struct said *s, struct parts *p)
{
	const uint8_t *data;
	size_t length = bytes_run(&s->in, sizeof(p->text) - 1, &data);
	for (size_t i = 0; i < length; i++)
		p->text[i] = (char)('a' + data[i] % 26);
	p->text[length] = 0;
	return p->text;
}

/* ---- messages */

#define INIT(kind, field) \
	wire__##field##__init(&m.field); \
	e.body_case = WIRE__ENVELOPE__BODY_##kind; \
	e.field = &m.field

union body {
	Wire__Load load;
	Wire__KvEvents kv_events;
	Wire__KvResync kv_resync;
	Wire__Hello hello;
	Wire__Beat beat;
	Wire__Reserve reserve;
	Wire__Reserved reserved;
	Wire__Start start;
	Wire__Cancel cancel;
	Wire__Tokens tokens;
	Wire__JobEnd job_end;
	Wire__Attach attach;
	Wire__Announce announce;
	Wire__Prefilled prefilled;
	Wire__TransferEnd transfer_end;
	Wire__Lookup lookup;
	Wire__Found found;
	Wire__Release release;
	Wire__Offer offer;
	Wire__OfferDone offer_done;
	Wire__KvAsk kv_ask;
	Wire__Directive directive;
};

static const Wire__Envelope *through_codec(struct said *s, Wire__Envelope *envelope)
{
	Wire__Envelope *got = NULL;
	if (envelope->version == 0)
		envelope->version = PROTO_VERSION;
	if (codec_packed_size(envelope) > sizeof(s->frame))
		return NULL;
	size_t length = codec_pack(envelope, s->frame);
	if (codec_unpack(&s->arena, s->frame, length, NULL, &got) != ERR_OK)
		return NULL;
	return got;
}

const Wire__Envelope *said_hello(struct said *s, uint64_t node, uint64_t incarnation, Wire__Role role)
{
	struct parts p;
	union body m;
	Wire__Envelope e = WIRE__ENVELOPE__INIT;
	INIT(HELLO, hello);
	m.hello.node = node;
	m.hello.incarnation = incarnation;
	m.hello.role = role;
	m.hello.name = (char *)"peer";
	if (role != WIRE__ROLE__ROLE_KVSTORE && role != WIRE__ROLE__ROLE_COORDINATOR)
		m.hello.compat = compat(s, &p);
	m.hello.weight = role == WIRE__ROLE__ROLE_KVSTORE ? 1 + (uint32_t)incarnation : 0;
	m.hello.replicas = role == WIRE__ROLE__ROLE_KVSTORE ? 2 : 0;
	m.hello.link_address = (ProtobufCBinaryData){4, (uint8_t *)"link"};
	return through_codec(s, &e);
}

static void reserve(struct said *s, struct parts *p, Wire__Reserve *r)
{
	r->job = job(s, p);
	r->half = (Wire__Half)bytes_below(&s->in, 4);
	r->model = r->tenant = r->request = text(s, p);
	r->compat = compat(s, p);
	r->partner = bytes_below(&s->in, SAID_NODES + 1);
	r->partner_incarnation = bytes_below(&s->in, 3);
	r->n_tokens = bytes_below(&s->in, 48);
	for (size_t i = 0; i < r->n_tokens; i++)
		p->numbers[i] = bytes_below(&s->in, 16) ? (uint32_t)i / 4 : bytes_u8(&s->in);
	r->tokens = p->numbers;
	r->prompt_count = bytes_below(&s->in, 4) ? (uint32_t)r->n_tokens : bytes_below(&s->in, 64);
	r->n_choices = 1 + (bytes_below(&s->in, 4) ? 0 : bytes_below(&s->in, LIST));
	for (size_t i = 0; i < r->n_choices; i++)
		p->choices[i] = bytes_below(&s->in, 8) ? (uint32_t)i : (uint32_t)bytes_number(&s->in);
	r->choices = p->choices;
	r->sampling = sampling(s, p);
	r->n_holders = bytes_below(&s->in, 3);
	for (size_t i = 0; i < r->n_holders; i++) {
		wire__holder__init(&p->holder[i]);
		p->holder[i].node = bytes_below(&s->in, SAID_NODES + 1);
		p->holder[i].blocks = (uint32_t)bytes_number(&s->in);
		p->holders[i] = &p->holder[i];
	}
	r->holders = p->holders;
	r->deadline_ns = bytes_below(&s->in, 8) ? 0 : bytes_number(&s->in) * 1000000;
}

static void announce(struct said *s, struct parts *p, Wire__Announce *a)
{
	a->job = job(s, p);
	a->layer = bytes_below(&s->in, 16) ? bytes_below(&s->in, 3) : (uint32_t)bytes_number(&s->in);
	a->layer_group = bytes_below(&s->in, 32) == 31;
	a->section = (Wire__Section)(bytes_below(&s->in, 32) == 31);
	a->block_first = bytes_below(&s->in, 16) ? bytes_below(&s->in, 8) : (uint32_t)bytes_number(&s->in);
	a->n_places = a->n_digests = bytes_below(&s->in, LIST);
	for (size_t i = 0; i < a->n_places; i++) {
		p->places[i] = place(s, &p->place[i]);
		p->digests[i] = digest(s, p->place[i].offset + (uint64_t)a->layer * 64);
	}
	a->places = p->places;
	a->digests = p->digests;
}

static void found(struct said *s, struct parts *p, Wire__Found *f)
{
	f->op = op(s);
	f->n_blocks = bytes_below(&s->in, 5);
	for (size_t i = 0; i < f->n_blocks; i++) {
		Wire__FoundBlock *b = p->blocks[i] = &p->block[i];
		wire__found_block__init(b);
		b->index = bytes_below(&s->in, 16) ? (uint32_t)i : (uint32_t)bytes_number(&s->in);
		b->place = place(s, &p->place[i]);
		b->n_digests = bytes_below(&s->in, 16) ? 3 : bytes_below(&s->in, LIST);
		for (size_t layer = 0; layer < b->n_digests && layer < LIST; layer++)
			p->digests[layer] = digest(s, b->place->offset + layer * 64);
		b->digests = p->digests;
		b->more_copies = bytes_below(&s->in, 16) == 15 ? bytes_below(&s->in, PROTO_REPLICAS_MAX + 2) : 0;
	}
	f->blocks = p->blocks;
	f->more = bytes_below(&s->in, 4) == 3;
}

static void offer(struct said *s, struct parts *p, Wire__Offer *o)
{
	memset(p->id, 0, sizeof(p->id));
	o->op = bytes_number(&s->in);
	p->id[0] = bytes_u8(&s->in) % 32;
	o->key = (ProtobufCBinaryData){sizeof(p->id), p->id};
	o->parent = keys(s, p->keys, 1);
	o->place = place(s, &p->place[0]);
	o->layer_bytes = bytes_below(&s->in, 8) ? 64 : (uint32_t)bytes_number(&s->in);
	o->n_digests = bytes_below(&s->in, 8) ? 3 : bytes_below(&s->in, LIST);
	for (size_t layer = 0; layer < o->n_digests; layer++)
		p->digests[layer] = digest(s, o->place->offset + layer * o->layer_bytes);
	o->digests = p->digests;
	o->compat = compat(s, p);
	o->tenant = tenant(s);
	o->priority = (Wire__Priority)bytes_below(&s->in, 3);
	o->pin = (Wire__KvPin)(bytes_below(&s->in, 8) == 7 ? bytes_below(&s->in, 4) : 0);
}

static void load(struct said *s, struct parts *p, Wire__Load *l)
{
	l->jobs = (uint32_t)bytes_number(&s->in);
	l->jobs_max = (uint32_t)bytes_number(&s->in);
	l->tokens_waiting = bytes_number(&s->in);
	l->sequences = (uint32_t)bytes_number(&s->in);
	l->blocks_used = (uint32_t)bytes_number(&s->in);
	l->blocks_total = (uint32_t)bytes_number(&s->in);
	l->draining = bytes_below(&s->in, 16) == 15;
	l->prefill_tokens_per_s = number(s);
	l->step_seconds = number(s);
	l->role = (Wire__Role)bytes_below(&s->in, 8);
	wire__transport__init(&p->transport);
	p->transport.peer = p->transport.name = text(s, p);
	p->transports[0] = &p->transport;
	l->transports = p->transports;
	l->n_transports = bytes_below(&s->in, 2);
}

static void ask(struct said *s, struct parts *p, Wire__KvAsk *a)
{
	a->op = bytes_number(&s->in);
	a->verb = (Wire__KvVerb)bytes_below(&s->in, WIRE__KV_VERB__KV_HAVE + 2);
	a->pin = (Wire__KvPin)bytes_below(&s->in, 4);
	a->keys = keys(s, p->keys, KEYS);
	a->after = keys(s, p->more_keys, 1);
	a->limit = 1 + bytes_below(&s->in, 8);
	a->one_tenant = bytes_below(&s->in, 2);
	a->tenant = tenant(s);
}

static void token_list(struct said *s, struct parts *p, size_t *ret_count, Wire__Token ***ret_tokens)
{
	*ret_count = bytes_below(&s->in, LIST);
	for (uint32_t i = 0; i < *ret_count; i++)
		token(s, p, i);
	*ret_tokens = p->tokens;
}

const Wire__Envelope *said_message(struct said *s)
{
	struct parts p;
	union body m;
	Wire__Envelope e = WIRE__ENVELOPE__INIT;
	switch (bytes_below(&s->in, 20)) {
	case 0:
		INIT(BEAT, beat);
		m.beat.number = bytes_number(&s->in), m.beat.acknowledged = bytes_number(&s->in);
		break;
	case 1:
		INIT(LOAD, load);
		load(s, &p, &m.load);
		break;
	case 2:
		INIT(KV_EVENTS, kv_events);
		m.kv_events.sequence = bytes_number(&s->in), m.kv_events.reset = bytes_below(&s->in, 4) == 3;
		m.kv_events.added = keys(s, p.keys, KEYS), m.kv_events.removed = keys(s, p.more_keys, KEYS);
		break;
	case 3:
		if (bytes_below(&s->in, 4)) {
			INIT(KV_ASK, kv_ask);
			ask(s, &p, &m.kv_ask);
		} else if (bytes_below(&s->in, 2)) {
			INIT(DIRECTIVE, directive);
			m.directive.epoch = bytes_number(&s->in);
			m.directive.kind = (Wire__DirectiveKind)bytes_below(&s->in, 4);
		} else {
			INIT(KV_RESYNC, kv_resync);
		}
		break;
	case 4:
	case 5:
		INIT(RESERVE, reserve);
		reserve(s, &p, &m.reserve);
		break;
	case 6:
	case 7:
		INIT(RESERVED, reserved);
		m.reserved.job = job(s, &p);
		m.reserved.half = (Wire__Half)bytes_below(&s->in, 3);
		m.reserved.error = bytes_below(&s->in, 8) ? 0 : bytes_below(&s->in, 24);
		break;
	case 8:
		INIT(START, start);
		m.start.job = job(s, &p);
		break;
	case 9:
		INIT(CANCEL, cancel);
		m.cancel.job = job(s, &p);
		m.cancel.one_choice = bytes_below(&s->in, 2), m.cancel.choice = bytes_below(&s->in, 4);
		m.cancel.error = bytes_below(&s->in, 24);
		break;
	case 10:
	case 11:
		INIT(TOKENS, tokens);
		token_list(s, &p, &m.tokens.n_tokens, &m.tokens.tokens);
		break;
	case 12:
		INIT(JOB_END, job_end);
		m.job_end.job = job(s, &p);
		m.job_end.half = (Wire__Half)bytes_below(&s->in, 3);
		m.job_end.error = bytes_below(&s->in, 4) ? 0 : bytes_below(&s->in, 24);
		wire__accounting__init(&p.accounting);
		p.accounting.context = p.accounting.computed = (uint32_t)bytes_number(&s->in);
		m.job_end.accounting = bytes_below(&s->in, 2) ? &p.accounting : NULL;
		break;
	case 13:
		INIT(ATTACH, attach);
		m.attach.job = job(s, &p);
		m.attach.compat = compat(s, &p);
		p.have[0] = (uint32_t)bytes_number(&s->in);
		p.have[1] = p.have[0] / 2;
		m.attach.n_have = bytes_below(&s->in, 4);
		m.attach.n_have = m.attach.n_have < 3 ? m.attach.n_have : 1;
		m.attach.have = p.have;
		break;
	case 14:
		INIT(ANNOUNCE, announce);
		announce(s, &p, &m.announce);
		break;
	case 15:
		INIT(PREFILLED, prefilled);
		m.prefilled.job = job(s, &p);
		m.prefilled.block_count = (uint32_t)bytes_number(&s->in);
		token_list(s, &p, &m.prefilled.n_first, &m.prefilled.first);
		break;
	case 16:
		INIT(TRANSFER_END, transfer_end);
		m.transfer_end.job = job(s, &p);
		m.transfer_end.error = bytes_below(&s->in, 24);
		break;
	case 17:
		INIT(LOOKUP, lookup);
		m.lookup.op = bytes_number(&s->in);
		m.lookup.keys = keys(s, p.keys, KEYS);
		m.lookup.compat = compat(s, &p);
		m.lookup.tenant = tenant(s);
		break;
	case 18:
		if (bytes_below(&s->in, 2)) {
			INIT(FOUND, found);
			found(s, &p, &m.found);
		} else {
			INIT(RELEASE, release);
			m.release.op = bytes_number(&s->in);
		}
		break;
	default:
		if (bytes_below(&s->in, 4)) {
			INIT(OFFER, offer);
			offer(s, &p, &m.offer);
		} else {
			INIT(OFFER_DONE, offer_done);
			m.offer_done.op = op(s);
			m.offer_done.error = bytes_below(&s->in, 24);
		}
		break;
	}
	return through_codec(s, &e);
}

/* ---- what the core says */

static void know_job(struct said *s, const Wire__JobId *id)
{
	uint32_t at = s->job_next++ % SAID_JOBS;
	s->jobs[at].coordinator = id->coordinator;
	s->jobs[at].number = id->number;
	s->jobs[at].attempt = id->attempt;
}

void said_heard(struct said *s, const Wire__Envelope *e)
{
	if (e->body_case == WIRE__ENVELOPE__BODY_RESERVE)
		know_job(s, e->reserve->job);
	else if (e->body_case == WIRE__ENVELOPE__BODY_LOOKUP)
		s->ops[s->op_next++ % SAID_OPS] = e->lookup->op;
	else if (e->body_case == WIRE__ENVELOPE__BODY_OFFER)
		s->ops[s->op_next++ % SAID_OPS] = e->offer->op;
}
