#include "net/claim.h"

static uint64_t sane(uint64_t number)
{
	return number < CLAIM_MAX ? number : 0;
}

static uint64_t above(uint64_t number, uint64_t beaten, uint64_t wall_ns)
{
	uint64_t next = (beaten > number ? beaten : number) + 1;
	return wall_ns > next ? wall_ns : next;
}

enum claim_verdict claim_judge(const struct claim *claim, uint64_t *ret_number)
{
	uint64_t stored = sane(claim->stored), beaten = sane(claim->beaten), wall_ns = sane(claim->wall_ns);
	uint64_t own = claim->mine && stored > claim->own ? stored : claim->own;
	*ret_number = own;
	if (!own) {
		*ret_number = above(stored, beaten, wall_ns);
		return CLAIM_TAKE;
	}
	if (stored > own || (stored == own && !claim->mine)) {
		*ret_number = stored;
		return CLAIM_LOST;
	}
	if (beaten > own) {
		*ret_number = above(own, beaten, wall_ns);
		return CLAIM_TAKE;
	}
	/* An emptied etcd, or an older life that wrote into it first: we say our number again. */
	return stored == own ? CLAIM_HELD : CLAIM_TAKE;
}
