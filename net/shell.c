#include "net/shell.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/link.h"
#include "net/loop.h"
#include "net/op_table.h"
#include "net/tls.h"

enum { LINK_NAMES = 64, LINK_NAME_BYTES = 64, CONNS_LEAST = 1024 };

/* Which incarnation of a node the link reads from. */
struct shell_peer {
	uint64_t node; /* 0: free */
	uint64_t incarnation;
	uint64_t reopen_ns; /* not 0: the link is lost, try again then */
	bool told;          /* what carries it was logged */
	bool refused;       /* nothing that is required reaches it */
	uint8_t *address;
	size_t address_length;
};

static const uint64_t REOPEN_NS = 500000000, TOLD_NS = 60000000000;

/* A read under way, from the core's point of view. */
struct shell_read {
	struct op_entry entry; /* first: the table gives it back */
	struct shell *shell;
	struct link_read *read; /* NULL once its outcome is told */
	bool refused;           /* never started: both answers come from here */
	enum err e;
	struct loop_task task;
	struct shell_read *next_free;
};

struct shell {
	struct loop *loop;
	struct shell_options options;
	struct shell_core core;
	struct env env;
	struct wire *wire;
	struct loop_timer *timer;
	struct op_table reads;
	struct shell_read *pool, *free_reads; /* [read_max], so that starting a read needs no memory */
	struct shell_peer *peers; /* [options.peer_max] */
	char link_names[LINK_NAMES][LINK_NAME_BYTES];
	uint32_t link_name_next;
	char link_required[LINK_WAYS_TEXT];
	char stranger[160]; /* told of last */
	uint64_t stranger_told_ns;
	uint64_t crowded_count, crowded_told_ns; /* 0: never */
};

static uint64_t now(struct shell *s)
{
	return loop_now_ns(s->loop);
}

static void opened(void *context, uint32_t conn, uint64_t dialed)
{
	struct shell *s = context;
	s->core.opened(s->core.core, conn, dialed, now(s));
}

static void dial_failed(void *context, uint64_t dialed)
{
	struct shell *s = context;
	s->core.dial_failed(s->core.core, dialed, now(s));
}

static void closed(void *context, uint32_t conn)
{
	struct shell *s = context;
	s->core.closed(s->core.core, conn, now(s));
}

static void message(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	struct shell *s = context;
	s->core.message(s->core.core, conn, envelope, now(s));
}

static void env_send(void *context, uint32_t conn, const Wire__Envelope *envelope)
{
	wire_send(((struct shell *)context)->wire, conn, envelope);
}

static void env_close(void *context, uint32_t conn)
{
	wire_close(((struct shell *)context)->wire, conn);
}

static void env_dial(void *context, uint64_t node)
{
	wire_dial(((struct shell *)context)->wire, node);
}

static struct shell_peer *find_peer(struct shell *s, uint64_t node)
{
	for (uint32_t i = 0; i < s->options.peer_max; i++)
		if (s->peers[i].node == node)
			return &s->peers[i];
	return NULL;
}

static void open_link(struct shell *s, struct shell_peer *peer)
{
	struct why why = {0};
	peer->reopen_ns = 0;
	peer->told = peer->refused = false;
	enum err e = link_peer_open(s->options.link, peer->node, peer->incarnation, peer->address, peer->address_length,
				    &why);
	if (e == ERR_OK)
		return;
	peer->refused = peer->told = e == ERR_UNSUPPORTED;
	if (peer->refused)
		log_error("no link to node %016llx: %s", (unsigned long long)peer->node, why.text);
	else
		log_warn("no link to node %016llx: %s", (unsigned long long)peer->node, why.text);
	if (e == ERR_NOMEM || e == ERR_IO)
		peer->reopen_ns = now(s) + REOPEN_NS; /* what is short now may be there then */
}

static void forget_peer(struct shell_peer *peer)
{
	free(peer->address);
	*peer = (struct shell_peer){0};
}

