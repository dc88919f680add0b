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

/* Behind what the others did, and they behind it. */
static void launch(struct cuda_device *device, const struct cuda_graph *graph)
{
	cuda_gather(device);
	if (cuda_alive(&device->base) && CUDA_TRY(device, cudaGraphLaunch(graph->exec, device->stream)))
		cuda_release(device);
}

static void set_recording(struct cuda_device *device, struct cuda_graph *graph)
{
	for (uint32_t i = 0; i < device->joined_count; i++)
		device->joined[i]->recording = graph;
}

/* The others' streams are drawn in by an event of the first's, and come back to it by theirs. */
bool cuda_replay(struct device *base, uint64_t key)
{
	struct cuda_device *device = cuda_of(base);
	assert(!device->recording && device == device->joined[0]);
	struct cuda_graph *graph = graph_of(device, key);
	if (!cuda_alive(base))
		return false;
	if (graph && graph->exec) {
		launch(device, graph);
		return true;
	}
	if (graph) {
		if (!CUDA_TRY(device, cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal)))
			return false;
		set_recording(device, graph);
		cuda_release(device);
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
	if (!recording)
		return;
	cuda_gather(device);
	set_recording(device, NULL);
	/* Also after a failure: a stream that goes on recording would run nothing ever again. */
	(void)cuda_enter(device);
	bool ended = CUDA_TRY(device, cudaStreamEndCapture(device->stream, &graph));
	if (ended && device->failed == ERR_OK && CUDA_TRY(device, cudaGraphInstantiate(&recording->exec, graph, 0)))
		launch(device, recording);
	if (graph)
		(void)cudaGraphDestroy(graph);
}
