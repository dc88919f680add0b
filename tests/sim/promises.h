/* promises - what nodes have told each other about blocks, kept beside the cores: the second bookkeeping of law 2 and 3.
 *
 *   promise: its owner said of a place (Announce, Found, Offer) that another may read it.  Until that is over (TransferEnd,
 *            Release, OfferDone, or the end of the session) the slot keeps its generation.
 *   permit:  its reader was told of the place, and has not said that it is through.  A read needs one.
 *
 * Nothing of this depends on time, so a violation is one in whatever world. */
#ifndef TESTS_SIM_PROMISES_H
#define TESTS_SIM_PROMISES_H
#include "tests/sim/cluster.h"

struct promises;

struct promises *promises_create(struct cluster *cluster);
void promises_destroy(struct promises *promises);
/* As a frame is said, and before it is heard. */
void promises_sent(struct promises *promises, uint32_t from, uint32_t to, const Wire__Envelope *envelope);
void promises_heard(struct promises *promises, uint32_t from, uint32_t to, const Wire__Envelope *envelope);
void promises_parted(struct promises *promises, uint32_t node, uint32_t peer);
void promises_died(struct promises *promises, uint32_t node);
void promises_reading(struct promises *promises, uint32_t reader, uint32_t owner, const struct env_read *read);
/* Are all that the node made still kept? */
void promises_check(struct promises *promises, uint32_t node);
#endif
