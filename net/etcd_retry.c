#include "net/etcd_impl.h"

uint64_t etcd_backoff_ns(uint32_t attempt, uint64_t seed)
{
	uint64_t full_ns = (uint64_t)100000000 << (attempt < 5 ? attempt : 5);
	if (full_ns > 2000000000u)
		full_ns = 2000000000u;
	return full_ns - seed % (full_ns / 2);
}

bool etcd_is_final(enum err e)
{
	return e == ERR_DENIED || e == ERR_INVALID || e == ERR_TOO_LARGE || e == ERR_UNSUPPORTED;
}
