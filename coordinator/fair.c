#include "coordinator/fair.h"

#include <assert.h>
#include <string.h>

#define TAG_UNIT 1024u /* of a tag in one unit of cost at weight 1: weights up to 1000 still move it */

size_t fair_bytes(uint32_t tenants_max)
{
	return ((size_t)tenants_max + 1) * sizeof(struct fair_tenant);
}

void fair_init(struct fair *fair, void *memory, uint32_t tenants_max)
{
	memset(memory, 0, fair_bytes(tenants_max));
	*fair = (struct fair){.tenants = memory, .tenants_max = tenants_max};
	fair->tenants[tenants_max].used = true;
}

/* Places that were ever used, in order: `for (i = place_first(); i <= tenants_max; i = place_after(i))`. */
static uint32_t place_first(const struct fair *fair)
{
	return fair->tenants_seen ? 0 : fair->tenants_max;
}

static uint32_t place_after(const struct fair *fair, uint32_t place)
{
	return place + 1 == fair->tenants_seen ? fair->tenants_max : place + 1;
}

/* ---- tenants ---- */

static bool is_idle(const struct fair_tenant *tenant)
{
	return !tenant->waiting && !tenant->running;
}

static uint32_t weight_of(const struct fair_tenant *tenant)
{
	uint32_t weight = tenant->share.weight ? tenant->share.weight : 1;
	return weight < FAIR_WEIGHT_MAX ? weight : FAIR_WEIGHT_MAX;
}

static bool is_behind(const struct fair *fair, const struct fair_tenant *tenant)
{
	for (int c = 0; c < FAIR_CLASSES; c++)
		if (tenant->tag[c] > fair->virtual_time[c])
			return false;
	return true;
}

/* A free place, or that of an idle tenant: rather of one whose tag says nothing any more. */
static uint32_t place_for_new(const struct fair *fair)
{
	uint32_t idle = fair->tenants_max;
	if (fair->tenants_seen < fair->tenants_max)
		return fair->tenants_seen;
	for (uint32_t i = 0; i < fair->tenants_max; i++) {
		if (!is_idle(&fair->tenants[i]))
			continue;
		if (is_behind(fair, &fair->tenants[i]))
			return i;
		idle = i;
	}
	return idle;
}

static uint32_t find(const struct fair *fair, const char *name)
{
	for (uint32_t i = 0; i < fair->tenants_seen; i++)
		if (strcmp(fair->tenants[i].name, name) == 0)
			return i;
	return fair->tenants_max;
}

uint32_t fair_tenant(struct fair *fair, const char *name, const struct fair_share *share)
{
	assert(strnlen(name, FAIR_NAME_MAX + 1) <= FAIR_NAME_MAX);
	uint32_t index = find(fair, name);
	if (index == fair->tenants_max) {
		index = place_for_new(fair);
		if (index == fair->tenants_max)
			return index; /* shares the last one, which has no limits of its own */
		fair->tenants[index] = (struct fair_tenant){.used = true};
		strcpy(fair->tenants[index].name, name);
		if (index == fair->tenants_seen)
			fair->tenants_seen++;
	}
	fair->tenants[index].share = *share;
	return index;
}

bool fair_may_run(const struct fair *fair, uint32_t index)
{
	const struct fair_tenant *tenant = &fair->tenants[index];
	return !tenant->share.running_max || tenant->running < tenant->share.running_max;
}

/* ---- items ---- */

static uint64_t rank_of(const struct fair_item *item, uint64_t since_ns)
{
	uint64_t later = item->cost < FAIR_OVERTAKE_NS / FAIR_COST_NS ? item->cost * FAIR_COST_NS : FAIR_OVERTAKE_NS;
	return since_ns + later;
}

static void count(struct fair *fair, const struct fair_item *item, bool more)
{
	struct fair_tenant *tenant = &fair->tenants[item->tenant];
	struct fair_list *list = &tenant->list[item->class];
	uint32_t one = more ? 1u : UINT32_MAX;
	uint64_t cost = more ? item->cost : (uint64_t)0 - item->cost;
	tenant->waiting += one;
	fair->waiting += one;
	list->count += one;
	list->cost += cost;
	fair->cost[item->class] += cost;
}

/* What an end said about the cost comes off the tag, or on top of it. */
static void settle(struct fair *fair, struct fair_item *item, uint64_t cost)
{
	struct fair_tenant *tenant = &fair->tenants[item->tenant];
	uint64_t due = cost * TAG_UNIT / weight_of(tenant), *tag = &tenant->tag[item->class];
	if (due >= item->charged)
		*tag += due - item->charged;
	else
		*tag -= item->charged - due < *tag ? item->charged - due : *tag;
	item->charged = 0;
	item->running = false;
	tenant->running--;
}

void fair_wait(struct fair *fair, struct fair_item *item, uint64_t since_ns)
{
	assert(!item->waiting && item->class < FAIR_CLASSES && item->tenant <= fair->tenants_max);
	if (item->running)
		settle(fair, item, 0);
	struct fair_list *list = &fair->tenants[item->tenant].list[item->class];
	item->rank_ns = rank_of(item, since_ns);
	struct fair_item *after = list->last;
	while (after && after->rank_ns > item->rank_ns)
		after = after->prev;
	item->prev = after;
	item->next = after ? after->next : list->first;
	*(after ? &after->next : &list->first) = item;
	*(item->next ? &item->next->prev : &list->last) = item;
	item->waiting = true;
	count(fair, item, true);
}

