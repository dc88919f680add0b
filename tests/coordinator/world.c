#include "tests/coordinator/world.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static struct fake *by_conn(struct world *world, uint32_t conn)
{
	for (uint32_t i = 0; i < world->fake_count; i++)
		if (world->fakes[i].conn == conn)
			return &world->fakes[i];
	return NULL;
}

static void env_send(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	struct world *world = context;
	struct fake *fake = by_conn(world, conn);
	if (!fake || world->deaf)
		return;
	assert(envelope->version == PROTO_VERSION);
	assert(fake->inbox_end - fake->inbox_first < FRAMES_MAX);
	struct frame *frame = &fake->inbox[fake->inbox_end++ % FRAMES_MAX];
	frame->length = codec_packed_size(envelope);
	frame->bytes = malloc(frame->length + 1);
	codec_pack(envelope, frame->bytes);
}

static void drop_inbox(struct fake *fake)
{
	while (fake->inbox_first != fake->inbox_end)
		free(fake->inbox[fake->inbox_first++ % FRAMES_MAX].bytes);
}

static void env_close(void *context, uint32_t conn)
{
	struct fake *fake = by_conn(context, conn);
	if (!fake)
		return;
	fake->conn = 0;
	drop_inbox(fake);
}

static void env_dial(void *context, uint64_t node)
{
	struct world *world = context;
	for (uint32_t i = 0; i < world->fake_count; i++)
		if (world->fakes[i].id == node)
			world->fakes[i].dialed = true;
}

static void env_link_open(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length)
{
}

static void env_link_close(void *context, uint64_t node)
{
}

uint32_t token_of(uint32_t prompt_first, uint32_t choice, uint32_t position)
{
	return (uint32_t)rng_at(prompt_first, choice, position);
}

struct seen *world_seen(struct world *world, uint64_t request)
{
	for (uint32_t i = world->seen_count; i > 0; i--)
		if (world->seen[i - 1].request == request)
			return &world->seen[i - 1];
	return NULL;
}

static enum coord_more on_token(void *context, const struct coord_token *token)
{
	struct seen *seen = token->user;
	assert(!seen->ends && token->choice < seen->choices);
	assert(seen->finish[token->choice] == WIRE__FINISH__FINISH_NONE);
	assert(token->position == seen->prompt_count + seen->tokens[token->choice]);
	assert(token->sample->token == token_of(seen->prompt_first, token->choice, token->position));
	seen->tokens[token->choice]++;
	seen->finish[token->choice] = token->finish;
	if (seen->enough_after && seen->tokens[token->choice] == seen->enough_after)
		return COORD_ENOUGH;
	return COORD_MORE;
}

static void on_scores(void *context, const struct coord_scores *scores)
{
	struct seen *seen = scores->user;
	(void)context;
	assert(!seen->ends && scores->count > 0 && scores->position == seen->scored + 1);
	for (uint32_t i = 0; i < scores->count; i++)
		assert(scores->scores[i].token == seen->prompt_first + scores->position + i);
	seen->scored += scores->count;
}

static void on_end(void *context, const struct coord_outcome *outcome)
{
	struct seen *seen = outcome->user;
	seen->ends++;
	seen->outcome = *outcome;
}

static void on_route(void *context, uint64_t request, void *user, const struct route_record *record)
{
	struct world *world = context;
	world->routed++;
	world->route = *record;
}

void world_init(struct world *world, const struct coord_options *base)
{
	memset(world, 0, sizeof(*world));
	world->now_ns = 1000 * MS;
	world->conn_next = 1;
	world->tenant = "";
	world->class = COORD_DEFAULT;
	world->env = (struct env){world, env_send, env_close, env_dial, env_link_open, env_link_close};
	struct coord_options options = base ? *base : (struct coord_options){0};
	options.node = 99;
	options.incarnation = 1;
	options.name = "coordinator 1";
	options.nodes_max = NODES_MAX;
	options.requests_max = options.requests_max ? options.requests_max : 16;
	options.context_max = 512;
	options.tokens_max = options.tokens_max ? options.tokens_max : 1 << 20;
	options.blocks_max = 1024;
	options.env = &world->env;
	options.hooks = (struct coord_hooks){.context = world, .on_token = on_token, .on_scores = on_scores,
					     .on_end = on_end, .on_route = on_route};
	world->memory = aligned_alloc(64, (coord_bytes(&options) + 63) / 64 * 64);
	world->coord = coord_init(world->memory, &options);
	world->seen = calloc(REQUESTS_SEEN, sizeof(*world->seen));
	world->arena = (struct codec_arena){.memory = malloc(1 << 20), .capacity = 1 << 20};
}

