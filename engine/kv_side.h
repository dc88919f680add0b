/* kv_side - of a layer of a block that lies twice, on a device and in the host's memory: which side is the newer.  Pure.
 *
 *                 +--------------LANDING---------------+
 *                 |                                    v
 *     KV_SAME ----+          UPLOADED, REPLACED     KV_HOST
 *        ^  ^---------------------------------------- |  ^
 *        |                                   ARRIVING |  | MISSED
 *        |                                            v  |
 *        +----------------ARRIVED------------------ KV_DEVICE
 *
 * Rules: 1 nobody is told of a layer, and no step reads it, before it is KV_SAME or KV_HOST: the host's side is what peers are told of, and
 *          a step's table has none that is KV_DEVICE;
 *        2 what is written by a step is not counted here: it is on the device, and on the host before it is announced (kv_mirror.h). */
#ifndef ENGINE_KV_SIDE_H
#define ENGINE_KV_SIDE_H
#include <stdbool.h>

enum kv_side {
	KV_SAME,   /* as far as anybody was told of what is there */
	KV_HOST,   /* the host's is newer */
	KV_DEVICE, /* the device's is newer, and is on its way to the host */
};
#define KV_SIDES 3

enum kv_side_event {
	KV_LANDING,  /* something will land in the host's memory, or has */
	KV_ARRIVING, /* it comes from a neighbour's device instead */
	KV_ARRIVED,  /* and is on both sides */
	KV_MISSED,   /* it was not that, or did not come: the host's memory gets it after all */
	KV_UPLOADED, /* a step got it */
	KV_REPLACED, /* by a copy of another block, on both sides */
};
#define KV_SIDE_EVENTS 6

/* false: that may not happen now. */
bool kv_side_move(enum kv_side side, enum kv_side_event event, enum kv_side *ret_side);
#endif
