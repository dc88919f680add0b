#include "net/session.h"

#include <assert.h>
#include <string.h>

#include "base/planted.h"
#include "base/why.h"
#include "proto/codec.h"

enum { BEATS_REMEMBERED = 32, /* send times kept; more than TERM / BEAT */
       FULL_REDIALS = 10 };

struct conn {
	bool used;
	uint32_t id;
	uint64_t dialed;  /* whom we dialled; 0: inbound */
	uint32_t peer;    /* PEER_NONE: greeting */
	uint64_t opened_ns;
	bool stranger;    /* of another cluster: nothing that it says counts */
	bool ungreeted;   /* it came when there was no room: it hears of us when there is a place for it */
};

struct peer {
	bool used;
	uint64_t fades_until_ns;    /* not 0: we stopped using what it holds, and hold what it uses until then */
	struct session_peer info;
	uint32_t conn;              /* index in conns */
	uint64_t heard_ns;          /* receipt of the last message: the holder's clock */
	uint64_t acknowledged_ns;   /* our send time of the last acknowledged beat: the user's clock */
	uint64_t beat_number;       /* last sent */
	uint64_t beat_heard;        /* highest received */
	uint64_t beat_next_ns;
	uint64_t sent_ns[BEATS_REMEMBERED];
};

/* A node we heard of: its highest incarnation (rule 1), and whether we want a session. */
struct known {
	uint64_t node; /* 0: free */
	uint64_t incarnation;
	bool wanted;
	bool dialing;
	uint64_t dial_next_ns;
};

struct sessions {
	struct session_options options;
	struct id128 compat;
	uint64_t beat_ns, term_ns, margin_ns, redial_ns;
	uint32_t conn_max;
	uint32_t known_max;
	uint32_t peer_count;
	struct conn *conns;
	struct peer *peers;
	struct known *known;
	uint8_t link_address[SESSION_ADDRESS_MAX];
	char name[SESSION_NAME_MAX + 1], cluster[SESSION_NAME_MAX + 1];
};

/* Connections not greeted yet, and those being replaced, need room besides the sessions. */
static uint32_t conn_max(const struct session_options *options)
{
	return 2 * options->peer_max + 16;
}

static uint32_t known_max(const struct session_options *options)
{
	return 4 * options->peer_max + 16;
}

size_t sessions_bytes(const struct session_options *options)
{
	return sizeof(struct sessions) + conn_max(options) * sizeof(struct conn) +
	       options->peer_max * sizeof(struct peer) + known_max(options) * sizeof(struct known);
}

struct sessions *sessions_init(void *memory, const struct session_options *options)
{
	assert(options->peer_max > 0 && options->node != 0);
	assert(options->link_address_length <= SESSION_ADDRESS_MAX);
	memset(memory, 0, sessions_bytes(options));
	struct sessions *s = memory;
	s->options = *options;
	s->conn_max = conn_max(options);
	s->known_max = known_max(options);
	s->peers = (struct peer *)(s + 1);
	s->known = (struct known *)(s->peers + options->peer_max);
	s->conns = (struct conn *)(s->known + s->known_max);
	uint64_t factor = options->time_factor ? options->time_factor : 1;
	s->beat_ns = SESSION_BEAT_NS * factor;
	s->term_ns = SESSION_TERM_NS * factor;
	s->margin_ns = SESSION_MARGIN_NS * factor;
	s->redial_ns = SESSION_REDIAL_NS;
	if (options->compat)
		s->compat = *options->compat;
	if (options->link_address_length)
		memcpy(s->link_address, options->link_address, options->link_address_length);
	strncpy(s->name, options->name ? options->name : "", SESSION_NAME_MAX);
	strncpy(s->cluster, options->cluster ? options->cluster : "", SESSION_NAME_MAX);
	return s;
}

static struct conn *find_conn(struct sessions *s, uint32_t id)
{
	for (uint32_t i = 0; i < s->conn_max; i++)
		if (s->conns[i].used && s->conns[i].id == id)
			return &s->conns[i];
	return NULL;
}

static struct known *find_known(struct sessions *s, uint64_t node)
{
	for (uint32_t i = 0; i < s->known_max; i++)
		if (s->known[i].node == node)
			return &s->known[i];
	return NULL;
}

