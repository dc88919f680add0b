/* baton kv: what the stores of a cluster hold, and what an operator wants of it. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "tools/commands.h"
#include "tools/kv_commands.h"

enum { KV_OPTIONS = 10 };

static const struct {
	const char *name;
	kv_command *run;
	uint32_t words_min, words_max; /* after the verb */
	const char *words, *help;
} verbs[] = {
	{"stat", kv_stat, 0, 0, "", "what each store has, how often it was found, and what each tenant has"},
	{"ls", kv_ls, 0, 0, "", "blocks, a line each"},
	{"get", kv_get, 1, OPTION_LIST_MAX, "KEY…", "all that is known of a block, and which stores have it"},
	{"pin", kv_pin, 1, OPTION_LIST_MAX, "KEY…", "it goes after all others; --hard: it stays; --chain: what stands before it too"},
	{"unpin", kv_unpin, 1, OPTION_LIST_MAX, "KEY…", "no more"},
	{"evict", kv_evict, 0, OPTION_LIST_MAX, "KEY…", "away with it; --tenant NAME: all of a tenant; --all: all"},
	{"verify", kv_verify, 0, 0, "", "reads every block as an engine would and compares digests; --evict: away with bad ones"},
	{"export", kv_export, 1, 1, "FILE", "blocks into a file"},
	{"import", kv_import, 1, 1, "FILE", "and from there into the stores of this cluster"},
};

enum { VERBS = sizeof(verbs) / sizeof(verbs[0]) };

void kv_hex(const uint8_t *bytes, char ret_text[33])
{
	for (int i = 0; i < PROTO_KEY_BYTES; i++)
		snprintf(ret_text + 2 * i, 3, "%02x", bytes[i]);
}

enum err kv_key_parse(const char *text, struct id128 *ret_key, struct why *why)
{
	struct id128 key;
	if (strlen(text) != 32 || strspn(text, "0123456789abcdefABCDEF") != 32)
		return why_set(why, ERR_INVALID, "\"%s\" is no key: expected 32 hexadecimal digits, as `baton kv ls` prints them", text);
	for (int i = 0; i < PROTO_KEY_BYTES; i++) {
		unsigned byte;
		sscanf(text + 2 * i, "%2x", &byte);
		key.bytes[i] = (uint8_t)byte;
	}
	*ret_key = key;
	return ERR_OK;
}

const char *kv_size(uint64_t bytes, char ret_text[16])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double size = (double)bytes;
	int unit = 0;
	for (; size >= 1024 && unit < 4; unit++)
		size /= 1024;
	snprintf(ret_text, 16, unit ? "%.1f %s" : "%.0f %s", size, units[unit]);
	return ret_text;
}

const char *kv_pin_text(Wire__KvPin pin)
{
	return pin == WIRE__KV_PIN__KV_PINNED_HARD ? "hard" : pin == WIRE__KV_PIN__KV_PINNED_SOFT ? "soft" : "-";
}

bool kv_is_meant(const struct kv_client *client, const struct kv_settings *s, uint32_t store)
{
	for (size_t i = 0; i < s->stores.count; i++)
		if (strcmp(s->stores.items[i], kv_client_name(client, store)) == 0)
			return true;
	return s->stores.count == 0;
}

static enum err pages_of(struct kv_client *client, const struct kv_settings *s, uint32_t store, const struct kv_pages *pages,
			 bool *ret_enough, struct why *why)
{
	Wire__KvAsk ask = WIRE__KV_ASK__INIT;
	ask.verb = WIRE__KV_VERB__KV_LIST;
	ask.limit = pages->page_max;
	ask.one_tenant = s->tenants.count > 0;
	ask.tenant = (char *)(ask.one_tenant && strcmp(s->tenants.items[0], "-") != 0 ? s->tenants.items[0] : "");
	struct id128 after;
	enum err e = ERR_OK;
	do {
		const Wire__KvAnswer *answer;
		e = kv_client_ask(client, store, &ask, &answer, why);
		if (e == ERR_OK) {
			ask.after = (ProtobufCBinaryData){answer->after.len, after.bytes};
			if (answer->after.len)
				memcpy(after.bytes, answer->after.data, PROTO_KEY_BYTES);
			e = pages->page(pages->context, store, answer, ret_enough, why);
		}
	} while (e == ERR_OK && ask.after.len && !*ret_enough);
	return e;
}

