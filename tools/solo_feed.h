/* solo_feed - the requests of `baton solo`, one after the other or several at once, and their answers on standard output.
 *
 * Answers are printed in the order of the requests, whatever order they end in.
 *
 * Owns:   requests and answers.
 * Loop:   the one given.
 * Bounds: FEED_ITEMS_MAX requests of FEED_BODY_MAX bytes. */
#ifndef TOOLS_SOLO_FEED_H
#define TOOLS_SOLO_FEED_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "coordinator/request_parse.h"

struct loop;
struct service;
struct solo_feed;

enum { FEED_ITEMS_MAX = 1 << 20, FEED_BODY_MAX = 16 << 20 };

struct solo_feed_options {
	uint32_t concurrency;
	void *context;
	void (*done)(void *context); /* all answers are printed */
};

MUST_USE enum err solo_feed_create(struct loop *loop, const struct solo_feed_options *options,
				   struct solo_feed **ret_feed);
void solo_feed_destroy(struct solo_feed *feed);
MUST_USE enum err solo_feed_add(struct solo_feed *feed, enum api_kind kind, const char *body);
/* A line each: {"path": "/v1/completions" | "/v1/chat/completions", "body": {…}}; streaming is taken out of the
 * bodies, so that each answer is one line. */
MUST_USE enum err solo_feed_read(struct solo_feed *feed, const char *path, struct why *why);
/* Starts what may start; from now on the feed goes by itself. */
void solo_feed_start(struct solo_feed *feed, struct service *service);
/* Answers with an error. */
uint32_t solo_feed_failures(const struct solo_feed *feed);
#endif