void world_fini(struct world *world)
{
	for (uint32_t i = 0; i < world->fake_count; i++)
		drop_inbox(&world->fakes[i]);
	free(world->arena.memory);
	free(world->seen);
	free(world->memory);
}

static struct coord_member member_of(const struct fake *fake, const char *model)
{
	struct coord_member member = {
		.node = fake->id,
		.incarnation = fake->incarnation,
		.role = fake->role,
		.compat = fake->compat,
		.model_count = 1,
		.block_tokens = BLOCK_TOKENS,
		.context_max = 256,
	};
	strcpy(member.name, fake->name);
	strcpy(member.models[0], model);
	return member;
}

uint32_t world_member(struct world *world, Wire__Role role, const char *name, uint8_t compat, const char *model)
{
	uint32_t index = world->fake_count++;
	struct fake *fake = &world->fakes[index];
	fake->id = index + 1;
	fake->incarnation = 1;
	fake->role = role;
	fake->compat.bytes[0] = compat;
	strcpy(fake->name, name);
	struct coord_member member = member_of(fake, model);
	enum err e = coord_member_set(world->coord, &member, world->now_ns);
	assert(e == ERR_OK);
	(void)e;
	return index;
}

void say(struct world *world, uint32_t fake, Wire__Envelope *envelope)
{
	envelope->version = PROTO_VERSION;
	if (world->fakes[fake].conn)
		coord_message(world->coord, world->fakes[fake].conn, envelope, world->now_ns);
}

void world_up(struct world *world, uint32_t fake)
{
	struct fake *f = &world->fakes[fake];
	Wire__Hello hello = WIRE__HELLO__INIT;
	hello.role = f->role;
	f->conn = world->conn_next++;
	f->dialed = false;
	f->events = 0;
	coord_opened(world->coord, f->conn, f->id, world->now_ns);
	hello.node = f->id;
	hello.incarnation = f->incarnation;
	hello.name = f->name;
	hello.compat = (ProtobufCBinaryData){16, f->compat.bytes};
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_HELLO;
	envelope.hello = &hello;
	say(world, fake, &envelope);
	world_expect(world, fake, WIRE__ENVELOPE__BODY_HELLO);
	world_expect(world, fake, WIRE__ENVELOPE__BODY_KV_RESYNC);
	say_events(world, fake, true, NULL, 0, NULL, 0);
}

void world_cut(struct world *world, uint32_t fake)
{
	uint32_t conn = world->fakes[fake].conn;
	drop_inbox(&world->fakes[fake]);
	world->fakes[fake].conn = 0;
	if (conn)
		coord_closed(world->coord, conn, world->now_ns);
}

void world_tick(struct world *world, uint64_t ns)
{
	world->now_ns += ns;
	coord_tick(world->coord, world->now_ns);
	coord_check(world->coord);
}

static void beat_back(struct world *world, uint32_t fake, const Wire__Beat *heard)
{
	Wire__Beat beat = WIRE__BEAT__INIT;
	beat.number = heard->number;
	beat.acknowledged = heard->number;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_BEAT;
	envelope.beat = &beat;
	say(world, fake, &envelope);
}