enum err kv_each_page(struct kv_client *client, const struct kv_settings *s, const struct kv_pages *pages, struct why *why)
{
	bool enough = false;
	for (uint32_t i = 0; i < kv_client_stores(client) && !enough; i++) {
		enum err e = kv_is_meant(client, s, i) ? pages_of(client, s, i, pages, &enough, why) : ERR_OK;
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

/* ---- stat */

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

static uint64_t found_of(const Wire__StoreLoad *load)
{
	uint64_t found = 0;
	for (size_t i = 0; i < load->n_tiers; i++)
		found += load->tiers[i]->keys_found;
	return found;
}

static void print_tiers(const Wire__StoreLoad *load)
{
	char bytes[16];
	for (size_t i = 0; i < load->n_tiers; i++)
		printf("  found in %s: %llu of %llu keys asked for (%.1f %%), %s\n", load->tiers[i]->name,
		       (unsigned long long)load->tiers[i]->keys_found, (unsigned long long)load->keys_asked,
		       percent(load->tiers[i]->keys_found, load->keys_asked), kv_size(load->tiers[i]->bytes_found, bytes));
}

static void print_tenant(const Wire__TenantLoad *t)
{
	char bytes[16], quota[16];
	printf("  tenant %-24s %8u blocks %10s of %-10s found %llu of %llu (%.1f %%), refused %llu, evicted %llu\n",
	       t->name[0] ? t->name : "(none)", t->blocks, kv_size(t->bytes, bytes), t->limited ? kv_size(t->quota_bytes, quota) : "no quota",
	       (unsigned long long)t->keys_found, (unsigned long long)t->keys_asked, percent(t->keys_found, t->keys_asked),
	       (unsigned long long)t->refused, (unsigned long long)t->evicted);
}

static void print_disk(const Wire__DiskLoad *disk)
{
	char used[16], total[16], lag[16], stored[16], plain[16];
	printf("  disk: %llu blocks, %s of %s%s; behind by %u blocks, %s; unwritten %llu, failed operations %llu\n",
	       (unsigned long long)disk->blocks, kv_size(disk->bytes_used, used), kv_size(disk->bytes_total, total),
	       disk->ready ? "" : ", index not back yet", disk->lag, kv_size(disk->lag_bytes, lag), (unsigned long long)disk->unwritten,
	       (unsigned long long)disk->errors);
	/* What encoding saves there. */
	if (disk->bytes_stored > 0)
		printf("  blocks on disk: %s, encoded to %s, %.2f times smaller\n", kv_size(disk->bytes_plain, plain),
		       kv_size(disk->bytes_stored, stored), (double)disk->bytes_plain / (double)disk->bytes_stored);
	if (disk->stopped)
		printf("  disk: writing stopped: %s\n", err_text((enum err)disk->stopped));
}

static void print_copies(const Wire__ReplicaLoad *copies)
{
	char lag[16], made[16];
	printf("  copies: %llu missing, %u in flight; behind by %llu blocks, %s; made %llu, %s; given up %llu; %u spare blocks\n",
	       (unsigned long long)copies->missing, copies->in_flight, (unsigned long long)copies->lag_blocks,
	       kv_size(copies->lag_bytes, lag), (unsigned long long)copies->copies, kv_size(copies->copied_bytes, made),
	       (unsigned long long)copies->given_up, copies->spare);
}

static void print_store(const char *name, const Wire__Load *all)
{
	const Wire__StoreLoad *load = all->store;
	char bytes[16], total[16], pinned[16], pinned_max[16], lag[16];
	printf("%s%s: %s of %s, eviction policy %s\n", name, all->draining ? " (draining)" : "", kv_size(load->bytes, bytes),
	       kv_size(load->bytes_total, total), load->policy);
	print_tiers(load);
	printf("  offers: %llu, taken %llu, there already %llu, refused %llu; behind by %u blocks, %s, %.1f s\n",
	       (unsigned long long)load->offers, (unsigned long long)load->offers_taken, (unsigned long long)load->offers_existing,
	       (unsigned long long)load->offers_refused, load->lag_blocks, kv_size(load->lag_bytes, lag), (double)load->lag_ns * 1e-9);
	printf("  evicted:");
	for (size_t i = 0; i < load->n_evicted; i++)
		printf("%s %llu for %s", i ? "," : "", (unsigned long long)load->evicted[i]->blocks, load->evicted[i]->reason);
	printf("\n  pinned: %u softly, %u hard, %s of %s\n", load->pinned_soft, load->pinned_hard, kv_size(load->bytes_pinned, pinned),
	       kv_size(load->bytes_pinned_max, pinned_max));
	if (all->disk)
		print_disk(all->disk);
	if (all->replica)
		print_copies(all->replica);
	for (size_t i = 0; i < load->n_tenants; i++)
		print_tenant(load->tenants[i]);
}

/* As in metrics (docs/operate.md). */
static json_t *json_disk(const Wire__DiskLoad *d)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:b, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "blocks", (json_int_t)d->blocks, "bytes_used",
			 (json_int_t)d->bytes_used, "bytes_total", (json_int_t)d->bytes_total, "bytes_stored", (json_int_t)d->bytes_stored,
			 "bytes_plain", (json_int_t)d->bytes_plain, "ready", (int)d->ready, "stopped",
			 d->stopped ? err_name((enum err)d->stopped) : "", "lag_blocks", (int)d->lag, "lag_bytes", (json_int_t)d->lag_bytes,
			 "unwritten", (json_int_t)d->unwritten, "loads", (json_int_t)d->loads, "loads_failed", (json_int_t)d->loads_failed,
			 "gone_bad", (json_int_t)d->gone_bad, "errors", (json_int_t)d->errors);
}

