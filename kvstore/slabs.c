#include "kvstore/slabs.h"

#include <assert.h>

#define CLASS_NONE UINT32_MAX

enum slot_use { SLOT_FREE, SLOT_TAKEN };

struct slab {
	uint32_t class_index; /* CLASS_NONE: no region */
	uint32_t taken;
	struct slab_region region;
};

struct size_class {
	uint32_t slot_bytes; /* 0: unused */
	uint32_t slab_count;
	uint32_t taken;
	uint32_t free_first; /* slot number; list through slots[].next */
};

struct slot {
	uint32_t prev, next; /* in its class's list of free slots */
	enum slot_use use;
};

struct slabs {
	struct slabs_options options;
	uint32_t slots_max; /* per slab */
	uint32_t last_class;
	uint32_t sizes; /* classes that have slabs */
	struct size_class classes[SLABS_CLASSES_MAX];
	struct slab *slabs; /* [slab_count] */
	struct slot *slots; /* [slab_count][slots_max]; of a slab as many as it has */
};

uint32_t slabs_slots_max(const struct slabs_options *options)
{
	return (uint32_t)(options->slab_bytes / options->slot_bytes_min);
}

uint32_t slabs_slot_total(const struct slabs_options *options)
{
	return options->slab_count * slabs_slots_max(options);
}

size_t slabs_bytes(const struct slabs_options *options)
{
	return sizeof(struct slabs) + options->slab_count * sizeof(struct slab) +
	       (size_t)slabs_slot_total(options) * sizeof(struct slot);
}

struct slabs *slabs_init(void *memory, const struct slabs_options *options)
{
	assert(options->slab_count > 0 && options->open && options->close);
	assert(options->slot_bytes_min > 0 && options->slot_bytes_min % SLABS_ALIGN_BYTES == 0);
	assert(options->slab_bytes >= options->slot_bytes_min);
	assert((uint64_t)options->slab_count * slabs_slots_max(options) < SLOT_NONE);
	struct slabs *s = memory;
	*s = (struct slabs){.options = *options, .slots_max = slabs_slots_max(options), .last_class = CLASS_NONE};
	s->slabs = (struct slab *)(s + 1);
	s->slots = (struct slot *)(s->slabs + options->slab_count);
	for (uint32_t i = 0; i < options->slab_count; i++)
		s->slabs[i] = (struct slab){.class_index = CLASS_NONE};
	for (uint32_t i = 0; i < SLABS_CLASSES_MAX; i++)
		s->classes[i].free_first = SLOT_NONE;
	return s;
}

static uint32_t slab_slots(const struct slabs *s, uint32_t class_index)
{
	return (uint32_t)(s->options.slab_bytes / s->classes[class_index].slot_bytes);
}

static void push_free(struct slabs *s, struct size_class *class, uint32_t slot)
{
	s->slots[slot] = (struct slot){.prev = SLOT_NONE, .next = class->free_first, .use = SLOT_FREE};
	if (class->free_first != SLOT_NONE)
		s->slots[class->free_first].prev = slot;
	class->free_first = slot;
}

static void unlink_free(struct slabs *s, struct size_class *class, uint32_t slot)
{
	const struct slot *at = &s->slots[slot];
	assert(at->use == SLOT_FREE);
	if (at->prev != SLOT_NONE)
		s->slots[at->prev].next = at->next;
	else
		class->free_first = at->next;
	if (at->next != SLOT_NONE)
		s->slots[at->next].prev = at->prev;
}

static enum err open_slab(struct slabs *s, uint32_t slab, uint32_t class_index)
{
	struct size_class *class = &s->classes[class_index];
	uint32_t count = slab_slots(s, class_index);
	enum err e = s->options.open(s->options.context, slab, class->slot_bytes, count, &s->slabs[slab].region);
	if (e != ERR_OK)
		return e;
	s->slabs[slab].class_index = class_index;
	s->slabs[slab].taken = 0;
	s->sizes += class->slab_count++ == 0;
	s->last_class = class_index;
	for (uint32_t i = count; i-- > 0;)
		push_free(s, class, slab * s->slots_max + i);
	return ERR_OK;
}

