#include "coordinator/lead.h"

#include "base/planted.h"
#include "net/claim.h"

const char *lead_state_text(enum lead_state state)
{
	static const char *const texts[] = {"following", "claiming", "leading"};
	return texts[state];
}

static void step_down(struct lead *lead)
{
	lead->steps_down += lead->state == LEAD_LEADING;
	lead->state = LEAD_FOLLOWING;
	lead->epoch = 0;
	lead->candidacy = 0;
}

enum lead_action lead_elected(struct lead *lead, int64_t candidacy, uint64_t until_ns, uint64_t now_ns)
{
	if (candidacy == lead->candidacy)
		return LEAD_NOTHING;
	step_down(lead);
	if (now_ns >= until_ns)
		return LEAD_NOTHING;
	lead->state = LEAD_CLAIMING;
	lead->candidacy = candidacy;
	lead->until_ns = until_ns;
	return LEAD_CLAIM;
}

void lead_tick(struct lead *lead, uint64_t now_ns)
{
	if (lead->state != LEAD_FOLLOWING && now_ns >= lead->until_ns && !planted(TWO_COORDINATORS_LEADING))
		step_down(lead);
}

void lead_renewed(struct lead *lead, int64_t candidacy, uint64_t until_ns, uint64_t now_ns)
{
	lead_tick(lead, now_ns); /* rule 2: a renewal that is heard after the end does not undo it */
	if (candidacy == lead->candidacy && until_ns > lead->until_ns)
		lead->until_ns = until_ns;
}

void lead_deposed(struct lead *lead)
{
	step_down(lead);
}

enum lead_action lead_claimed(struct lead *lead, int64_t candidacy, uint64_t epoch, uint64_t now_ns)
{
	lead_tick(lead, now_ns);
	if (lead->state != LEAD_CLAIMING || candidacy != lead->candidacy || epoch <= lead->epoch)
		return LEAD_NOTHING;
	lead->state = LEAD_LEADING;
	lead->epoch = epoch;
	lead->terms++;
	return LEAD_BEGIN;
}

enum lead_action lead_beaten(struct lead *lead, uint64_t epoch, uint64_t now_ns)
{
	if (epoch >= CLAIM_MAX)
		return LEAD_NOTHING; /* garbage: no number is above it */
	if (epoch > lead->beaten)
		lead->beaten = epoch;
	lead_tick(lead, now_ns);
	if (lead->state != LEAD_LEADING || epoch < lead->epoch)
		return LEAD_NOTHING;
	/* In the same candidacy: nobody else leads, it is only the number that is too low. */
	lead->state = LEAD_CLAIMING;
	return LEAD_CLAIM;
}

uint64_t lead_epoch(const struct lead *lead, uint64_t now_ns)
{
	bool in_term = now_ns < lead->until_ns || planted(TWO_COORDINATORS_LEADING);
	return lead->state == LEAD_LEADING && in_term ? lead->epoch : 0;
}
