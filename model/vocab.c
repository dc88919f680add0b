#include "model/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "model/utf8.h"

/* The alphabet of GPT-2: bytes that print stand for themselves, the others for U+0100 and up in order. */
static bool prints(uint32_t byte)
{
	return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

uint32_t byte_level_char(uint8_t byte)
{
	if (prints(byte))
		return byte;
	/* The bytes that do not print: 0x00-0x20, 0x7f-0xa0, 0xad. */
	uint32_t order = byte <= 0x20 ? byte : byte <= 0xa0 ? byte - 0x7fu + 0x21u : 0x43u;
	return 0x100 + order;
}

int byte_level_byte(uint32_t c)
{
	if (c < 0x100)
		return prints(c) ? (int)c : -1;
	if (c <= 0x120)
		return (int)(c - 0x100);
	if (c <= 0x142)
		return (int)(c - 0x121 + 0x7f);
	return c == 0x143 ? 0xad : -1;
}

enum err byte_level_spell(struct buf *spelling, const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		enum err e = utf8_append(spelling, byte_level_char((uint8_t)bytes[i]));
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

static uint32_t *find_slot(const struct vocab *vocab, const char *spelling, size_t length)
{
	uint32_t mask = vocab->slot_count - 1;
	uint32_t at = (uint32_t)hash_xxh3(spelling, length, 0) & mask;
	for (;; at = (at + 1) & mask) {
		uint32_t id = vocab->slots[at];
		if (id == VOCAB_NONE)
			return &vocab->slots[at];
		const struct vocab_entry *entry = &vocab->entries[id];
		if (entry->spelling_length == length &&
		    memcmp(vocab->text.data + entry->spelling_at, spelling, length) == 0)
			return &vocab->slots[at];
	}
}

uint32_t vocab_find(const struct vocab *vocab, const char *spelling, size_t length)
{
	return vocab->slot_count ? *find_slot(vocab, spelling, length) : VOCAB_NONE;
}

const struct vocab_entry *vocab_entry(const struct vocab *vocab, uint32_t id)
{
	return id < vocab->id_limit && vocab->entries[id].used ? &vocab->entries[id] : NULL;
}

static enum err grow_slots(struct vocab *vocab)
{
	if ((uint64_t)vocab->used_count * 2 < vocab->slot_count)
		return ERR_OK;
	uint32_t count = vocab->slot_count ? vocab->slot_count * 2 : 1024;
	uint32_t *slots = malloc(count * sizeof(*slots));
	if (!slots)
		return ERR_NOMEM;
	memset(slots, 0xff, count * sizeof(*slots));
	free(vocab->slots);
	vocab->slots = slots;
	vocab->slot_count = count;
	for (uint32_t id = 0; id < vocab->id_limit; id++)
		if (vocab->entries[id].used)
			*find_slot(vocab, vocab->text.data + vocab->entries[id].spelling_at,
				   vocab->entries[id].spelling_length) = id;
	return ERR_OK;
}

static enum err grow_ids(struct vocab *vocab, uint32_t id)
{
	if (id < vocab->id_capacity)
		return ERR_OK;
	uint32_t capacity = vocab->id_capacity ? vocab->id_capacity : 1024;
	while (capacity <= id)
		capacity *= 2;
	struct vocab_entry *entries = realloc(vocab->entries, capacity * sizeof(*entries));
	if (!entries)
		return ERR_NOMEM;
	memset(entries + vocab->id_capacity, 0, (capacity - vocab->id_capacity) * sizeof(*entries));
	vocab->entries = entries;
	vocab->id_capacity = capacity;
	return ERR_OK;
}

enum err vocab_add(struct vocab *vocab, const char *spelling, size_t length, uint32_t id)
{
	if (id >= VOCAB_IDS_MAX || length > VOCAB_SPELLING_MAX)
		return ERR_TOO_LARGE;
	uint32_t same = vocab_find(vocab, spelling, length);
	if (same != VOCAB_NONE || vocab_entry(vocab, id))
		return same == id ? ERR_OK : ERR_EXISTS;
	enum err e = grow_ids(vocab, id);
	if (e == ERR_OK)
		e = grow_slots(vocab);
	if (e != ERR_OK)
		return e;
	struct vocab_entry entry = {.used = true, .spelling_at = (uint32_t)vocab->text.length};
	entry.spelling_length = (uint32_t)length;
	e = buf_append(&vocab->text, spelling, length);
	if (e == ERR_OK)
		e = buf_append(&vocab->text, "", 1);
	if (e != ERR_OK) {
		vocab->text.length = entry.spelling_at;
		return e;
	}
	entry.shown_at = entry.bytes_at = entry.spelling_at;
	entry.shown_length = entry.bytes_length = entry.spelling_length;
	vocab->entries[id] = entry;
	if (id >= vocab->id_limit)
		vocab->id_limit = id + 1;
	if (entry.spelling_length > vocab->spelling_longest)
		vocab->spelling_longest = entry.spelling_length;
	vocab->used_count++;
	*find_slot(vocab, spelling, length) = id;
	return ERR_OK;
}

static enum err put_text(struct vocab *vocab, const struct vocab_entry *entry, const char *text, size_t length,
			 uint32_t *ret_at)
{
	if (length == entry->spelling_length && memcmp(text, vocab->text.data + entry->spelling_at, length) == 0) {
		*ret_at = entry->spelling_at;
		return ERR_OK;
	}
	uint32_t at = (uint32_t)vocab->text.length;
	enum err e = buf_append(&vocab->text, text, length);
	if (e == ERR_OK)
		*ret_at = at;
	return e;
}

enum err vocab_set_shown(struct vocab *vocab, uint32_t id, const char *shown, size_t length)
{
	struct vocab_entry *entry = &vocab->entries[id];
	enum err e = put_text(vocab, entry, shown, length, &entry->shown_at);
	if (e == ERR_OK)
		entry->shown_length = (uint32_t)length;
	return e;
}

enum err vocab_set_bytes(struct vocab *vocab, uint32_t id, const char *bytes, size_t length)
{
	struct vocab_entry *entry = &vocab->entries[id];
	enum err e = put_text(vocab, entry, bytes, length, &entry->bytes_at);
	if (e == ERR_OK)
		entry->bytes_length = (uint32_t)length;
	return e;
}

void vocab_fini(struct vocab *vocab)
{
	buf_fini(&vocab->text);
	free(vocab->entries);
	free(vocab->slots);
	*vocab = (struct vocab){0};
}