/* All its slots are free: it may become anything again. */
static void close_slab(struct slabs *s, uint32_t slab)
{
	uint32_t class_index = s->slabs[slab].class_index;
	struct size_class *class = &s->classes[class_index];
	assert(s->slabs[slab].taken == 0);
	for (uint32_t i = 0; i < slab_slots(s, class_index); i++)
		unlink_free(s, class, slab * s->slots_max + i);
	s->sizes -= --class->slab_count == 0;
	s->slabs[slab].class_index = CLASS_NONE;
	s->options.close(s->options.context, slab);
}

enum err slabs_class(struct slabs *s, uint32_t block_bytes, uint32_t *ret_class)
{
	uint64_t rounded = ((uint64_t)block_bytes + SLABS_ALIGN_BYTES - 1) / SLABS_ALIGN_BYTES * SLABS_ALIGN_BYTES;
	uint32_t slot_bytes = rounded < s->options.slot_bytes_min ? s->options.slot_bytes_min : (uint32_t)rounded;
	if (rounded > s->options.slab_bytes)
		return ERR_TOO_LARGE;
	uint32_t unused = CLASS_NONE;
	for (uint32_t i = 0; i < SLABS_CLASSES_MAX; i++) {
		if (s->classes[i].slot_bytes == slot_bytes) {
			*ret_class = i;
			return ERR_OK;
		}
		if (s->classes[i].slab_count == 0 && (unused == CLASS_NONE || s->classes[i].slot_bytes == 0))
			unused = i;
	}
	if (unused == CLASS_NONE)
		return ERR_AGAIN;
	s->classes[unused] = (struct size_class){.slot_bytes = slot_bytes, .free_first = SLOT_NONE};
	*ret_class = unused;
	return ERR_OK;
}

/* A slab without a class, or an empty one of another class. */
static enum err find_slab(struct slabs *s, uint32_t class_index)
{
	for (uint32_t i = 0; i < s->options.slab_count; i++)
		if (s->slabs[i].class_index == CLASS_NONE)
			return open_slab(s, i, class_index);
	for (uint32_t i = 0; i < s->options.slab_count; i++) {
		if (s->slabs[i].taken > 0)
			continue;
		close_slab(s, i);
		return open_slab(s, i, class_index);
	}
	return ERR_AGAIN;
}

enum err slabs_take(struct slabs *s, uint32_t class_index, uint32_t *ret_slot)
{
	struct size_class *class = &s->classes[class_index];
	assert(class->slot_bytes > 0);
	if (class->free_first == SLOT_NONE) {
		enum err e = find_slab(s, class_index);
		if (e != ERR_OK)
			return e;
	}
	uint32_t slot = class->free_first;
	struct slab *slab = &s->slabs[slot / s->slots_max];
	unlink_free(s, class, slot);
	s->slots[slot].use = SLOT_TAKEN;
	slab->taken++;
	class->taken++;
	/* Readers on this host look at it while we do: whole, and before the first new byte. */
	uint64_t *generation = &slab->region.generations[slot % s->slots_max];
	__atomic_store_n(generation, *generation + 1, __ATOMIC_SEQ_CST);
	*ret_slot = slot;
	return ERR_OK;
}

void slabs_give(struct slabs *s, uint32_t slot)
{
	struct slab *slab = &s->slabs[slot / s->slots_max];
	struct size_class *class = &s->classes[slab->class_index];
	assert(s->slots[slot].use == SLOT_TAKEN);
	slab->taken--;
	class->taken--;
	push_free(s, class, slot);
}

bool slabs_taken(const struct slabs *s, uint32_t slot)
{
	const struct slab *slab = &s->slabs[slot / s->slots_max];
	bool there = slab->class_index != CLASS_NONE && slot % s->slots_max < slab_slots(s, slab->class_index);
	return there && s->slots[slot].use == SLOT_TAKEN;
}

