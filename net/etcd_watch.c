/* A prefix followed over everything that may interrupt it.
 *
 *   start --> LISTING --last page--> OPENING --created--> FOLLOWING
 *                ^                      |  ^                  |
 *                +----- compacted, -----+  +-- PAUSED <-- stream or list lost (backoff)
 *                  store went back
 *
 * What was told is remembered as (key, mod_revision), sorted by key.  A list is merged against it: that gives
 * the events that a lost piece of history would have come to.  After a list that broke off half way the memory
 * is the new part followed by the rest of the old, so each key is always remembered as it was told. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "net/etcd.h"
#include "net/etcd_impl.h"
#include "net/loop.h"

struct known {
	char *key;
	size_t key_length;
	int64_t mod_revision;
};

struct known_list {
	struct known *items; /* sorted by key */
	uint32_t count, capacity;
};

enum watch_state { WATCH_PAUSED, WATCH_LISTING, WATCH_OPENING, WATCH_FOLLOWING, WATCH_ENDED };

struct etcd_watch {
	struct etcd *etcd;
	struct loop *loop;
	enum watch_state state;
	char *prefix;
	struct etcd_watch_callbacks callbacks;
	void *arg;
	uint32_t key_max;
	bool stopped;

	struct known_list known;
	int64_t next_revision; /* to be told next; 0: list first */
	int64_t prime_revision; /* list this one silently before following; 0: no */
	uint64_t cluster;      /* 0: not seen yet */

	struct known_list fresh; /* of the list under way */
	uint32_t merged;       /* of known: up to here the list has been merged */
	int64_t list_revision; /* of its first page; 0: none yet */

	uint64_t call;         /* the page asked for */
	struct etcd_flow *flow;
	uint32_t attempt;
	struct loop_timer *timer; /* PAUSED: try again; OPENING: give up */
	struct loop_task reap_task;
	struct etcd_watch_counts counts;
};

static void begin(struct etcd_watch *watch);
static void list_page(struct etcd_watch *watch, const char *after);

/* ---- the memory of what was told ---- */

static int key_compare(const char *a, size_t a_length, const char *b, size_t b_length)
{
	int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
	return order ? order : (a_length > b_length) - (a_length < b_length);
}