/* Forgets a node that nobody wants and nobody talks to, when the table is full. */
static struct known *add_known(struct sessions *s, uint64_t node)
{
	struct known *k = find_known(s, node);
	if (k)
		return k;
	k = find_known(s, 0);
	for (uint32_t i = 0; !k && i < s->known_max; i++)
		if (!s->known[i].wanted && sessions_find(s, s->known[i].node) == PEER_NONE)
			k = &s->known[i];
	if (k)
		*k = (struct known){.node = node};
	return k;
}

uint32_t sessions_find(const struct sessions *s, uint64_t node)
{
	for (uint32_t i = 0; i < s->options.peer_max; i++)
		if (s->peers[i].used && s->peers[i].info.node == node)
			return i;
	return PEER_NONE;
}

const struct session_peer *sessions_peer(const struct sessions *s, uint32_t peer)
{
	return peer < s->options.peer_max && s->peers[peer].used ? &s->peers[peer].info : NULL;
}

void sessions_note_draining(struct sessions *s, uint32_t peer, bool draining)
{
	assert(sessions_peer(s, peer));
	s->peers[peer].info.draining = draining;
}

uint32_t sessions_max(const struct sessions *s)
{
	return s->options.peer_max;
}

uint32_t sessions_count(const struct sessions *s)
{
	return s->peer_count;
}

void sessions_want(struct sessions *s, uint64_t node, uint64_t incarnation, uint64_t now_ns)
{
	struct known *k = add_known(s, node);
	if (!k)
		return;
	if (!k->wanted || incarnation > k->incarnation)
		k->dial_next_ns = now_ns;
	k->wanted = true;
	if (incarnation > k->incarnation)
		k->incarnation = incarnation;
}

void sessions_unwant(struct sessions *s, uint64_t node)
{
	struct known *k = find_known(s, node);
	if (k)
		k->wanted = false;
}

static void send_hello(struct sessions *s, const struct conn *conn)
{
	Wire__Hello hello = WIRE__HELLO__INIT;
	hello.node = s->options.node;
	hello.incarnation = s->options.incarnation;
	hello.role = s->options.role;
	hello.name = s->name;
	hello.cluster = s->cluster;
	if (s->options.compat)
		hello.compat = (ProtobufCBinaryData){PROTO_KEY_BYTES, s->compat.bytes};
	hello.weight = s->options.weight;
	hello.replicas = s->options.replicas;
	hello.link_address = (ProtobufCBinaryData){s->options.link_address_length, s->link_address};
	const struct known *k = conn->dialed ? find_known(s, conn->dialed) : NULL;
	hello.peer_incarnation = k ? k->incarnation : 0;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.version = PROTO_VERSION;
	envelope.body_case = WIRE__ENVELOPE__BODY_HELLO;
	envelope.hello = &hello;
	s->options.env->send(s->options.env->context, conn->id, &envelope);
}

/* Nobody's fault, and nothing that time mends: said, and counted. */
static void tell_crowded(struct sessions *s, const char *name)
{
	const struct env *env = s->options.env;
	env_trace(env, "no room for %s beside %u sessions", name, s->peer_count);
	if (env->crowded)
		env->crowded(env->context, name, s->options.peer_max);
}

static void drop_conn(struct sessions *s, struct conn *conn)
{
	s->options.env->close(s->options.env->context, conn->id);
	conn->used = false;
}

void sessions_opened(struct sessions *s, uint32_t id, uint64_t node, uint64_t now_ns)
{
	for (uint32_t i = 0; i < s->conn_max; i++) {
		if (s->conns[i].used)
			continue;
		s->conns[i] = (struct conn){.used = true, .id = id, .dialed = node, .peer = PEER_NONE, .opened_ns = now_ns,
					    .ungreeted = !node && s->peer_count == s->options.peer_max};
		if (!s->conns[i].ungreeted)
			send_hello(s, &s->conns[i]);
		return;
	}
	tell_crowded(s, "who has not greeted");
	s->options.env->close(s->options.env->context, id); /* over the bound */
	if (node)
		sessions_dial_failed(s, node, now_ns);
}

void sessions_dial_failed(struct sessions *s, uint64_t node, uint64_t now_ns)
{
	struct known *k = find_known(s, node);
	if (!k)
		return;
	k->dialing = false;
	k->dial_next_ns = now_ns + s->redial_ns;
}

