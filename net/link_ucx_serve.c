/* The server's side of UCX messages: who may ask, what is checked, and the sending.
 *
 * Rules: 1 nothing of an ASK is believed: session, incarnation, region, bounds and generation are checked, in
 *          this order, before a byte is sent;
 *        2 a region goes away only when no sending reads it (ucx_region_removed). */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "net/ucx_impl.h"

#define HELLO_ADDRESS_MAX 3800
#define HELLOS_MAX 256

struct ucx_client {
	struct ucx *ucx;
	struct ucx_client *next;
	uint64_t node, incarnation;
	uint64_t session;
	ucp_ep_h endpoint;
	bool lost;
	bool closing;
	bool has_keys;
	struct wire_welcome welcome;
};

/* One answer under way.  UCX reads the header and the region until it is sent. */
struct ucx_serve {
	struct ucx_serve *prev, *next;
	struct ucx *ucx;
	struct ucx_client *client; /* NULL: gone before the answer */
	const struct region *region; /* NULL: no bytes go out */
	uint64_t bytes;
	union {
		struct wire_answer answer;
		struct wire_region region;
	} header;
};

struct ucx_hello {
	struct ucx_hello *next;
	struct wire_hello wire;
	uint8_t address[];
};

/* ---- answers ---- */

static struct ucx_serve *serve_create(struct ucx_client *client)
{
	struct ucx *ucx = client->ucx;
	if (ucx->serve_count == UCX_SERVES_MAX)
		return NULL;
	struct ucx_serve *serve = calloc(1, sizeof(*serve));
	if (!serve)
		return NULL;
	serve->ucx = ucx;
	serve->client = client;
	serve->next = ucx->serves;
	if (ucx->serves)
		ucx->serves->prev = serve;
	ucx->serves = serve;
	ucx->serve_count++;
	return serve;
}

static void serve_free(struct ucx *ucx, struct ucx_serve *serve)
{
	if (serve->prev)
		serve->prev->next = serve->next;
	else
		ucx->serves = serve->next;
	if (serve->next)
		serve->next->prev = serve->prev;
	ucx->serve_count--;
	free(serve);
}

static void client_lost(struct ucx_client *client)
{
	client->lost = true;
	loop_post(client->ucx->link->loop, &client->ucx->serve_task);
}

static void on_sent(void *request, ucs_status_t status, void *user_data)
{
	struct ucx_serve *serve = user_data;
	struct ucx *ucx = serve->ucx;
	if (status == UCS_OK && serve->region) {
		ucx->link->served.reads++;
		ucx->link->served.bytes += serve->bytes;
	}
	serve_free(ucx, serve);
	if (request)
		ucp_request_free(request);
}

static void serve_send(struct ucx_serve *serve, unsigned id, size_t header_length, const void *data, size_t length)
{
	struct ucx_client *client = serve->client;
	struct ucx *ucx = client->ucx;
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
		.cb.send = on_sent,
		.user_data = serve,
	};
	serve->bytes = length;
	ucs_status_ptr_t request = ucp_am_send_nbx(client->endpoint, id, &serve->header, header_length, data, length,
	                                           &param);
	ucx_kick(ucx);
	if (UCS_PTR_IS_PTR(request))
		return;
	if (UCS_PTR_IS_ERR(request))
		client_lost(client);
	on_sent(NULL, UCS_PTR_STATUS(request), serve);
}

static void count_refusal(struct ucx *ucx, enum err e)
{
	if (e == ERR_STALE)
		ucx->link->served.stale++;
	else
		ucx->link->served.refused++;
}

/* Rule 1. */
static enum err check_ask(const struct ucx *ucx, const struct wire_ask *ask, const struct region **ret_region,
                          const uint8_t **ret_data)
{
	const struct link_options *options = &ucx->link->options;
	if (ask->node != options->node || ask->incarnation != options->incarnation)
		return ERR_MISMATCH;
	const struct region *region = link_region_find(ucx->link, ask->rank, ask->kind, ask->region);
	if (!region)
		return ERR_DENIED;
	*ret_region = region;
	return region_serve(region, ask->offset, ask->length, ask->generation, ret_data);
}