static json_t *json_copies(const Wire__ReplicaLoad *c)
{
	return json_pack("{s:I, s:i, s:I, s:I, s:I, s:I, s:I, s:i}", "missing", (json_int_t)c->missing, "in_flight", (int)c->in_flight,
			 "lag_blocks", (json_int_t)c->lag_blocks, "lag_bytes", (json_int_t)c->lag_bytes, "made", (json_int_t)c->copies,
			 "bytes_made", (json_int_t)c->copied_bytes, "given_up", (json_int_t)c->given_up, "spare", (int)c->spare);
}

static json_t *json_tenant(const Wire__TenantLoad *t)
{
	json_t *object = json_pack("{s:s, s:I, s:i, s:I, s:I, s:I, s:I, s:I}", "tenant", t->name, "bytes", (json_int_t)t->bytes, "blocks",
				   (int)t->blocks, "keys_asked", (json_int_t)t->keys_asked, "keys_found", (json_int_t)t->keys_found,
				   "bytes_found", (json_int_t)t->bytes_found, "refused", (json_int_t)t->refused, "evicted",
				   (json_int_t)t->evicted);
	if (t->limited)
		json_object_set_new(object, "quota_bytes", json_integer((json_int_t)t->quota_bytes));
	return object;
}

static void print_json(const char *name, const Wire__Load *all)
{
	const Wire__StoreLoad *load = all->store;
	json_t *evicted = json_object(), *tiers = json_object(), *tenants = json_array();
	for (size_t i = 0; i < load->n_evicted; i++)
		json_object_set_new(evicted, load->evicted[i]->reason, json_integer((json_int_t)load->evicted[i]->blocks));
	for (size_t i = 0; i < load->n_tiers; i++)
		json_object_set_new(tiers, load->tiers[i]->name,
				    json_pack("{s:I, s:I}", "keys_found", (json_int_t)load->tiers[i]->keys_found, "bytes_found",
					      (json_int_t)load->tiers[i]->bytes_found));
	for (size_t i = 0; i < load->n_tenants; i++)
		json_array_append_new(tenants, json_tenant(load->tenants[i]));
	json_t *object = json_pack(
		"{s:s, s:b, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:I, s:f, s:o}", "store", name,
		"draining", (int)all->draining, "policy", load->policy, "bytes", (json_int_t)load->bytes, "bytes_total",
		(json_int_t)load->bytes_total, "keys_asked", (json_int_t)load->keys_asked, "keys_found", (json_int_t)found_of(load), "tiers",
		tiers, "evicted", evicted, "pinned_soft", (int)load->pinned_soft, "pinned_hard", (int)load->pinned_hard, "bytes_pinned",
		(json_int_t)load->bytes_pinned, "bytes_pinned_max", (json_int_t)load->bytes_pinned_max, "offers", (json_int_t)load->offers,
		"offers_taken", (json_int_t)load->offers_taken, "offers_existing", (json_int_t)load->offers_existing, "offers_refused",
		(json_int_t)load->offers_refused, "lag_blocks", (int)load->lag_blocks, "lag_bytes", (json_int_t)load->lag_bytes, "lag_seconds",
		(double)load->lag_ns * 1e-9, "tenants", tenants);
	if (all->disk)
		json_object_set_new(object, "disk", json_disk(all->disk));
	if (all->replica)
		json_object_set_new(object, "copies", json_copies(all->replica));
	json_dumpf(object, stdout, JSON_COMPACT);
	printf("\n");
	json_decref(object);
}