static void env_link_open(void *context, uint64_t node, uint64_t incarnation, const uint8_t *address, size_t length)
{
	struct shell *s = context;
	if (!s->options.link || length == 0)
		return;
	struct shell_peer *peer = find_peer(s, node);
	peer = peer ? peer : find_peer(s, 0);
	uint8_t *copy = malloc(length);
	if (!peer || !copy) {
		free(copy);
		return; /* reads of it fail: PEER_GONE */
	}
	memcpy(copy, address, length);
	forget_peer(peer);
	*peer = (struct shell_peer){.node = node, .incarnation = incarnation, .address = copy, .address_length = length};
	open_link(s, peer);
}

static void env_link_close(void *context, uint64_t node)
{
	struct shell *s = context;
	if (!s->options.link)
		return;
	link_peer_close(s->options.link, node);
	struct shell_peer *peer = find_peer(s, node);
	if (peer)
		forget_peer(peer);
}

void shell_link_lost(struct shell *s, uint64_t node, bool refused)
{
	struct shell_peer *peer = find_peer(s, node);
	if (peer && refused)
		peer->refused = peer->told = true;
	else if (peer && !peer->reopen_ns)
		peer->reopen_ns = now(s) + REOPEN_NS;
}

/* Says once what really carries the bytes of a peer: a silent fallback costs more than it saves. */
static void tell_transport(struct shell *s, struct shell_peer *peer)
{
	char name[LINK_NAME_BYTES];
	link_peer_transport(s->options.link, peer->node, name, sizeof(name));
	if (strcmp(name, "connecting") == 0)
		return;
	peer->told = true;
	log_info("link to node %016llx: %s", (unsigned long long)peer->node, name);
}

static void tend_links(struct shell *s)
{
	for (uint32_t i = 0; s->options.link && i < s->options.peer_max; i++) {
		struct shell_peer *peer = &s->peers[i];
		if (!peer->node)
			continue;
		if (!peer->told)
			tell_transport(s, peer);
		if (!peer->reopen_ns || now(s) < peer->reopen_ns)
			continue;
		link_peer_close(s->options.link, peer->node);
		open_link(s, peer);
	}
}

static void tick(struct loop_timer *timer, void *arg)
{
	struct shell *s = arg;
	loop_timer_arm(timer, s->options.tick_ns);
	tend_links(s);
	s->core.tick(s->core.core, now(s));
}

static struct shell_read *read_take(struct shell *s)
{
	struct shell_read *read = s->free_reads;
	if (!read)
		return calloc(1, sizeof(*read)); /* the core is over its own bound */
	s->free_reads = read->next_free;
	return read;
}

static void read_give(struct shell_read *read)
{
	struct shell *s = read->shell;
	op_table_remove(&read->entry);
	if (read < s->pool || read >= s->pool + s->options.read_max) {
		free(read);
		return;
	}
	read->next_free = s->free_reads;
	s->free_reads = read;
}

static enum err pool_create(struct shell *s)
{
	s->peers = calloc(s->options.peer_max, sizeof(*s->peers));
	if (!s->peers)
		return ERR_NOMEM;
	if (!s->options.read_max)
		return ERR_OK;
	enum err e = op_table_init(&s->reads, s->options.read_max);
	if (e != ERR_OK)
		return e;
	s->pool = calloc(s->options.read_max, sizeof(*s->pool));
	if (!s->pool)
		return ERR_NOMEM;
	for (uint32_t i = s->options.read_max; i-- > 0;) {
		s->pool[i].next_free = s->free_reads;
		s->free_reads = &s->pool[i];
	}
	return ERR_OK;
}

static void read_done(void *context, const struct link_result *results, size_t count)
{
	(void)count;
	struct shell_read *read = context;
	struct shell *s = read->shell;
	read->read = NULL;
	if (s->core.core)
		s->core.read_outcome(s->core.core, read->entry.op, results[0].err, results[0].digest, now(s));
}