static ucs_status_t on_ask(void *arg, const void *header, size_t header_length, void *payload, size_t length,
                           const ucp_am_recv_param_t *param)
{
	struct ucx *ucx = arg;
	struct wire_ask ask;
	if (header_length != sizeof(ask))
		return UCS_OK;
	memcpy(&ask, header, sizeof(ask));
	struct ucx_client *client = ticket_find(&ucx->sessions, ask.session);
	struct ucx_serve *serve = client && !client->lost ? serve_create(client) : NULL;
	if (!serve)
		return UCS_OK; /* the reader's deadline tells it */
	const struct region *region = NULL;
	const uint8_t *data = NULL;
	enum err e = check_ask(ucx, &ask, &region, &data);
	serve->header.answer = (struct wire_answer){.ticket = ask.ticket, .err = (uint32_t)e};
	if (e != ERR_OK) {
		count_refusal(ucx, e);
		serve_send(serve, AM_ANSWER, sizeof(serve->header.answer), NULL, 0);
		return UCS_OK;
	}
	serve->region = region;
	serve_send(serve, AM_ANSWER, sizeof(serve->header.answer), data, ask.length);
	return UCS_OK;
}

/* ---- keys for one-sided readers ---- */

static const struct ucx_region *registered(const struct ucx *ucx, const struct region *region)
{
	for (size_t i = 0; i < ucx->region_count; i++)
		if (ucx->regions[i].region == region)
			return &ucx->regions[i];
	return NULL;
}

static ucs_status_t on_ask_region(void *arg, const void *header, size_t header_length, void *payload, size_t length,
                                  const ucp_am_recv_param_t *param)
{
	struct ucx *ucx = arg;
	struct wire_region ask;
	if (header_length != sizeof(ask))
		return UCS_OK;
	memcpy(&ask, header, sizeof(ask));
	struct ucx_client *client = ticket_find(&ucx->sessions, ask.session);
	struct ucx_serve *serve = client && !client->lost ? serve_create(client) : NULL;
	if (!serve)
		return UCS_OK;
	const struct region *region = ask.kind <= MEMORY_CUDA ? link_region_find(ucx->link, ask.rank, MEMORY_HOST, ask.index) : NULL;
	const struct ucx_region *all = region ? registered(ucx, region) : NULL;
	const struct ucx_memory *ours = all ? &all->of[ask.kind] : NULL;
	serve->header.region = ask;
	serve->header.region.err = !ours || (ask.kind == MEMORY_CUDA && !ours->key) ? ERR_DENIED : ours->key ? ERR_OK : ERR_UNSUPPORTED;
	if (serve->header.region.err == ERR_OK) {
		const struct region_view *view = region_view(region);
		const void *base = ask.kind == MEMORY_CUDA ? region_twin(region)->memory : view->base;
		serve->header.region.address = (uint64_t)(uintptr_t)base;
		serve->header.region.slot_bytes = view->slot_bytes;
		serve->header.region.slot_count = view->slot_count;
		client->has_keys = true;
		serve_send(serve, AM_REGION, sizeof(serve->header.region), ours->key, ours->key_length);
	} else {
		serve_send(serve, AM_REGION, sizeof(serve->header.region), NULL, 0);
	}
	return UCS_OK;
}

static enum err register_memory(struct ucx *ucx, void *memory, size_t bytes, ucs_memory_type_t type, struct ucx_memory *ours)
{
	ucp_mem_map_params_t params = {
		.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH |
		              UCP_MEM_MAP_PARAM_FIELD_PROT | UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE,
		.address = memory,
		.length = bytes,
		.prot = UCP_MEM_MAP_PROT_LOCAL_READ | UCP_MEM_MAP_PROT_REMOTE_READ,
		.memory_type = type,
	};
	ucs_status_t status = ucp_mem_map(ucx->context, &params, &ours->memory);
	if (status == UCS_OK)
		status = ucp_rkey_pack(ucx->context, ours->memory, &ours->key, &ours->key_length);
	if (status != UCS_OK)
		ucx_unregister(ucx, ours);
	return ucx_err(status);
}

void ucx_unregister(struct ucx *ucx, struct ucx_memory *memory)
{
	if (memory->key)
		ucp_rkey_buffer_release(memory->key);
	if (memory->memory)
		ucp_mem_unmap(ucx->context, memory->memory);
	*memory = (struct ucx_memory){0};
}

/* Readers do without it: the host's memory has the same. */
static void register_twin(struct ucx *ucx, const struct region *region, struct ucx_memory *ours)
{
	const struct region_twin *twin = region_twin(region);
	const struct region_view *view = region_view(region);
	bool cuda = twin->kind == MEMORY_CUDA;
	if (!twin->memory)
		return;
	if (cuda && !ucx->knows_cuda) {
		log_info("link > UCX %s has no CUDA here: peers read region %u from the host's memory", ucp_get_version_string(),
			 region_options(region)->index);
		return;
	}
	enum err e = register_memory(ucx, twin->memory, view->slot_bytes * view->slot_count, cuda ? UCS_MEMORY_TYPE_CUDA : UCS_MEMORY_TYPE_HOST,
				     ours);
	if (e != ERR_OK)
		log_warn("link > no NIC may read region %u from its device (%s): peers read it from the host's memory",
			 region_options(region)->index, err_text(e));
}

