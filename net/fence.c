#include "net/fence.h"

#include "base/planted.h"

enum err fence_judge(struct fence *fence, uint64_t epoch, uint64_t coordinator)
{
	bool newer = epoch > fence->epoch;
	if (!newer && (epoch < fence->epoch || coordinator != fence->coordinator) && !planted(EPOCH_NOT_CHECKED)) {
		fence->refused++;
		return ERR_STALE;
	}
	fence->epoch = epoch;
	fence->coordinator = coordinator;
	fence->accepted++;
	return ERR_OK;
}