static void read_landing_free(void *context)
{
	struct shell_read *read = context;
	struct shell *s = read->shell;
	uint64_t op = read->entry.op;
	read_give(read);
	if (s->core.core)
		s->core.landing_free(s->core.core, op, now(s));
}

static void read_refused(void *arg)
{
	struct shell_read *read = arg;
	struct link_result result = {.err = read->e};
	read_done(read, &result, 1);
	read_landing_free(read);
}

static enum err start(struct shell *s, struct shell_read *read, const struct env_read *request)
{
	uint64_t now_ns = now(s);
	if (request->deadline_ns <= now_ns)
		return ERR_DEADLINE;
	const struct shell_peer *peer = find_peer(s, request->node);
	if (!peer)
		return ERR_PEER_GONE;
	struct handle handle = {.incarnation = peer->incarnation, .node = request->node, .region = (uint16_t)request->region, .offset = request->offset,
				.length = request->length, .generation = request->generation};
	void *landing = s->options.landing(s->options.context, request->landing, request->landing_offset);
	void *twin = s->options.twin ? s->options.twin(s->options.context, request->landing, request->landing_offset) : NULL;
	struct link_read_options options = {
		.node = request->node,
		.handles = &handle,
		.landings = &landing,
		.twins = &twin,
		.digests = &request->digest,
		.count = 1,
		.timeout_ns = request->deadline_ns - now_ns,
		.done = read_done,
		.landing_free = read_landing_free,
		.context = read,
	};
	return link_read(s->options.link, &options, &read->read);
}

static void env_read(void *context, const struct env_read *request)
{
	struct shell *s = context;
	struct shell_read *read = read_take(s);
	if (!read) {
		log_error("out of memory for a read");
		abort(); /* a core's read must be answered: there is no honest way on */
	}
	*read = (struct shell_read){.entry = {.op = request->op}, .shell = s};
	op_table_add(&s->reads, &read->entry);
	read->e = start(s, read, request);
	if (read->e == ERR_OK)
		return;
	read->refused = true;
	read->read = NULL;
	loop_task_init(&read->task, read_refused, read);
	loop_post(s->loop, &read->task);
}

static void env_read_cancel(void *context, uint64_t op)
{
	struct shell_read *read = (struct shell_read *)op_table_find(&((struct shell *)context)->reads, op, NULL);
	if (read && read->read)
		link_read_cancel(read->read);
}

/* A small ring of texts: a name is used at once, or within the same message. */
static const char *env_link_name(void *context, uint64_t node)
{
	struct shell *s = context;
	if (!s->options.link)
		return NULL;
	const struct shell_peer *peer = find_peer(s, node);
	if (peer && peer->refused)
		return ENV_LINK_REFUSED;
	char *name = s->link_names[s->link_name_next++ % LINK_NAMES];
	link_peer_transport(s->options.link, node, name, LINK_NAME_BYTES);
	return name;
}

static const char *env_link_required(void *context)
{
	return ((struct shell *)context)->link_required;
}

static uint64_t env_link_device_bytes(void *context, uint64_t node)
{
	struct shell *s = context;
	struct link_counters counters = {0};
	if (!s->options.link || link_peer_counters(s->options.link, node, &counters) != ERR_OK)
		return 0;
	return counters.device_bytes;
}

static void env_outranked(void *context, uint64_t incarnation, bool lives)
{
	struct shell *s = context;
	if (s->options.outranked)
		s->options.outranked(s->options.outranked_context, incarnation, lives);
}

/* Whoever dials a wrong cluster dials again and again: once a minute, or when it is another. */
static void env_stranger(void *context, const char *name, const char *cluster)
{
	struct shell *s = context;
	char text[sizeof(s->stranger)];
	snprintf(text, sizeof(text), "\"%.63s\" is of cluster \"%.63s\"", name, cluster);
	if (strcmp(text, s->stranger) == 0 && now(s) < s->stranger_told_ns + TOLD_NS)
		return;
	memcpy(s->stranger, text, sizeof(text));
	s->stranger_told_ns = now(s);
	log_warn("peer refused: %s, this is cluster \"%s\" (--cluster)", text, s->options.cluster ? s->options.cluster : "");
}

