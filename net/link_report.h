/* link_report - what carries the reads of each peer, as a Load tells it: in metrics and topology nobody should have to guess.
 *
 * Owns:   nothing; the report's memory is the caller's, and holds until it is made anew.
 * Loop:   pure (net/env.h).
 * Bounds: LINK_REPORT_MAX peers, first those that no link reaches. */
#ifndef NET_LINK_REPORT_H
#define NET_LINK_REPORT_H
#include <stdint.h>
#include "proto/baton.pb-c.h"

struct env;
struct sessions;

enum { LINK_REPORT_MAX = 64 };

struct link_report {
	Wire__Transport list[LINK_REPORT_MAX];
	Wire__Transport *pointers[LINK_REPORT_MAX];
	char names[LINK_REPORT_MAX][64];
};

/* Fills in load->transports and load->required; bytes tells what was read of a peer (its number among the sessions). */
void link_report(const struct env *env, const struct sessions *sessions, uint64_t (*bytes)(const void *context, uint32_t peer),
		 const void *context, struct link_report *report, Wire__Load *load);
#endif
