/* kv_commands - what `baton kv` can do, one function each; what they share. */
#ifndef TOOLS_KV_COMMANDS_H
#define TOOLS_KV_COMMANDS_H
#include "base/options.h"
#include "tools/kv_client.h"

struct kv_settings {
	struct process_settings process;
	struct option_list stores;  /* names; none: all */
	struct option_list tenants; /* at most one; "-": of no tenant */
	uint64_t limit, timeout_s;
	bool hard, chain, as_json, all, evict, force;
	const struct option_list *words; /* the verb, then what it is about */
};

/* Each prints what it has to say; why says what went wrong.  ret_bad: it did its work, and found or left something bad. */
typedef enum err kv_command(struct kv_client *client, const struct kv_settings *settings, bool *ret_bad, struct why *why);
kv_command kv_stat, kv_ls, kv_get, kv_pin, kv_unpin, kv_evict, kv_verify, kv_export, kv_import;

/* Is the command about this store? */
bool kv_is_meant(const struct kv_client *client, const struct kv_settings *settings, uint32_t store);

/* Calls `page` for the blocks of each store that is meant, page by page; `answer` is good until it asks something. */
struct kv_pages {
	uint32_t page_max; /* blocks */
	void *context;
	/* *ret_enough: no further page is wanted. */
	enum err (*page)(void *context, uint32_t store, const Wire__KvAnswer *answer, bool *ret_enough, struct why *why);
};
MUST_USE enum err kv_each_page(struct kv_client *client, const struct kv_settings *settings, const struct kv_pages *pages,
			       struct why *why);

/* 32 digits and a 0. */
void kv_hex(const uint8_t *bytes, char ret_text[33]);
/* ERR_INVALID says what was expected. */
MUST_USE enum err kv_key_parse(const char *text, struct id128 *ret_key, struct why *why);
/* "12.5 MiB" */
const char *kv_size(uint64_t bytes, char ret_text[16]);
const char *kv_pin_text(Wire__KvPin pin);
#endif
