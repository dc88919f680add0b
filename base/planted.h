/* planted - bugs that others shipped, kept at the places where they would be, to prove that the simulator finds them.
 *
 * A pure core asks `planted(NAME)` where it would go wrong.  In what we build and ship this is the constant false: neither
 * a branch nor a name is left (tests/house/check_planted.py looks).  The pure cores are compiled a second time with
 * -DBATON_PLANTED for build/tests/sim/simcluster-planted, which switches one bug on and counts the seeds until an
 * invariant or a token tells (tests/sim/README.md).
 *
 * A bug is one line here, one `planted()` at its place, and nothing else: no code that only it needs. */
#ifndef BASE_PLANTED_H
#define BASE_PLANTED_H
#include <stdbool.h>

/* Name, what goes wrong, where it was seen. */
#define PLANTED_BUGS(X)                                                                                               \
	X(SESSION_SHORTER_THAN_QUEUE, "a store forgets what it holds for a peer before the peer has read it",         \
	  "aws-samples/aws-do-eks#84, vllm#21570")                                                                    \
	X(STATUS_DROPPED, "the status of a failed read is not looked at", "dynamo#15079")                             \
	X(DIGEST_NOT_CHECKED, "the digest of what landed is not compared", "vllm#44238, LMCache#4467")                \
	X(REPEATED_TOKEN_FORWARDED, "a token that came before is forwarded again", "jepsen: duplicate delivery")

#ifdef BATON_PLANTED
enum planted_bug {
#define X(name, text, report) PLANTED_##name,
	PLANTED_BUGS(X)
#undef X
	PLANTED_BUG_COUNT
};
/* Is this bug switched on?  The test program answers (tests/sim/planted.c). */
bool planted_now(enum planted_bug bug);
#define planted(bug) planted_now(PLANTED_##bug)
#else
#define planted(bug) false
#endif
#endif