/* The connection is closed or about to be; frees the number after everybody heard of it. */
static void end_peer(struct sessions *s, uint32_t index, enum err why, uint64_t now_ns)
{
	struct peer *peer = &s->peers[index];
	assert(peer->used);
	const struct env *env = s->options.env;
	env_trace(env, "session with %s ends: %s", peer->info.name, err_text(why));
	struct known *k = find_known(s, peer->info.node);
	if (k)
		k->dial_next_ns = now_ns + s->redial_ns;
	s->conns[peer->conn].peer = PEER_NONE;
	if (!peer->fades_until_ns)
		env->link_close(env->context, peer->info.node);
	s->options.down(s->options.context, index, why);
	peer->used = false;
	s->peer_count--;
}

void sessions_end(struct sessions *s, uint32_t index, enum err why, uint64_t now_ns)
{
	if (!sessions_peer(s, index))
		return;
	struct conn *conn = &s->conns[s->peers[index].conn];
	end_peer(s, index, why, now_ns);
	drop_conn(s, conn);
}

static void conn_over(struct sessions *s, struct conn *conn, uint64_t now_ns)
{
	if (conn->dialed && conn->peer == PEER_NONE)
		sessions_dial_failed(s, conn->dialed, now_ns);
	if (conn->peer != PEER_NONE)
		end_peer(s, conn->peer, ERR_PEER_GONE, now_ns);
	conn->used = false;
}

void sessions_closed(struct sessions *s, uint32_t id, uint64_t now_ns)
{
	struct conn *conn = find_conn(s, id);
	if (!conn)
		return;
	struct known *turned_away = conn->dialed && conn->peer == PEER_NONE ? find_known(s, conn->dialed) : NULL;
	conn_over(s, conn, now_ns);
	/* Let in and not greeted: there was no room (rule 4).  It is not asked as often as who does not answer. */
	if (turned_away)
		turned_away->dial_next_ns = now_ns + FULL_REDIALS * s->redial_ns;
}

/* Why a greeting is refused, or OK. */
static enum err judge_hello(const struct sessions *s, const struct conn *conn, const Wire__Hello *hello)
{
	if (conn->peer != PEER_NONE)
		return ERR_PROTOCOL; /* a second Hello */
	if (hello->node == s->options.node || (conn->dialed && conn->dialed != hello->node))
		return ERR_MISMATCH;
	return ERR_OK;
}

static void outranked(struct sessions *s, uint64_t incarnation, bool lives)
{
	const struct env *env = s->options.env;
	if (incarnation > s->options.incarnation && env->outranked)
		env->outranked(env->context, incarnation, lives);
}

static bool is_alive(const struct sessions *s, const struct known *k)
{
	uint32_t index = sessions_find(s, k->node);
	return index != PEER_NONE && s->peers[index].info.incarnation == k->incarnation;
}

/* Tells a ghost, or the successor of one whose clock was ahead, which life of its name we know.  It closes then; a bare
 * close of ours might overtake the words.  Who does not close is closed after a term, like who does not greet. */
static void refuse(struct sessions *s, const struct conn *conn, const struct known *k)
{
	Wire__Refused refused = WIRE__REFUSED__INIT;
	refused.incarnation = k->incarnation;
	refused.lives = is_alive(s, k);
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.version = PROTO_VERSION;
	envelope.body_case = WIRE__ENVELOPE__BODY_REFUSED;
	envelope.refused = &refused;
	s->options.env->send(s->options.env->context, conn->id, &envelope);
}

static uint32_t free_peer(const struct sessions *s)
{
	for (uint32_t i = 0; i < s->options.peer_max; i++)
		if (!s->peers[i].used)
			return i;
	return PEER_NONE;
}

static void fill_peer(struct peer *peer, const Wire__Hello *hello, uint32_t conn_index, uint64_t now_ns)
{
	*peer = (struct peer){
		.used = true,
		.info = {.node = hello->node, .incarnation = hello->incarnation, .role = hello->role,
			 .weight = hello->weight, .replicas = hello->replicas},
		.conn = conn_index,
		.heard_ns = now_ns,
		.acknowledged_ns = now_ns,
		.beat_next_ns = now_ns,
	};
	peer->info.has_compat = hello->compat.len == PROTO_KEY_BYTES;
	if (peer->info.has_compat)
		memcpy(peer->info.compat.bytes, hello->compat.data, PROTO_KEY_BYTES);
	strncpy(peer->info.name, hello->name, SESSION_NAME_MAX);
}