enum err ucx_region_added(struct ucx *ucx, const struct region *region, struct why *why)
{
	struct ucx_region ours = {.region = region};
	const struct region_view *view = region_view(region);
	if (ucx->one_sided) {
		enum err e = register_memory(ucx, (void *)(uintptr_t)view->base, view->bytes, UCS_MEMORY_TYPE_HOST, &ours.of[MEMORY_HOST]);
		if (e != ERR_OK)
			return why_set(why, e, "registering a region for one-sided reads: %s", err_text(e));
		register_twin(ucx, region, &ours.of[MEMORY_CUDA]);
	}
	ucx->regions[ucx->region_count++] = ours;
	return ERR_OK;
}

/* ---- clients ---- */

static void on_client_lost(void *arg, ucp_ep_h endpoint, ucs_status_t status)
{
	client_lost(arg);
}

static void on_welcome_sent(void *request, ucs_status_t status, void *user_data)
{
	if (request)
		ucp_request_free(request);
}

static void client_free(void *arg)
{
	struct ucx_client *client = arg;
	struct ucx *ucx = client->ucx;
	for (struct ucx_serve *serve = ucx->serves; serve; serve = serve->next)
		if (serve->client == client)
			serve->client = NULL;
	for (struct ucx_client **at = &ucx->clients; *at; at = &(*at)->next) {
		if (*at != client)
			continue;
		*at = client->next;
		break;
	}
	free(client);
}

static void client_close(struct ucx_client *client)
{
	if (client->closing)
		return;
	client->closing = true;
	client->lost = true;
	ticket_drop(&client->ucx->sessions, client->session);
	ucx_endpoint_close(client->ucx, client->endpoint, client_free, client);
}

static void welcome(struct ucx_client *client, const struct wire_hello *hello)
{
	const struct link_options *options = &client->ucx->link->options;
	bool is_us = hello->server_node == options->node && hello->server_incarnation == options->incarnation;
	client->welcome = (struct wire_welcome){
		.ticket = hello->ticket,
		.session = client->session,
		.err = is_us ? ERR_OK : ERR_MISMATCH,
	};
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_FLAGS,
		.cb.send = on_welcome_sent,
		.flags = UCP_AM_SEND_FLAG_EAGER,
	};
	ucs_status_ptr_t request = ucp_am_send_nbx(client->endpoint, AM_WELCOME, &client->welcome,
	                                           sizeof(client->welcome), NULL, 0, &param);
	if (UCS_PTR_IS_ERR(request))
		client_lost(client);
	ucx_kick(client->ucx);
}

/* A node that says hello anew has closed the endpoint it had before. */
static void close_earlier(struct ucx *ucx, const struct wire_hello *hello)
{
	for (struct ucx_client *client = ucx->clients, *next; client; client = next) {
		next = client->next;
		if (client->node == hello->node)
			client_close(client);
	}
}

static size_t client_count(const struct ucx *ucx)
{
	size_t count = 0;
	for (const struct ucx_client *client = ucx->clients; client; client = client->next)
		count++;
	return count;
}

static void take_hello(struct ucx *ucx, const struct ucx_hello *hello)
{
	close_earlier(ucx, &hello->wire);
	if (client_count(ucx) >= UCX_CLIENTS_MAX)
		return;
	struct ucx_client *client = calloc(1, sizeof(*client));
	if (!client)
		return;
	client->ucx = ucx;
	client->node = hello->wire.node;
	client->incarnation = hello->wire.incarnation;
	enum err e = ticket_take(&ucx->sessions, client, &client->session);
	if (e == ERR_OK)
		e = ucx_endpoint_create(ucx, hello->address, on_client_lost, client, &client->endpoint);
	if (e != ERR_OK) {
		log_warn("link > no endpoint back to reader %016llx: %s", (unsigned long long)client->node, err_text(e));
		ticket_drop(&ucx->sessions, client->session);
		free(client);
		return;
	}
	client->next = ucx->clients;
	ucx->clients = client;
	welcome(client, &hello->wire);
}

/* From the loop, not from inside a UCX callback: endpoints are made and closed here. */
static void serve_turn(void *arg)
{
	struct ucx *ucx = arg;
	while (ucx->hellos) {
		struct ucx_hello *hello = ucx->hellos;
		ucx->hellos = hello->next;
		take_hello(ucx, hello);
		free(hello);
	}
	for (struct ucx_client *client = ucx->clients, *next; client; client = next) {
		next = client->next;
		if (client->lost)
			client_close(client);
	}
}