uint32_t slabs_slot_slab(const struct slabs *s, uint32_t slot)
{
	return slot / s->slots_max;
}

uint32_t slabs_slot_class(const struct slabs *s, uint32_t slot)
{
	return s->slabs[slot / s->slots_max].class_index;
}

uint32_t slabs_slab_class(const struct slabs *s, uint32_t slab)
{
	return s->slabs[slab].class_index;
}

uint32_t slabs_class_slots(const struct slabs *s, uint32_t class_index)
{
	return s->classes[class_index].slot_bytes ? s->classes[class_index].slab_count * slab_slots(s, class_index) : 0;
}

uint32_t slabs_class_free(const struct slabs *s, uint32_t class_index)
{
	return slabs_class_slots(s, class_index) - s->classes[class_index].taken;
}

uint32_t slabs_class_slabs(const struct slabs *s, uint32_t class_index)
{
	return s->classes[class_index].slab_count;
}

uint32_t slabs_class_slab_slots(const struct slabs *s, uint32_t class_index)
{
	return slab_slots(s, class_index);
}

uint32_t slabs_sizes(const struct slabs *s)
{
	return s->sizes;
}

uint32_t slabs_slot_bytes(const struct slabs *s, uint32_t class_index)
{
	return s->classes[class_index].slot_bytes;
}

uint32_t slabs_slots(const struct slabs *s)
{
	uint32_t count = 0;
	uint32_t opened = 0;
	for (uint32_t i = 0; i < SLABS_CLASSES_MAX; i++) {
		count += slabs_class_slots(s, i);
		opened += s->classes[i].slab_count;
	}
	uint32_t per_slab = s->last_class == CLASS_NONE ? 1 : slab_slots(s, s->last_class);
	return count + (s->options.slab_count - opened) * per_slab;
}

uint32_t slabs_free(const struct slabs *s)
{
	uint32_t taken = 0;
	for (uint32_t i = 0; i < SLABS_CLASSES_MAX; i++)
		taken += s->classes[i].taken;
	return slabs_slots(s) - taken;
}

void slabs_expect_place(const struct slabs *s, uint32_t slot)
{
	__builtin_prefetch(&s->slots[slot]);
	__builtin_prefetch(&s->slabs[slot / s->slots_max].region.generations[slot % s->slots_max]);
}

void slabs_place(const struct slabs *s, uint32_t slot, struct slot_place *ret_place)
{
	const struct slab *slab = &s->slabs[slot / s->slots_max];
	assert(s->slots[slot].use == SLOT_TAKEN);
	*ret_place = (struct slot_place){
		.region = slab->region.region,
		.offset = (uint64_t)(slot % s->slots_max) * s->classes[slab->class_index].slot_bytes,
		.generation = slab->region.generations[slot % s->slots_max],
	};
}

static void check_class(const struct slabs *s, uint32_t class_index)
{
	const struct size_class *class = &s->classes[class_index];
	uint32_t free = 0;
	for (uint32_t slot = class->free_first; slot != SLOT_NONE; slot = s->slots[slot].next) {
		assert(s->slots[slot].use == SLOT_FREE && slabs_slot_class(s, slot) == class_index);
		free++;
	}
	assert(free + class->taken == slabs_class_slots(s, class_index));
}

void slabs_check(const struct slabs *s)
{
	uint32_t sizes = 0;
	for (uint32_t i = 0; i < SLABS_CLASSES_MAX; i++) {
		check_class(s, i);
		sizes += s->classes[i].slab_count > 0;
	}
	assert(sizes == s->sizes);
	for (uint32_t i = 0; i < s->options.slab_count; i++) {
		uint32_t taken = 0;
		for (uint32_t j = 0; j < s->slots_max; j++)
			taken += slabs_taken(s, i * s->slots_max + j);
		assert(s->slabs[i].class_index == CLASS_NONE ? taken == 0 : taken == s->slabs[i].taken);
	}
}
