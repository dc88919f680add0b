/* graphs - steps recorded once and run again by one call: a decode step of some hundred small kernels costs the host more
 * than the device otherwise. */
#include <assert.h>
#include "base/log.h"
#include "kernels/cuda/cuda.h"

static struct cuda_graph *graph_of(struct cuda_device *device, uint64_t key)
{
	for (uint32_t i = 0; i < device->graph_count; i++)
		if (device->graphs[i].key == key)
			return &device->graphs[i];
	return NULL;
}

/* Memory that is full of KV is no failure: the step runs, as do all that come, by their operations. */
static bool is_refused(struct cuda_device *device, cudaError_t error)
{
	if (error != cudaErrorMemoryAllocation || device->failed != ERR_OK)
		return false;
	(void)cudaGetLastError();
	if (!device->graphs_refused)
		log_warn("device %d, %s: no memory to record another step: what is not recorded runs as it comes, which costs the host more",
			 device->index, device->base.props.name);
	device->graphs_refused = true;
	return true;
}

/* Behind what the others did, and they behind it.  false: it does not run, and is forgotten. */
static bool launch(struct cuda_device *device, struct cuda_graph *graph)
{
	cuda_gather(device);
	if (!cuda_alive(&device->base))
		return true;
	cudaError_t error = cudaGraphLaunch(graph->exec, device->stream);
	if (is_refused(device, error)) {
		(void)cudaGraphExecDestroy(graph->exec);
		graph->exec = NULL;
		return false;
	}
	if (cuda_check(device, error, "cudaGraphLaunch"))
		cuda_release(device);
	return true;
}

static void set_recording(struct cuda_device *device, struct cuda_graph *graph)
{
	for (uint32_t i = 0; i < device->joined_count; i++)
		device->joined[i]->recording = graph;
}

/* The others' streams are drawn in by an event of the first's, and come back to it by theirs. */
static void begin(struct cuda_device *device, struct cuda_graph *graph)
{
	cudaError_t error = cudaStreamBeginCapture(device->stream, cudaStreamCaptureModeThreadLocal);
	if (is_refused(device, error) || !cuda_check(device, error, "cudaStreamBeginCapture"))
		return;
	set_recording(device, graph);
	cuda_release(device);
}

bool cuda_replay(struct device *base, uint64_t key)
{
	struct cuda_device *device = cuda_of(base);
	assert(!device->recording && device == device->joined[0]);
	struct cuda_graph *graph = graph_of(device, key);
	if (!cuda_alive(base))
		return false;
	if (graph && graph->exec)
		return launch(device, graph);
	if (device->graphs_refused)
		return false;
	if (graph)
		begin(device, graph);
	else if (device->graph_count < CUDA_GRAPHS_MAX)
		device->graphs[device->graph_count++].key = key;
	return false;
}

bool cuda_recorded(struct device *base)
{
	struct cuda_device *device = cuda_of(base);
	struct cuda_graph *recording = device->recording;
	cudaGraph_t graph = NULL;
	if (!recording)
		return true;
	cuda_gather(device);
	set_recording(device, NULL);
	/* Also after a failure: a stream that goes on recording would run nothing ever again. */
	(void)cuda_enter(device);
	cudaError_t error = cudaStreamEndCapture(device->stream, &graph);
	if (error == cudaSuccess && device->failed == ERR_OK)
		error = cudaGraphInstantiate(&recording->exec, graph, 0);
	bool refused = is_refused(device, error);
	if (graph)
		(void)cudaGraphDestroy(graph);
	if (!refused && cuda_check(device, error, "recording a step") && device->failed == ERR_OK)
		return launch(device, recording);
	return !refused;
}