void fair_leave(struct fair *fair, struct fair_item *item)
{
	assert(item->waiting);
	struct fair_tenant *tenant = &fair->tenants[item->tenant];
	struct fair_list *list = &tenant->list[item->class];
	*(item->prev ? &item->prev->next : &list->first) = item->next;
	*(item->next ? &item->next->prev : &list->last) = item->prev;
	item->prev = item->next = NULL;
	item->waiting = false;
	count(fair, item, false);
}

static uint64_t start_of(const struct fair *fair, const struct fair_tenant *tenant, uint8_t class)
{
	uint64_t now = fair->virtual_time[class];
	return tenant->tag[class] > now ? tenant->tag[class] : now;
}

void fair_run(struct fair *fair, struct fair_item *item)
{
	struct fair_tenant *tenant = &fair->tenants[item->tenant];
	uint64_t start = start_of(fair, tenant, item->class);
	fair_leave(fair, item);
	item->charged = item->cost * TAG_UNIT / weight_of(tenant);
	item->running = true;
	tenant->running++;
	tenant->tag[item->class] = start + item->charged;
	fair->virtual_time[item->class] = start;
}

void fair_end(struct fair *fair, struct fair_item *item, uint64_t cost)
{
	if (item->running)
		settle(fair, item, cost);
}

/* ---- the order ---- */

void fair_walk(struct fair *fair, uint8_t class)
{
	for (uint32_t i = place_first(fair); i <= fair->tenants_max; i = place_after(fair, i)) {
		struct fair_tenant *tenant = &fair->tenants[i];
		tenant->walk_next = tenant->list[class].first;
		tenant->walk_tag = start_of(fair, tenant, class);
	}
}

struct fair_item *fair_next(struct fair *fair)
{
	struct fair_tenant *best = NULL;
	for (uint32_t i = place_first(fair); i <= fair->tenants_max; i = place_after(fair, i)) {
		struct fair_tenant *tenant = &fair->tenants[i];
		if (tenant->walk_next && fair_may_run(fair, i) && (!best || tenant->walk_tag < best->walk_tag))
			best = tenant;
	}
	if (!best)
		return NULL;
	struct fair_item *item = best->walk_next;
	best->walk_next = item->next;
	best->walk_tag += item->cost * TAG_UNIT / weight_of(best);
	return item;
}

/* ---- what waits ---- */

uint64_t fair_ahead(const struct fair *fair, uint32_t index, uint8_t class, uint64_t cost)
{
	const struct fair_tenant *own = &fair->tenants[index];
	uint64_t ahead = 0, weights = weight_of(own);
	for (uint8_t c = 0; c < class; c++)
		ahead += fair->cost[c];
	for (uint32_t i = 0; i < fair->tenants_seen; i++)
		if (i != index && fair->tenants[i].list[class].count)
			weights += weight_of(&fair->tenants[i]);
	/* Others are served beside what is its own, in proportion; but not more than there is. */
	uint64_t mine = own->list[class].cost + cost, beside = mine * weights / weight_of(own);
	uint64_t all = fair->cost[class] + cost;
	return ahead + (beside < all ? beside : all) - cost;
}

/* Waiting items for the weight: 3 of weight 1 are more than 5 of weight 2. */
static bool waits_with_more(const struct fair_tenant *a, const struct fair_tenant *b)
{
	return (uint64_t)a->waiting * weight_of(b) > (uint64_t)b->waiting * weight_of(a);
}

/* Of equals it is the one that asks. */
static const struct fair_tenant *worst_of(const struct fair *fair, uint8_t class, uint32_t asking)
{
	const struct fair_tenant *own = &fair->tenants[asking], *worst = own->list[class].count ? own : NULL;
	for (uint32_t i = place_first(fair); i <= fair->tenants_max; i = place_after(fair, i)) {
		const struct fair_tenant *tenant = &fair->tenants[i];
		if (tenant->list[class].count && (!worst || waits_with_more(tenant, worst)))
			worst = tenant;
	}
	return worst;
}

struct fair_item *fair_victim(const struct fair *fair, struct fair_item *newcomer)
{
	assert(newcomer->waiting);
	for (uint8_t c = FAIR_CLASSES - 1; c > newcomer->class; c--) {
		const struct fair_tenant *worst = worst_of(fair, c, newcomer->tenant);
		if (worst)
			return worst->list[c].last;
	}
	const struct fair_tenant *worst = worst_of(fair, newcomer->class, newcomer->tenant);
	return worst == &fair->tenants[newcomer->tenant] ? newcomer : worst->list[newcomer->class].last;
}

/* ---- invariants ---- */

static void check_list(const struct fair *fair, uint32_t tenant, uint8_t class, uint64_t *cost, uint32_t *waiting)
{
	const struct fair_list *list = &fair->tenants[tenant].list[class];
	const struct fair_item *last = NULL;
	uint64_t sum = 0;
	uint32_t length = 0;
	for (const struct fair_item *item = list->first; item; item = item->next) {
		assert(item->waiting && !item->running && item->tenant == tenant && item->class == class);
		assert(item->prev == last && (!last || last->rank_ns <= item->rank_ns));
		sum += item->cost;
		length++;
		last = item;
	}
	assert(list->last == last && list->cost == sum && list->count == length);
	*cost += sum;
	*waiting += length;
}

void fair_check(const struct fair *fair)
{
	uint64_t cost[FAIR_CLASSES] = {0};
	uint32_t waiting = 0;
	for (uint32_t i = 0; i <= fair->tenants_max; i++) {
		uint32_t own = 0;
		for (uint8_t c = 0; c < FAIR_CLASSES; c++)
			check_list(fair, i, c, &cost[c], &own);
		assert(own == fair->tenants[i].waiting);
		waiting += own;
	}
	assert(waiting == fair->waiting && memcmp(cost, fair->cost, sizeof(cost)) == 0);
}
