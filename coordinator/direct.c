/* direct - directives: what the coordinator that leads says to nodes.  Wishes are levels, not events: said again until the
 * node's reports show them, so a lost message costs a second and a repeated one nothing. */
#include <assert.h>
#include <string.h>

#include "coordinator/core_impl.h"

#define SAY_AGAIN_NS 1000000000ull

static void enter(struct coord *coord, uint64_t now_ns)
{
	assert(!coord->in_hook && now_ns >= coord->now_ns);
	coord->now_ns = now_ns;
}

/* Rule 1 of lead.h: whoever sends asks with the time of the send. */
static bool send_directive(struct coord *coord, uint32_t node, Wire__DirectiveKind kind, uint64_t now_ns)
{
	uint64_t epoch = lead_epoch(&coord->lead, now_ns);
	if (!epoch || !node_lives(core_node(coord, node)))
		return false;
	Wire__Directive directive = WIRE__DIRECTIVE__INIT;
	directive.epoch = epoch;
	directive.kind = kind;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
	envelope.body_case = WIRE__ENVELOPE__BODY_DIRECTIVE;
	envelope.directive = &directive;
	core_send(coord, node, &envelope);
	coord->directives_sent++;
	return true;
}

/* Everybody hears of a new epoch at once: from then on nobody takes an older one. */
static void act(struct coord *coord, enum lead_action action, uint64_t now_ns)
{
	const struct coord_options *o = &coord->options;
	if (action == LEAD_CLAIM && o->claim_epoch)
		o->claim_epoch(o->lead_context, coord->lead.candidacy, coord->lead.beaten);
	if (action != LEAD_BEGIN)
		return;
	env_trace(o->env, "coordinator > leads with epoch %llu", (unsigned long long)coord->lead.epoch);
	for (uint32_t i = 0; i < coord->registry.count_max; i++)
		send_directive(coord, i, WIRE__DIRECTIVE_KIND__DIRECTIVE_LEAD, now_ns);
}

void coord_lead_elected(struct coord *coord, int64_t candidacy, uint64_t until_ns, uint64_t now_ns)
{
	enter(coord, now_ns);
	act(coord, lead_elected(&coord->lead, candidacy, until_ns, now_ns), now_ns);
}

void coord_lead_renewed(struct coord *coord, int64_t candidacy, uint64_t until_ns, uint64_t now_ns)
{
	enter(coord, now_ns);
	lead_renewed(&coord->lead, candidacy, until_ns, now_ns);
}

static void forget_wishes(struct coord *coord)
{
	for (uint32_t i = 0; i < coord->registry.count_max; i++)
		core_node(coord, i)->wish = COORD_WISH_NONE;
}

void coord_lead_deposed(struct coord *coord, uint64_t now_ns)
{
	enter(coord, now_ns);
	lead_deposed(&coord->lead);
	forget_wishes(coord);
}

void coord_lead_claimed(struct coord *coord, int64_t candidacy, uint64_t epoch, uint64_t now_ns)
{
	enter(coord, now_ns);
	act(coord, lead_claimed(&coord->lead, candidacy, epoch, now_ns), now_ns);
}

void direct_node_up(struct coord *coord, uint32_t node, uint64_t now_ns)
{
	core_node(coord, node)->wished_ns = 0;
	send_directive(coord, node, WIRE__DIRECTIVE_KIND__DIRECTIVE_LEAD, now_ns);
}

void direct_done(struct coord *coord, const Wire__DirectiveDone *done, uint64_t now_ns)
{
	if (done->error != ERR_STALE)
		return;
	coord->directives_refused++;
	act(coord, lead_beaten(&coord->lead, done->epoch, now_ns), now_ns);
}

static void wish_tick(struct coord *coord, uint32_t index, uint64_t now_ns)
{
	struct registry_node *node = core_node(coord, index);
	bool drains = node->wish == COORD_WISH_DRAIN;
	if (!node->id || node->wish == COORD_WISH_NONE || !node_lives(node))
		return;
	if (node->wished_ns && node->load_ns > node->wished_ns && node->draining == drains)
		return; /* a report from after it shows it */
	if (node->wished_ns && now_ns < node->wished_ns + SAY_AGAIN_NS * coord->options.time_factor)
		return;
	Wire__DirectiveKind kind = drains ? WIRE__DIRECTIVE_KIND__DIRECTIVE_DRAIN : WIRE__DIRECTIVE_KIND__DIRECTIVE_UNDRAIN;
	if (send_directive(coord, index, kind, now_ns))
		node->wished_ns = now_ns;
}

void direct_tick(struct coord *coord, uint64_t now_ns)
{
	enum lead_state before = coord->lead.state;
	lead_tick(&coord->lead, now_ns);
	if (before == LEAD_LEADING && coord->lead.state == LEAD_FOLLOWING) {
		env_trace(coord->options.env, "coordinator > leads no longer: the term is over");
		forget_wishes(coord);
	}
	for (uint32_t i = 0; lead_epoch(&coord->lead, now_ns) && i < coord->registry.count_max; i++)
		wish_tick(coord, i, now_ns);
}

enum err coord_direct(struct coord *coord, const char *name, enum coord_wish wish, uint64_t now_ns, struct why *why)
{
	enter(coord, now_ns);
	if (!lead_epoch(&coord->lead, now_ns))
		return why_set(why, ERR_STALE, "this coordinator does not lead");
	for (uint32_t i = 0; i < coord->registry.count_max; i++) {
		struct registry_node *node = core_node(coord, i);
		if (!node->id || strcmp(node->announced.name, name) != 0)
			continue;
		if (!node_lives(node))
			return why_set(why, ERR_UNAVAILABLE, "no session with node %s now", name);
		node->wish = wish;
		node->wished_ns = 0;
		wish_tick(coord, i, now_ns);
		return ERR_OK;
	}
	return why_set(why, ERR_NOT_FOUND, "no node of the name %s", name);
}

void coord_lead(const struct coord *coord, uint64_t now_ns, struct coord_lead *ret_lead)
{
	*ret_lead = (struct coord_lead){
		.state = lead_state_text(coord->lead.state),
		.epoch = lead_epoch(&coord->lead, now_ns),
		.terms = coord->lead.terms,
		.steps_down = coord->lead.steps_down,
		.directives_sent = coord->directives_sent,
		.directives_refused = coord->directives_refused,
	};
}