/* Answers the beats in an inbox and leaves the rest in it. */
static void answer_beats(struct world *world, uint32_t fake)
{
	struct fake *f = &world->fakes[fake];
	uint32_t end = f->inbox_end;
	for (uint32_t i = f->inbox_first; i != end; i++) {
		struct frame frame = f->inbox[f->inbox_first++ % FRAMES_MAX];
		Wire__Envelope *envelope;
		enum err e = codec_unpack(&world->arena, frame.bytes, frame.length, NULL, &envelope);
		assert(e == ERR_OK);
		(void)e;
		if (envelope->body_case != WIRE__ENVELOPE__BODY_BEAT) {
			f->inbox[f->inbox_end++ % FRAMES_MAX] = frame;
			continue;
		}
		beat_back(world, fake, envelope->beat);
		free(frame.bytes);
	}
}

void world_pass(struct world *world, uint64_t ns)
{
	for (uint64_t end = world->now_ns + ns; world->now_ns < end;) {
		world_tick(world, 50 * MS);
		for (uint32_t i = 0; i < world->fake_count; i++)
			answer_beats(world, i);
	}
}

const Wire__Envelope *world_next(struct world *world, uint32_t fake)
{
	struct fake *f = &world->fakes[fake];
	while (f->inbox_first != f->inbox_end) {
		struct frame frame = f->inbox[f->inbox_first++ % FRAMES_MAX];
		Wire__Envelope *envelope;
		struct why why;
		enum err e = codec_unpack(&world->arena, frame.bytes, frame.length, &why, &envelope);
		free(frame.bytes);
		assert(e == ERR_OK); /* what the core sends is whole */
		(void)e;
		if (envelope->body_case != WIRE__ENVELOPE__BODY_BEAT)
			return envelope;
		beat_back(world, fake, envelope->beat);
	}
	return NULL;
}

const Wire__Envelope *world_expect(struct world *world, uint32_t fake, Wire__Envelope__BodyCase body)
{
	const Wire__Envelope *envelope = world_next(world, fake);
	assert(envelope && envelope->body_case == body);
	return envelope;
}

void world_expect_silence(struct world *world, uint32_t fake)
{
	assert(world_next(world, fake) == NULL);
}

enum err world_submit(struct world *world, uint32_t first, uint32_t count, uint32_t choices, uint32_t max_tokens,
		      struct seen **ret_seen)
{
	uint32_t prompt[512];
	for (uint32_t i = 0; i < count; i++)
		prompt[i] = first + i;
	struct seen *seen = &world->seen[world->seen_count];
	assert(world->seen_count < REQUESTS_SEEN);
	*seen = (struct seen){.prompt_first = first, .prompt_count = count, .choices = choices};
	struct coord_request request = {
		.user = seen,
		.id = "r",
		.model = "m",
		.tenant = world->tenant,
		.share = world->share,
		.tokens = prompt,
		.prompt_count = count,
		.choice_count = choices,
		.sampling = {.seed = 1, .top_p = 1, .repetition_penalty = 1, .max_tokens = max_tokens, .logprobs = -1},
		.class = world->class,
	};
	request.sampling.prompt_logprobs = world->prompt_logprobs;
	struct why why;
	uint64_t retry_after_ns;
	enum err e = coord_submit(world->coord, &request, world->now_ns, &why, &seen->request, &retry_after_ns);
	if (e == ERR_OK)
		world->seen_count++;
	else
		assert(!seen->ends && ((e != ERR_UNAVAILABLE && e != ERR_AGAIN) || retry_after_ns));
	*ret_seen = e == ERR_OK ? seen : NULL;
	coord_check(world->coord);
	return e;
}

void say_reserved(struct world *world, uint32_t fake, const Wire__JobId *job, Wire__Half half, enum err e)
{
	Wire__Reserved reserved = WIRE__RESERVED__INIT;
	reserved.job = (Wire__JobId *)job;
	reserved.half = half;
	reserved.error = e;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_RESERVED;
	envelope.reserved = &reserved;
	say(world, fake, &envelope);
	coord_check(world->coord);
}

