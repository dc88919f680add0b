#include "net/incarnation.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "net/etcd_claim.h"
#include "net/loop.h"
#include "net/member.h"

static const uint64_t RETRY_NS = 300000000;
static const uint64_t PROGRESS_NS = 5000000000;
static const uint64_t TURN_NS = 50000000;

struct waiting {
	struct loop *loop;
	const struct incarnation_options *options;
	char endpoints[512];
	struct etcd_claim *claim;
	uint64_t began_ns, next_ns, told_ns;
	uint64_t number; /* 0: not yet */
	char text[256];  /* what the last try said */
};

static void on_claimed(void *arg, enum err e, const char *text, uint64_t number)
{
	struct waiting *w = arg;
	w->claim = NULL;
	w->number = e == ERR_OK ? number : 0;
	w->next_ns = loop_now_ns(w->loop) + RETRY_NS;
	snprintf(w->text, sizeof(w->text), "%s: %s", err_text(e), text);
}

static void name_endpoints(struct waiting *w)
{
	const struct option_list *list = w->options->endpoints;
	for (size_t i = 0; i < list->count; i++) {
		size_t used = strlen(w->endpoints);
		snprintf(w->endpoints + used, sizeof(w->endpoints) - used, "%s%s", i ? ", " : "", list->items[i]);
	}
}

static uint64_t waited_s(const struct waiting *w)
{
	return (loop_now_ns(w->loop) - w->began_ns) / 1000000000;
}

static void tell_progress(struct waiting *w)
{
	uint64_t now_ns = loop_now_ns(w->loop);
	if (now_ns < w->told_ns + PROGRESS_NS)
		return;
	w->told_ns = now_ns;
	log_info("waiting for etcd at %s for %llu of %llu s: %s", w->endpoints, (unsigned long long)waited_s(w),
		 (unsigned long long)(w->options->timeout_ns / 1000000000), w->text[0] ? w->text : "no answer yet");
}

static enum err ask(struct waiting *w)
{
	const struct incarnation_options *o = w->options;
	char key[MEMBER_KEY_MAX];
	member_incarnation_key(o->cluster, o->name, key);
	struct etcd_claim_options options = {.key = key, .life = o->life, .wall_ns = o->wall_ns};
	return etcd_claim_start(o->etcd, &options, on_claimed, w, &w->claim);
}

static enum err wait(struct waiting *w, struct why *why)
{
	enum err e = ERR_OK;
	while (!w->number && e == ERR_OK) {
		if (!w->claim && loop_now_ns(w->loop) >= w->next_ns)
			e = ask(w);
		loop_turn(w->loop, TURN_NS);
		if (*w->options->stop)
			return why_set(why, ERR_CANCELED, "ended while waiting for etcd at %s", w->endpoints);
		if (!w->number && loop_now_ns(w->loop) >= w->began_ns + w->options->timeout_ns)
			return why_set(why, ERR_DEADLINE, "etcd at %s gave no incarnation to %s within %llu s (--etcd-timeout): %s",
				       w->endpoints, w->options->name,
				       (unsigned long long)(w->options->timeout_ns / 1000000000),
				       w->text[0] ? w->text : "no answer");
		tell_progress(w);
	}
	return e;
}

enum err incarnation_claim(struct loop *loop, const struct incarnation_options *options, uint64_t *ret_incarnation,
			   struct why *why)
{
	uint64_t now_ns = loop_now_ns(loop);
	struct waiting w = {.loop = loop, .options = options, .began_ns = now_ns, .told_ns = now_ns};
	name_endpoints(&w);
	enum err e = wait(&w, why);
	etcd_claim_cancel(w.claim);
	if (e == ERR_OK)
		*ret_incarnation = w.number;
	return e;
}
