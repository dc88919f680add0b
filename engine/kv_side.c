#include "engine/kv_side.h"

bool kv_side_move(enum kv_side side, enum kv_side_event event, enum kv_side *ret_side)
{
	enum { NO = KV_SIDES };
	static const unsigned char next[KV_SIDE_EVENTS][KV_SIDES] = {
		/*               KV_SAME  KV_HOST    KV_DEVICE */
		[KV_LANDING] =  {KV_HOST, KV_HOST,   NO},
		[KV_ARRIVING] = {NO,      KV_DEVICE, NO},
		[KV_ARRIVED] =  {NO,      NO,        KV_SAME},
		[KV_MISSED] =   {NO,      NO,        KV_HOST},
		[KV_UPLOADED] = {NO,      KV_SAME,   NO},
		[KV_REPLACED] = {KV_SAME, KV_SAME,   NO},
	};
	if (next[event][side] == NO)
		return false;
	*ret_side = (enum kv_side)next[event][side];
	return true;
}