/* Who dialled closes; we do not, where it dialled us: a close might overtake our Hello, by which it knows us too. */
static void turn_away(struct sessions *s, struct conn *conn, const Wire__Hello *hello, uint64_t now_ns)
{
	const struct env *env = s->options.env;
	uint32_t id = conn->id;
	env_trace(env, "refuse %s of cluster %s", hello->name, hello->cluster);
	if (env->stranger)
		env->stranger(env->context, hello->name, hello->cluster);
	conn->stranger = true;
	if (!conn->dialed)
		return;
	conn_over(s, conn, now_ns);
	env->close(env->context, id);
}

static void take_hello(struct sessions *s, struct conn *conn, const Wire__Hello *hello, uint64_t now_ns)
{
	const struct env *env = s->options.env;
	if (conn->peer == PEER_NONE && strcmp(hello->cluster, s->cluster) != 0) {
		turn_away(s, conn, hello, now_ns);
		return;
	}
	enum err e = judge_hello(s, conn, hello);
	struct known *k = e == ERR_OK ? add_known(s, hello->node) : NULL;
	if (k && hello->incarnation < k->incarnation && !planted(OLDER_INCARNATION_ACCEPTED)) {
		env_trace(env, "refuse %s: %s", hello->name, err_text(ERR_STALE));
		refuse(s, conn, k);
		return;
	}
	/* It knows a later life of ours: this process is the ghost, or its clock went back. */
	if (k && hello->peer_incarnation > s->options.incarnation) {
		outranked(s, hello->peer_incarnation, false);
		k = NULL;
		e = ERR_STALE;
	}
	if (!k) {
		env_trace(env, "refuse %s: %s", hello->name, err_text(e));
		uint32_t id = conn->id;
		conn_over(s, conn, now_ns); /* ends the session too where a second Hello came */
		env->close(env->context, id);
		return;
	}
	uint32_t old = sessions_find(s, hello->node);
	if (old != PEER_NONE)
		sessions_end(s, old, ERR_PEER_GONE, now_ns);
	uint32_t index = free_peer(s);
	if (index == PEER_NONE) {
		uint32_t id = conn->id;
		tell_crowded(s, hello->name);
		conn_over(s, conn, now_ns);
		env->close(env->context, id);
		return;
	}
	if (conn->ungreeted)
		send_hello(s, conn);
	k->incarnation = hello->incarnation;
	k->dialing = false; /* not before: else a second dial starts while the first one greets */
	fill_peer(&s->peers[index], hello, (uint32_t)(conn - s->conns), now_ns);
	conn->peer = index;
	s->peer_count++;
	env->link_open(env->context, hello->node, hello->incarnation, hello->link_address.data,
		       hello->link_address.len);
	s->options.up(s->options.context, index);
}

/* Its Hello may have come before: then we took the session for ours. */
static void take_refused(struct sessions *s, struct conn *conn, const Wire__Refused *refused, uint64_t now_ns)
{
	uint32_t id = conn->id;
	conn_over(s, conn, now_ns);
	s->options.env->close(s->options.env->context, id);
	outranked(s, refused->incarnation, refused->lives);
}

static void take_beat(struct peer *peer, const Wire__Beat *beat)
{
	if (beat->number > peer->beat_heard)
		peer->beat_heard = beat->number;
	bool remembered = beat->acknowledged <= peer->beat_number &&
			  beat->acknowledged + BEATS_REMEMBERED > peer->beat_number && beat->acknowledged > 0;
	if (!remembered)
		return;
	uint64_t sent_ns = peer->sent_ns[beat->acknowledged % BEATS_REMEMBERED];
	if (sent_ns > peer->acknowledged_ns)
		peer->acknowledged_ns = sent_ns;
}

void sessions_renew(struct sessions *s, uint64_t incarnation, const uint8_t *link_address, size_t link_address_length,
		    uint64_t now_ns)
{
	assert(incarnation > s->options.incarnation && link_address_length <= SESSION_ADDRESS_MAX);
	s->options.incarnation = incarnation;
	s->options.link_address_length = link_address_length;
	if (link_address_length)
		memcpy(s->link_address, link_address, link_address_length);
	for (uint32_t i = 0; i < s->options.peer_max; i++)
		sessions_end(s, i, ERR_STALE, now_ns);
	/* Who is still greeting has read the old number. */
	for (uint32_t i = 0; i < s->conn_max; i++) {
		struct conn *conn = &s->conns[i];
		if (!conn->used)
			continue;
		uint32_t id = conn->id;
		conn_over(s, conn, now_ns);
		s->options.env->close(s->options.env->context, id);
	}
}