static ucs_status_t on_hello(void *arg, const void *header, size_t header_length, void *data, size_t length,
                             const ucp_am_recv_param_t *param)
{
	struct ucx *ucx = arg;
	struct wire_hello wire;
	if (header_length != sizeof(wire) || length == 0 || length > HELLO_ADDRESS_MAX ||
	    param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV)
		return UCS_OK;
	memcpy(&wire, header, sizeof(wire));
	size_t waiting = 0;
	for (struct ucx_hello *hello = ucx->hellos; hello; hello = hello->next)
		waiting++;
	struct ucx_hello *hello = wire.version == UCX_WIRE_VERSION && waiting < HELLOS_MAX
	                                  ? malloc(sizeof(*hello) + length)
	                                  : NULL;
	if (!hello)
		return UCS_OK;
	hello->wire = wire;
	hello->next = ucx->hellos;
	memcpy(hello->address, data, length);
	ucx->hellos = hello;
	loop_post(ucx->link->loop, &ucx->serve_task);
	return UCS_OK;
}

void ucx_client_gone(struct ucx *ucx, uint64_t node, uint64_t incarnation, uint64_t ticket)
{
	if (ucx->transport != LINK_UCX_SHM)
		return;
	for (struct ucx_client *client = ucx->clients; client; client = client->next)
		if (client->node == node && client->incarnation == incarnation && client->welcome.ticket == ticket)
			client_lost(client);
}

/* ---- ends ---- */

static bool is_served(const struct ucx *ucx, const struct region *region)
{
	for (const struct ucx_serve *serve = ucx->serves; serve; serve = serve->next)
		if (serve->region == region)
			return true;
	return false;
}

static void close_readers_of(struct ucx *ucx, const struct region *region)
{
	for (struct ucx_client *client = ucx->clients, *next; client; client = next) {
		next = client->next;
		bool reads = false;
		for (const struct ucx_serve *serve = ucx->serves; serve && !reads; serve = serve->next)
			reads = serve->client == client && serve->region == region;
		if (reads)
			client_close(client);
	}
}

/* A read that comes too late is then refused by the reader itself; over RDMA it would break the connection. */
static void tell_gone(struct ucx *ucx, const struct region *region)
{
	for (struct ucx_client *client = ucx->clients; client; client = client->next) {
		struct ucx_serve *serve = client->has_keys && !client->lost && !client->closing ? serve_create(client) : NULL;
		if (!serve)
			continue; /* it does without */
		serve->header.region = (struct wire_region){
			.ticket = client->welcome.ticket,
			.rank = region_options(region)->rank,
			.index = region_options(region)->index,
		};
		serve_send(serve, AM_REGION_GONE, sizeof(serve->header.region), NULL, 0);
	}
}

/* Rule 2: 100 rounds let what is nearly out go out; then its readers are cut off. */
void ucx_region_removed(struct ucx *ucx, const struct region *region)
{
	for (int i = 0; i < 100 && is_served(ucx, region); i++)
		ucp_worker_progress(ucx->worker);
	close_readers_of(ucx, region);
	while (is_served(ucx, region) && ucx->closing)
		ucp_worker_progress(ucx->worker);
	tell_gone(ucx, region);
	for (size_t i = 0; i < ucx->region_count; i++) {
		if (ucx->regions[i].region != region)
			continue;
		ucx_unregister(ucx, &ucx->regions[i].of[MEMORY_HOST]);
		ucx_unregister(ucx, &ucx->regions[i].of[MEMORY_CUDA]);
		ucx->regions[i] = ucx->regions[--ucx->region_count];
		break;
	}
	ucx_kick(ucx);
}

void ucx_serve_close(struct ucx *ucx)
{
	loop_task_cancel(ucx->link->loop, &ucx->serve_task);
	while (ucx->hellos) {
		struct ucx_hello *hello = ucx->hellos;
		ucx->hellos = hello->next;
		free(hello);
	}
	for (struct ucx_client *client = ucx->clients, *next; client; client = next) {
		next = client->next;
		client_close(client);
	}
}

enum err ucx_serve_init(struct ucx *ucx)
{
	loop_task_init(&ucx->serve_task, serve_turn, ucx);
	enum err e = ucx_handler(ucx, AM_HELLO, on_hello);
	if (e == ERR_OK)
		e = ucx_handler(ucx, AM_ASK, on_ask);
	return e == ERR_OK ? ucx_handler(ucx, AM_ASK_REGION, on_ask_region) : e;
}