/* The place of the key, or where it belongs. */
static uint32_t known_find(const struct known_list *list, const char *key, size_t length, bool *ret_there)
{
	uint32_t low = 0, high = list->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = key_compare(list->items[middle].key, list->items[middle].key_length, key, length);
		if (order == 0) {
			*ret_there = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_there = false;
	return low;
}

static enum err known_reserve(struct known_list *list, uint32_t count)
{
	if (count <= list->capacity)
		return ERR_OK;
	uint32_t capacity = list->capacity ? list->capacity * 2 : 64;
	while (capacity < count)
		capacity *= 2;
	struct known *items = realloc(list->items, capacity * sizeof(*items));
	if (!items)
		return ERR_NOMEM;
	list->items = items;
	list->capacity = capacity;
	return ERR_OK;
}

static enum err known_insert(struct known_list *list, uint32_t at, const struct etcd_kv *kv)
{
	enum err e = known_reserve(list, list->count + 1);
	if (e != ERR_OK)
		return e;
	char *key = malloc(kv->key_length + 1);
	if (!key)
		return ERR_NOMEM;
	memcpy(key, kv->key, kv->key_length + 1);
	memmove(&list->items[at + 1], &list->items[at], (list->count - at) * sizeof(list->items[0]));
	list->items[at] = (struct known){key, kv->key_length, kv->mod_revision};
	list->count++;
	return ERR_OK;
}

static void known_remove(struct known_list *list, uint32_t at)
{
	free(list->items[at].key);
	list->count--;
	memmove(&list->items[at], &list->items[at + 1], (list->count - at) * sizeof(list->items[0]));
}

static void known_fini(struct known_list *list)
{
	for (uint32_t i = 0; i < list->count; i++)
		free(list->items[i].key);
	free(list->items);
	*list = (struct known_list){0};
}

/* ---- ends and pauses ---- */

static void on_reap(void *arg)
{
	struct etcd_watch *watch = arg;
	known_fini(&watch->known);
	known_fini(&watch->fresh);
	loop_timer_destroy(watch->timer);
	free(watch->prefix);
	free(watch);
}

static void rest(struct etcd_watch *watch, enum watch_state state)
{
	etcd_flow_close(watch->flow);
	watch->flow = NULL;
	watch->state = state;
	uint64_t call = watch->call;
	watch->call = 0;
	if (call)
		etcd_cancel(watch->etcd, call);
	loop_timer_cancel(watch->timer);
}

static void fail(struct etcd_watch *watch, enum err e, const char *text)
{
	rest(watch, WATCH_ENDED);
	watch->callbacks.on_failed(watch, e, text, watch->arg);
}

/* The list is over, whole or not: the new part, then what was not merged yet. */
static void end_list(struct etcd_watch *watch)
{
	uint32_t left = watch->known.count - watch->merged;
	if (left && known_reserve(&watch->fresh, watch->fresh.count + left) != ERR_OK) {
		/* Without memory the rest is forgotten: it will be told again rather than missed. */
		while (watch->known.count > watch->merged)
			free(watch->known.items[--watch->known.count].key);
		left = 0;
	}
	if (left)
		memcpy(&watch->fresh.items[watch->fresh.count], &watch->known.items[watch->merged],
		       left * sizeof(struct known));
	watch->fresh.count += left;
	watch->known.count = watch->merged; /* the moved ones belong to fresh now */
	known_fini(&watch->known);
	watch->known = watch->fresh;
	watch->fresh = (struct known_list){0};
	watch->merged = 0;
	watch->list_revision = 0;
}

static void back_off(struct etcd_watch *watch)
{
	if (watch->state == WATCH_LISTING)
		end_list(watch);
	rest(watch, WATCH_PAUSED);
	uint64_t seed = rng_mix((uintptr_t)watch ^ loop_now_ns(watch->loop));
	loop_timer_arm(watch->timer, etcd_backoff_ns(watch->attempt++, seed));
}

static void retry(struct etcd_watch *watch, enum err e, const char *text)
{
	if (etcd_is_final(e))
		fail(watch, e, text);
	else
		back_off(watch);
}

/* ---- telling ---- */

/* False when the owner stopped the watch. */
static bool tell(struct etcd_watch *watch, enum etcd_event_kind kind, const struct etcd_kv *kv, bool made_up)
{
	watch->counts.events++;
	watch->counts.made_up += made_up;
	struct etcd_event event = {.kind = kind, .kv = *kv, .made_up = made_up};
	watch->callbacks.on_event(watch, &event, watch->arg);
	return !watch->stopped;
}

static bool remember_failed(struct etcd_watch *watch, enum err e)
{
	if (e == ERR_NOMEM)
		back_off(watch); /* and list again, from what could be remembered */
	else
		fail(watch, e, "more keys under the prefix than key_max");
	return false;
}

/* ---- listing ---- */

/* Old keys before this one are gone from the store. */
static bool merge_deleted_before(struct etcd_watch *watch, const struct etcd_kv *kv)
{
	while (watch->merged < watch->known.count) {
		struct known *old = &watch->known.items[watch->merged];
		if (kv && key_compare(old->key, old->key_length, kv->key, kv->key_length) >= 0)
			return true;
		struct etcd_kv gone = {.key = old->key, .key_length = old->key_length,
				       .mod_revision = watch->list_revision};
		watch->merged++;
		if (!tell(watch, ETCD_DELETED, &gone, true))
			return false;
	}
	return true;
}

static bool merge_listed(struct etcd_watch *watch, const struct etcd_kv *kv, bool silent)
{
	if (!merge_deleted_before(watch, kv))
		return false;
	if (watch->fresh.count >= watch->key_max)
		return remember_failed(watch, ERR_TOO_LARGE);
	bool told = false;
	if (watch->merged < watch->known.count) {
		const struct known *old = &watch->known.items[watch->merged];
		if (key_compare(old->key, old->key_length, kv->key, kv->key_length) == 0) {
			told = old->mod_revision == kv->mod_revision;
			watch->merged++;
		}
	}
	enum err e = known_insert(&watch->fresh, watch->fresh.count, kv);
	if (e != ERR_OK)
		return remember_failed(watch, e);
	return told || silent || tell(watch, ETCD_PUT, kv, true);
}

static void follow_from(struct etcd_watch *watch, int64_t revision);

static void list_done(struct etcd_watch *watch, bool silent)
{
	int64_t revision = watch->list_revision;
	if (!merge_deleted_before(watch, NULL))
		return;
	end_list(watch);
	watch->next_revision = revision + 1;
	watch->prime_revision = 0;
	watch->counts.lists++;
	if (!silent && watch->callbacks.on_synced) {
		watch->callbacks.on_synced(watch, revision, watch->arg);
		if (watch->stopped)
			return;
	}
	follow_from(watch, watch->next_revision);
}

static void on_page(struct etcd *etcd, enum err e, const char *text, const struct etcd_reply *reply, void *arg)
{
	struct etcd_watch *watch = arg;
	if (e == ERR_CANCELED)
		return;
	watch->call = 0;
	bool silent = watch->prime_revision != 0;
	if (e == ERR_STALE) { /* compacted before or between the pages: from the present */
		watch->prime_revision = 0;
		watch->next_revision = 0;
		watch->counts.compactions++;
		back_off(watch);
		return;
	}
	if (e != ERR_OK) {
		retry(watch, e, text);
		return;
	}
	if (!watch->list_revision)
		watch->list_revision = silent ? watch->prime_revision : reply->revision;
	for (size_t i = 0; i < reply->kv_count; i++)
		if (!merge_listed(watch, &reply->kvs[i], silent))
			return;
	const struct etcd_kv *last = reply->kv_count ? &reply->kvs[reply->kv_count - 1] : NULL;
	if (!reply->more || !last)
		list_done(watch, silent);
	else if (strlen(last->key) != last->key_length) /* the next page would begin with it again */
		fail(watch, ERR_INVALID, "somebody wrote a key with a NUL byte");
	else
		list_page(watch, last->key);
}

static void list_page(struct etcd_watch *watch, const char *after)
{
	watch->state = WATCH_LISTING;
	struct etcd_range range = {.prefix = watch->prefix, .after = after, .keys_only = watch->prime_revision != 0,
				   .revision = watch->list_revision ? watch->list_revision : watch->prime_revision};
	watch->call = etcd_range(watch->etcd, &range, on_page, watch);
}

/* ---- following ---- */

static bool take_put(struct etcd_watch *watch, const struct etcd_kv *kv)
{
	bool there;
	uint32_t at = known_find(&watch->known, kv->key, kv->key_length, &there);
	if (there && watch->known.items[at].mod_revision >= kv->mod_revision)
		return true; /* told before the connection broke */
	if (there) {
		watch->known.items[at].mod_revision = kv->mod_revision;
	} else {
		enum err e = watch->known.count < watch->key_max ? known_insert(&watch->known, at, kv) : ERR_TOO_LARGE;
		if (e != ERR_OK)
			return remember_failed(watch, e);
	}
	return tell(watch, ETCD_PUT, kv, false);
}

static bool take_deleted(struct etcd_watch *watch, const struct etcd_kv *kv)
{
	bool there;
	uint32_t at = known_find(&watch->known, kv->key, kv->key_length, &there);
	if (!there || watch->known.items[at].mod_revision > kv->mod_revision)
		return true;
	known_remove(&watch->known, at);
	return tell(watch, ETCD_DELETED, kv, false);
}

static void take_events(struct etcd_watch *watch, const struct etcd_watch_message *message)
{
	int64_t last_revision = 0;
	for (size_t i = 0; i < message->event_count; i++) {
		const struct etcd_event *event = &message->events[i];
		bool go_on = event->kind == ETCD_PUT ? take_put(watch, &event->kv) : take_deleted(watch, &event->kv);
		if (!go_on)
			return;
		last_revision = event->kv.mod_revision;
	}
	/* The store's revision in the header is no resuming point: while history is replayed it runs ahead of the
	 * events.  Nor is the last one's as long as more of its revision may follow. */
	if (!message->partial && last_revision >= watch->next_revision)
		watch->next_revision = last_revision + 1;
}

static void list_again(struct etcd_watch *watch)
{
	rest(watch, WATCH_PAUSED);
	watch->next_revision = 0;
	begin(watch);
}

static void on_created(struct etcd_watch *watch, const struct etcd_watch_message *message)
{
	loop_timer_cancel(watch->timer);
	watch->state = WATCH_FOLLOWING;
	watch->attempt = 0;
	/* Another store, or one that was restored from before: to follow from a future revision is to hear nothing. */
	bool other = watch->cluster && watch->cluster != message->cluster;
	watch->cluster = message->cluster;
	if (other || message->revision < watch->next_revision - 1)
		list_again(watch);
}

static void on_canceled(struct etcd_watch *watch, const struct etcd_watch_message *message)
{
	if (message->compact_revision > 0) {
		watch->counts.compactions++;
		list_again(watch);
	} else if (strstr(message->cancel_reason, "permission denied")) {
		fail(watch, ERR_DENIED, message->cancel_reason);
	} else {
		back_off(watch);
	}
}

static void on_message(void *arg, const struct etcd_watch_message *message)
{
	struct etcd_watch *watch = arg;
	if (message->canceled)
		on_canceled(watch, message);
	else if (message->created)
		on_created(watch, message);
	else
		take_events(watch, message);
}

static void on_flow_end(void *arg, enum err e, const char *text)
{
	struct etcd_watch *watch = arg;
	watch->flow = NULL;
	retry(watch, e, text);
}

static void follow_from(struct etcd_watch *watch, int64_t revision)
{
	watch->state = WATCH_OPENING;
	watch->counts.connects++;
	watch->flow = etcd_watch_flow_open(watch->etcd, watch->prefix, revision, on_message, on_flow_end, watch);
	loop_timer_arm(watch->timer, etcd_call_timeout_ns(watch->etcd));
}

/* ---- life ---- */

static void begin(struct etcd_watch *watch)
{
	if (watch->prime_revision || !watch->next_revision)
		list_page(watch, NULL);
	else
		follow_from(watch, watch->next_revision);
}

static void on_timer(struct loop_timer *timer, void *arg)
{
	struct etcd_watch *watch = arg;
	if (watch->state == WATCH_OPENING) {
		struct etcd_flow *flow = watch->flow;
		watch->flow = NULL;
		etcd_flow_give_up(flow, "no answer to a watch");
		if (!watch->stopped)
			back_off(watch);
	} else {
		assert(watch->state == WATCH_PAUSED);
		begin(watch);
	}
}

enum err etcd_watch_start(struct etcd *etcd, const struct etcd_watch_options *options,
			  const struct etcd_watch_callbacks *callbacks, void *arg, struct etcd_watch **ret_watch)
{
	assert(callbacks->on_event && callbacks->on_failed);
	struct etcd_watch *watch = calloc(1, sizeof(*watch));
	if (!watch)
		return ERR_NOMEM;
	watch->etcd = etcd;
	watch->loop = etcd_loop(etcd);
	watch->callbacks = *callbacks;
	watch->arg = arg;
	watch->key_max = options->key_max ? options->key_max : 65536;
	watch->next_revision = options->start_revision;
	/* What was there just before, so that a later list can tell what has gone since. */
	watch->prime_revision = options->start_revision > 1 ? options->start_revision - 1 : 0;
	loop_task_init(&watch->reap_task, on_reap, watch);
	watch->prefix = strdup(options->prefix);
	enum err e = watch->prefix ? loop_timer_create(watch->loop, on_timer, watch, &watch->timer) : ERR_NOMEM;
	if (e != ERR_OK) {
		on_reap(watch);
		return e;
	}
	begin(watch);
	*ret_watch = watch;
	return ERR_OK;
}

void etcd_watch_counts(const struct etcd_watch *watch, struct etcd_watch_counts *ret_counts)
{
	*ret_counts = watch->counts;
	ret_counts->keys = watch->known.count;
}

void etcd_watch_stop(struct etcd_watch *watch)
{
	if (!watch || watch->stopped)
		return;
	watch->stopped = true;
	rest(watch, WATCH_ENDED);
	loop_post(watch->loop, &watch->reap_task);
}
