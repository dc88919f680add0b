/* graphs - steps recorded once and run again by one call: a decode step of some hundred small kernels costs the host more
 * than the device otherwise. */
#include <assert.h>
#include "kernels/cuda/cuda.h"

static struct cuda_graph *graph_of(struct cuda_device *device, uint64_t key)
{
	for (uint32_t i = 0; i < device->graph_count; i++)
		if (device->graphs[i].key == key)
			return &device->graphs[i];
	return NULL;
}

bool cuda_replay(struct device *base, uint64_t key)
{
	struct cuda_device *device = cuda_of(base);
	assert(!device->recording);
	struct cuda_graph *graph = graph_of(device, key);
	if (device->failed != ERR_OK)
		return false;
	if (graph && graph->exec) {
		CUDA_TRY(device, cudaGraphLaunch(graph->exec, device->stream));
		return true;
	}
	if (graph) {
		if (CUDA_TRY(device, cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal)))
			device->recording = graph;
	} else if (device->graph_count < CUDA_GRAPHS_MAX) {
		device->graphs[device->graph_count++].key = key;
	}
	return false;
}

void cuda_recorded(struct device *base)
{
	struct cuda_device *device = cuda_of(base);
	struct cuda_graph *recording = device->recording;
	cudaGraph_t graph = NULL;
	device->recording = NULL;
	if (!recording)
		return;
	/* Also after a failure: a stream that goes on recording would run nothing ever again. */
	bool ended = CUDA_TRY(device, cudaStreamEndCapture(device->stream, &graph));
	if (ended && device->failed == ERR_OK && CUDA_TRY(device, cudaGraphInstantiate(&recording->exec, graph, 0)))
		CUDA_TRY(device, cudaGraphLaunch(recording->exec, device->stream));
	if (graph)
		(void)cudaGraphDestroy(graph);
}