/* Those who find no place come again and again, each of them. */
static void env_crowded(void *context, const char *name, uint32_t most)
{
	struct shell *s = context;
	s->crowded_count++;
	if (s->crowded_told_ns && now(s) < s->crowded_told_ns + TOLD_NS)
		return;
	s->crowded_told_ns = now(s);
	log_warn("no session with \"%.63s\": there are %u, as many as --max-nodes allows; refused so far: %llu", name, most,
		 (unsigned long long)s->crowded_count);
}

static uint64_t env_refused(void *context, unsigned reason)
{
	const struct shell *s = context;
	if (reason == REFUSAL_NODES)
		return s->crowded_count;
	return s->options.tls ? tls_refused(s->options.tls, (enum refusal)reason) : 0;
}

static void env_trace_line(void *context, const char *format, ...)
{
	(void)context;
	char text[512];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_debug("%s", text);
}

static void bind_env(struct shell *s)
{
	s->env = (struct env){
		.context = s,
		.send = env_send,
		.close = env_close,
		.dial = env_dial,
		.link_open = env_link_open,
		.link_close = env_link_close,
		.read = env_read,
		.read_cancel = env_read_cancel,
		.link_name = env_link_name,
		.link_required = env_link_required,
		.link_device_bytes = env_link_device_bytes,
		.refused = env_refused,
		.outranked = env_outranked,
		.stranger = env_stranger,
		.crowded = env_crowded,
		.trace = s->options.trace ? env_trace_line : NULL,
	};
}

enum err shell_create(struct loop *loop, const struct shell_options *options, struct shell **ret_shell, struct why *why)
{
	struct shell *s = calloc(1, sizeof(*s));
	if (!s)
		return ERR_NOMEM;
	s->loop = loop;
	s->options = *options;
	s->options.tick_ns = options->tick_ns ? options->tick_ns : 20000000;
	link_require_text(options->link_required, s->link_required);
	bind_env(s);
	struct wire_options wire = {
		.listen_url = options->listen_url,
		.conn_max = 2 * options->peer_max + 64 > CONNS_LEAST ? 2 * options->peer_max + 64 : CONNS_LEAST,
		.tls = options->tls,
		.callbacks = {.context = s, .opened = opened, .dial_failed = dial_failed, .closed = closed,
			      .message = message},
	};
	enum err e = pool_create(s);
	if (e == ERR_OK)
		e = wire_create(loop, &wire, &s->wire, why);
	if (e == ERR_OK)
		e = loop_timer_create(loop, tick, s, &s->timer);
	if (e != ERR_OK) {
		shell_destroy(s);
		return e;
	}
	*ret_shell = s;
	return ERR_OK;
}

const struct env *shell_env(struct shell *s)
{
	return &s->env;
}

void shell_attach(struct shell *s, const struct shell_core *core)
{
	s->core = *core;
	loop_timer_arm(s->timer, s->options.tick_ns);
}

void shell_detach(struct shell *s)
{
	loop_timer_cancel(s->timer);
	s->core = (struct shell_core){0};
}

struct wire *shell_wire(struct shell *s)
{
	return s->wire;
}

void shell_destroy(struct shell *s)
{
	if (!s)
		return;
	loop_timer_destroy(s->timer);
	wire_destroy(s->wire);
	for (uint32_t i = 0; s->peers && i < s->options.peer_max; i++)
		forget_peer(&s->peers[i]);
	uint32_t from = 0;
	for (struct shell_read *read; (read = (struct shell_read *)op_table_any(&s->reads, &from)) != NULL;) {
		if (read->refused)
			loop_task_cancel(s->loop, &read->task);
		read_give(read);
	}
	op_table_fini(&s->reads);
	free(s->pool);
	free(s->peers);
	free(s);
}