void say_token(struct world *world, uint32_t fake, const Wire__JobId *job, uint32_t choice, uint32_t position,
	       uint32_t token_id, Wire__Finish finish)
{
	Wire__Token token = WIRE__TOKEN__INIT;
	token.job = (Wire__JobId *)job;
	token.choice = choice;
	token.position = position;
	token.token = token_id;
	token.finish = finish;
	Wire__Token *pointers[] = {&token};
	Wire__Tokens tokens = WIRE__TOKENS__INIT;
	tokens.n_tokens = 1;
	tokens.tokens = pointers;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_TOKENS;
	envelope.tokens = &tokens;
	say(world, fake, &envelope);
	coord_check(world->coord);
}

void say_scores(struct world *world, uint32_t fake, const Wire__JobId *job, uint32_t prompt_first, uint32_t position,
		uint32_t count)
{
	Wire__TokenScore scores[PROTO_SCORES_MAX], *pointers[PROTO_SCORES_MAX];
	Wire__PromptLogprobs message = WIRE__PROMPT_LOGPROBS__INIT;
	message.job = (Wire__JobId *)job;
	message.position = position;
	for (uint32_t i = 0; i < count; i++) {
		wire__token_score__init(&scores[i]);
		scores[i].token = prompt_first + position + i;
		scores[i].rank = 1;
		pointers[i] = &scores[i];
	}
	message.n_scores = count;
	message.scores = pointers;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_PROMPT_LOGPROBS;
	envelope.prompt_logprobs = &message;
	say(world, fake, &envelope);
	coord_check(world->coord);
}

void say_end(struct world *world, uint32_t fake, const Wire__JobId *job, Wire__Half half, enum err e,
	     const Wire__Accounting *accounting)
{
	Wire__Accounting none = WIRE__ACCOUNTING__INIT;
	Wire__JobEnd end = WIRE__JOB_END__INIT;
	end.job = (Wire__JobId *)job;
	end.half = half;
	end.error = e;
	end.accounting = accounting ? (Wire__Accounting *)accounting : &none;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_JOB_END;
	envelope.job_end = &end;
	say(world, fake, &envelope);
	coord_check(world->coord);
}

void say_refused(struct world *world, uint32_t reader, uint32_t owner, const char *required)
{
	Wire__Transport transport = WIRE__TRANSPORT__INIT, *transports[] = {&transport};
	transport.peer = world->fakes[owner].name;
	transport.name = ENV_LINK_REFUSED;
	transport.node = world->fakes[owner].id;
	transport.incarnation = world->fakes[owner].incarnation;
	Wire__Load load = WIRE__LOAD__INIT;
	load.transports = transports;
	load.n_transports = 1;
	load.required = (char *)required;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_LOAD;
	envelope.load = &load;
	say(world, reader, &envelope);
}

void say_load(struct world *world, uint32_t fake, uint64_t tokens_waiting, uint32_t sequences)
{
	Wire__Load load = WIRE__LOAD__INIT;
	load.tokens_waiting = tokens_waiting;
	load.sequences = sequences;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_LOAD;
	envelope.load = &load;
	say(world, fake, &envelope);
}

void say_room(struct world *world, uint32_t fake, uint32_t used, uint32_t reservable, uint32_t reserved)
{
	Wire__BlockLoad group = WIRE__BLOCK_LOAD__INIT, *groups[] = {&group};
	group.total = 40;
	group.reservable = reservable;
	group.reserved = reserved;
	group.used = used;
	Wire__Load load = WIRE__LOAD__INIT;
	load.n_groups = 1;
	load.groups = groups;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_LOAD;
	envelope.load = &load;
	say(world, fake, &envelope);
}

void say_events(struct world *world, uint32_t fake, bool reset, const struct id128 *added, uint32_t added_count,
		const struct id128 *removed, uint32_t removed_count)
{
	Wire__KvEvents events = WIRE__KV_EVENTS__INIT;
	events.sequence = ++world->fakes[fake].events;
	events.reset = reset;
	events.added = (ProtobufCBinaryData){added_count * 16, (uint8_t *)added};
	events.removed = (ProtobufCBinaryData){removed_count * 16, (uint8_t *)removed};
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_KV_EVENTS;
	envelope.kv_events = &events;
	say(world, fake, &envelope);
}