enum err kv_stat(struct kv_client *client, const struct kv_settings *s, bool *ret_bad, struct why *why)
{
	for (uint32_t i = 0; i < kv_client_stores(client); i++) {
		Wire__KvAsk ask = WIRE__KV_ASK__INIT;
		const Wire__KvAnswer *answer;
		if (!kv_is_meant(client, s, i))
			continue;
		enum err e = kv_client_ask(client, i, &ask, &answer, why);
		if (e == ERR_OK && (!answer->load || !answer->load->store))
			e = why_set(why, ERR_PROTOCOL, "%s does not say what it has", kv_client_name(client, i));
		if (e == ERR_OK && s->as_json)
			print_json(kv_client_name(client, i), answer->load);
		else if (e == ERR_OK)
			print_store(kv_client_name(client, i), answer->load);
		if (e != ERR_OK && e != ERR_PEER_GONE && e != ERR_DEADLINE)
			return e;
		if (e == ERR_OK)
			continue;
		fprintf(stderr, "baton kv stat: %s: %s\n", kv_client_name(client, i), why->text); /* the others may well answer */
		*ret_bad = true;
	}
	return ERR_OK;
}

/* ---- the command */

static int find_verb(const struct kv_settings *s, struct why *why)
{
	const char *names[VERBS];
	const char *word = s->words->count ? s->words->items[0] : NULL;
	for (int i = 0; i < VERBS; i++) {
		names[i] = verbs[i].name;
		if (word && strcmp(word, names[i]) == 0)
			return i;
	}
	const char *near = word ? options_nearest(word, names, VERBS) : NULL;
	enum err e = why_set(why, ERR_INVALID, "%s%s%s: expected stat, ls, get, pin, unpin, evict, verify, export or import%s%s%s",
			     word ? "no verb \"" : "no verb", word ? word : "", word ? "\"" : "", near ? "; did you mean \"" : "",
			     near ? near : "", near ? "\"?" : "");
	(void)e;
	return -1;
}

static enum err check(const struct kv_settings *s, int verb, struct why *why)
{
	size_t words = s->words->count - 1;
	if (words < verbs[verb].words_min)
		return why_set(why, ERR_INVALID, "kv %s wants %s", verbs[verb].name, verbs[verb].words);
	if (words > verbs[verb].words_max)
		return why_set(why, ERR_INVALID, "kv %s %s: there is \"%s\" too much", verbs[verb].name, verbs[verb].words,
			       s->words->items[1 + verbs[verb].words_max]);
	if (s->tenants.count > 1)
		return why_set(why, ERR_INVALID, "--tenant names %zu, expected one", s->tenants.count);
	if (s->tenants.count && strlen(s->tenants.items[0]) > PROTO_TENANT_MAX)
		return why_set(why, ERR_INVALID, "--tenant has over %d bytes", PROTO_TENANT_MAX);
	return ERR_OK;
}