uint32_t sessions_message(struct sessions *s, uint32_t id, const Wire__Envelope *envelope, uint64_t now_ns)
{
	struct conn *conn = find_conn(s, id);
	if (!conn || conn->stranger)
		return PEER_NONE;
	if (envelope->body_case == WIRE__ENVELOPE__BODY_HELLO) {
		take_hello(s, conn, envelope->hello, now_ns);
		return PEER_NONE;
	}
	if (envelope->body_case == WIRE__ENVELOPE__BODY_REFUSED) {
		take_refused(s, conn, envelope->refused, now_ns);
		return PEER_NONE;
	}
	if (conn->peer == PEER_NONE)
		return PEER_NONE;
	s->peers[conn->peer].heard_ns = now_ns;
	if (envelope->body_case != WIRE__ENVELOPE__BODY_BEAT)
		return conn->peer;
	take_beat(&s->peers[conn->peer], envelope->beat);
	return PEER_NONE;
}

void sessions_send(struct sessions *s, uint32_t index, const Wire__Envelope *envelope)
{
	assert(sessions_peer(s, index));
	s->options.env->send(s->options.env->context, s->conns[s->peers[index].conn].id, envelope);
}

static void send_beat(struct sessions *s, uint32_t index, uint64_t now_ns)
{
	struct peer *peer = &s->peers[index];
	peer->beat_number++;
	peer->sent_ns[peer->beat_number % BEATS_REMEMBERED] = now_ns;
	peer->beat_next_ns = now_ns + s->beat_ns;
	Wire__Beat beat = WIRE__BEAT__INIT;
	beat.number = peer->beat_number;
	beat.acknowledged = peer->beat_heard;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.version = PROTO_VERSION;
	envelope.body_case = WIRE__ENVELOPE__BODY_BEAT;
	envelope.beat = &beat;
	sessions_send(s, index, &envelope);
}

/* As a user we stop a margin before the term: our reads end.  As a holder we hold on for a margin after it, because the
 * peer, whose beats may reach us while ours do not reach it, counts like us.  A session that fades ends, also when
 * acknowledgements come again: its reads have been given up, a new one begins cleanly. */
static void tick_peer(struct sessions *s, uint32_t index, uint64_t now_ns)
{
	struct peer *peer = &s->peers[index];
	bool holder_over = now_ns >= peer->heard_ns + s->term_ns && !planted(HANG_NOT_DETECTED);
	if (holder_over || (peer->fades_until_ns && now_ns >= peer->fades_until_ns)) {
		sessions_end(s, index, ERR_DEADLINE, now_ns);
		return;
	}
	bool user_over = now_ns >= peer->acknowledged_ns + s->term_ns - s->margin_ns && !planted(HANG_NOT_DETECTED);
	if (!peer->fades_until_ns && user_over) {
		peer->fades_until_ns = now_ns + 2 * s->margin_ns;
		s->options.env->link_close(s->options.env->context, peer->info.node);
	}
	if (now_ns >= peer->beat_next_ns)
		send_beat(s, index, now_ns);
}

static void tick_known(struct sessions *s, struct known *k, uint64_t now_ns)
{
	if (!k->wanted || k->dialing || s->peer_count == s->options.peer_max || now_ns < k->dial_next_ns || sessions_find(s, k->node) != PEER_NONE)
		return;
	k->dialing = true;
	s->options.env->dial(s->options.env->context, k->node);
}

void sessions_tick(struct sessions *s, uint64_t now_ns)
{
	for (uint32_t i = 0; i < s->options.peer_max; i++)
		if (s->peers[i].used)
			tick_peer(s, i, now_ns);
	/* A connection that does not greet within a term is closed. */
	for (uint32_t i = 0; i < s->conn_max; i++) {
		struct conn *conn = &s->conns[i];
		if (!conn->used || conn->peer != PEER_NONE || now_ns < conn->opened_ns + s->term_ns)
			continue;
		if (conn->dialed)
			sessions_dial_failed(s, conn->dialed, now_ns);
		drop_conn(s, conn);
	}
	for (uint32_t i = 0; i < s->known_max; i++)
		if (s->known[i].node)
			tick_known(s, &s->known[i], now_ns);
}
