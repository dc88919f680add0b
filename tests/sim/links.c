/* links - in some seeds the first decode node cannot read the first prefill node: who has been told does not ask this pair (I14). */
#include <string.h>

#include "tests/sim/cluster_impl.h"

static uint32_t first_of(const struct cluster *c, Wire__Role role)
{
	for (uint32_t i = 0; i < c->member_count; i++)
		if (c->members[i].role == role)
			return i;
	return UINT32_MAX;
}

void links_refuse(struct cluster *c)
{
	if (c->options.refused_link)
		sim_refuse_link(c->sim, first_of(c, WIRE__ROLE__ROLE_DECODE), first_of(c, WIRE__ROLE__ROLE_PREFILL));
}

void links_begun(struct cluster *c, uint32_t who, uint32_t peer)
{
	if (peer == first_of(c, WIRE__ROLE__ROLE_DECODE))
		c->told_refused[who] = 0;
}

void links_heard(struct cluster *c, uint32_t from, uint32_t to, const Wire__Envelope *envelope)
{
	if (envelope->body_case != WIRE__ENVELOPE__BODY_LOAD || from != first_of(c, WIRE__ROLE__ROLE_DECODE))
		return;
	c->told_refused[to] = 0;
	for (size_t i = 0; i < envelope->load->n_transports; i++) {
		const Wire__Transport *transport = envelope->load->transports[i];
		if (strcmp(transport->name, ENV_LINK_REFUSED) == 0)
			c->told_refused[to] = transport->incarnation;
	}
}

void links_said(struct cluster *c, uint32_t from, uint32_t to, const Wire__Envelope *envelope)
{
	if (envelope->body_case != WIRE__ENVELOPE__BODY_RESERVE || !c->told_refused[from])
		return;
	const Wire__Reserve *reserve = envelope->reserve;
	const struct member *prefill = &c->members[first_of(c, WIRE__ROLE__ROLE_PREFILL)];
	if (to == first_of(c, WIRE__ROLE__ROLE_DECODE) && reserve->half == WIRE__HALF__HALF_DECODE && reserve->partner == prefill->node &&
	    reserve->partner_incarnation == c->told_refused[from])
		cluster_fail(c, "I14: %s asks %s to read %s, and was told that it cannot", c->members[from].name, c->members[to].name,
			     prefill->name);
}