static enum err run(const struct kv_settings *s, int verb, bool *ret_bad, struct why *why)
{
	struct kv_client_options options = {.process = &s->process, .timeout_ns = s->timeout_s * 1000000000};
	struct kv_client *client;
	enum err e = kv_client_open(&options, &client, why);
	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < s->stores.count; i++)
		if (kv_client_find(client, s->stores.items[i]) == UINT32_MAX)
			e = why_set(why, ERR_NOT_FOUND, "--store %s: cluster \"%s\" has no store of that name", s->stores.items[i],
				    s->process.cluster);
	if (e == ERR_OK)
		e = verbs[verb].run(client, s, ret_bad, why);
	kv_client_close(client);
	return e;
}

static void print_help(const struct options *options)
{
	options_print_help(options);
	printf("\n");
	for (int i = 0; i < VERBS; i++)
		printf("  %-8s%-8s %s\n", verbs[i].name, verbs[i].words, verbs[i].help);
}

int command_kv(int argc, char **argv, char **environment)
{
	struct kv_settings s = {.limit = 1000, .timeout_s = 10};
	process_defaults(&s.process, "operator");
	s.process.log_level = "warn";
	s.process.etcd_timeout_s = 10;
	struct option table[PROCESS_OPTIONS + KV_OPTIONS] = {
		{"store", OPTION_LIST, &s.stores, 0, 0, "NAME", "only this store; several"},
		{"tenant", OPTION_LIST, &s.tenants, 0, 0, "NAME", "only blocks of this tenant; -: of none"},
		{"limit", OPTION_COUNT, &s.limit, 1, UINT32_MAX, "N", "of ls: at most so many blocks"},
		{"hard", OPTION_FLAG, &s.hard, 0, 0, NULL, "of pin: it is never evicted; stores bound how much that may be (--pin-percent)"},
		{"chain", OPTION_FLAG, &s.chain, 0, 0, NULL, "of pin and unpin: the blocks before it too"},
		{"json", OPTION_FLAG, &s.as_json, 0, 0, NULL, "of stat, ls and get: a JSON object a line"},
		{"all", OPTION_FLAG, &s.all, 0, 0, NULL, "of evict: every block that nobody holds and nothing keeps"},
		{"evict", OPTION_FLAG, &s.evict, 0, 0, NULL, "of verify: bad blocks go"},
		{"force", OPTION_FLAG, &s.force, 0, 0, NULL, "of import: also what no engine here can use"},
		{"timeout", OPTION_COUNT, &s.timeout_s, 1, 3600, "S", "seconds for an answer"},
	};
	process_options(&s.process, table + KV_OPTIONS);
	struct options options = {.program = "baton kv", .usage = "VERB [KEY… | FILE] [--etcd URL] [options]", .table = table,
				  .count = PROCESS_OPTIONS + KV_OPTIONS, .environment = environment, .positional = true};
	s.words = &options.words;
	struct why why = {0};
	bool bad = false;
	enum err e = options_parse(&options, argc, argv, &why);
	if (e == ERR_OK && options.help) {
		print_help(&options);
	} else if (e == ERR_OK) {
		int verb = find_verb(&s, &why);
		e = verb < 0 ? ERR_INVALID : check(&s, verb, &why);
		if (e == ERR_OK)
			e = run(&s, verb, &bad, &why);
	}
	if (e != ERR_OK)
		fprintf(stderr, "baton kv: %s%s%s\n", err_text(e), why.text[0] ? ": " : "", why.text);
	options_fini(&options);
	return e == ERR_OK && !bad ? 0 : 1;
}
