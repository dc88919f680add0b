/* UCX as this project uses it: one context and one worker per link, driven by the loop through its event descriptor;
 * endpoints that report errors; no setting taken from the environment that matters here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "net/rails.h"
#include "net/ucx_impl.h"

/* Rounds before the loop turns: each may move several fragments of 8 KiB to 64 KiB. */
#define PROGRESS_MAX 32
#define BUSY_MAX 4
#define RETRY_NS ((uint64_t)50000)
/* A hung close ends with the worker: 2 s, law 3's time for the dead. */
#define CLOSE_WAIT_NS ((uint64_t)2000000000)

/* ---- tickets ---- */

enum err ticket_take(struct tickets *tickets, void *object, uint64_t *ret_number)
{
	if (tickets->free_head == 0 && tickets->used == tickets->capacity) {
		uint32_t capacity = tickets->capacity ? tickets->capacity * 2 : 64;
		struct ticket *places = realloc(tickets->places, capacity * sizeof(*places));
		if (!places)
			return ERR_NOMEM;
		tickets->places = places;
		tickets->capacity = capacity;
	}
	/* Place numbers count from 1, so that 0 is no ticket and no free place. */
	uint32_t place = tickets->free_head;
	if (place) {
		tickets->free_head = tickets->places[place - 1].next_free;
	} else {
		place = ++tickets->used;
		tickets->places[place - 1].round = 0;
	}
	tickets->places[place - 1].object = object;
	*ret_number = (uint64_t)tickets->places[place - 1].round << 32 | place;
	return ERR_OK;
}

void *ticket_find(const struct tickets *tickets, uint64_t number)
{
	uint32_t place = (uint32_t)number;
	if (place == 0 || place > tickets->used || tickets->places[place - 1].round != number >> 32)
		return NULL;
	return tickets->places[place - 1].object;
}

void ticket_drop(struct tickets *tickets, uint64_t number)
{
	if (!ticket_find(tickets, number))
		return;
	struct ticket *ticket = &tickets->places[(uint32_t)number - 1];
	ticket->object = NULL;
	ticket->round++;
	ticket->next_free = tickets->free_head;
	tickets->free_head = (uint32_t)number;
}

/* ---- errors ---- */

enum err ucx_err(ucs_status_t status)
{
	switch (status) {
	case UCS_OK:
		return ERR_OK;
	case UCS_ERR_NO_MEMORY:
		return ERR_NOMEM;
	case UCS_ERR_CANCELED:
		return ERR_CANCELED;
	case UCS_ERR_UNREACHABLE:
	case UCS_ERR_UNSUPPORTED:
	case UCS_ERR_NO_DEVICE:
		return ERR_UNSUPPORTED;
	case UCS_ERR_INVALID_ADDR:
	case UCS_ERR_INVALID_PARAM:
		return ERR_PROTOCOL;
	default:
		return ERR_PEER_GONE;
	}
}

enum err ucx_wire_err(uint32_t number)
{
	switch (number) {
	case ERR_OK:
	case ERR_AGAIN:
	case ERR_STALE:
	case ERR_DENIED:
	case ERR_MISMATCH:
	case ERR_UNSUPPORTED:
		return (enum err)number;
	}
	return ERR_PROTOCOL;
}

/* ---- progress ---- */

static void progress(void *arg)
{
	struct ucx *ucx = arg;
	bool moved = false;
	for (int i = 0, busy = 0; i < PROGRESS_MAX && busy < BUSY_MAX; i++) {
		if (ucp_worker_progress(ucx->worker)) {
			moved = true;
			continue;
		}
		/* Armed means: the descriptor tells of everything from here on.  BUSY: something came meanwhile, or shared
		 * memory has no room for what we want to send and will not tell when it has. */
		if (ucp_worker_arm(ucx->worker) == UCS_OK)
			return;
		busy++;
	}
	/* Nothing moves: leave the CPU to the peer that must take what we sent. */
	if (moved)
		loop_post(ucx->link->loop, &ucx->progress_task);
	else
		loop_timer_arm(ucx->retry_timer, RETRY_NS);
}

static void on_retry(struct loop_timer *timer, void *arg)
{
	progress(arg);
}

static void on_event(struct loop_watch *watch, unsigned ready, void *arg)
{
	progress(arg);
}

void ucx_kick(struct ucx *ucx)
{
	loop_post(ucx->link->loop, &ucx->progress_task);
}

/* ---- endpoints ---- */

enum err ucx_endpoint_create(struct ucx *ucx, const void *address,
                             void (*lost)(void *arg, ucp_ep_h ep, ucs_status_t status), void *arg,
                             ucp_ep_h *ret_endpoint)
{
	ucp_ep_params_t params = {
		.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
		              UCP_EP_PARAM_FIELD_ERR_HANDLER,
		.address = address,
		.err_mode = UCP_ERR_HANDLING_MODE_PEER,
		.err_handler = {.cb = lost, .arg = arg},
	};
	ucs_status_t status = ucp_ep_create(ucx->worker, &params, ret_endpoint);
	ucx_kick(ucx);
	return ucx_err(status);
}

struct closing {
	struct ucx *ucx;
	void (*closed)(void *arg);
	void *arg;
};

static void on_closed(void *request, ucs_status_t status, void *user_data)
{
	struct closing *closing = user_data;
	closing->ucx->closing--;
	closing->closed(closing->arg);
	free(closing);
	if (request)
		ucp_request_free(request);
}

void ucx_endpoint_close(struct ucx *ucx, ucp_ep_h endpoint, void (*closed)(void *arg), void *arg)
{
	struct closing *closing = malloc(sizeof(*closing));
	ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_EP_CLOSE_FLAG_FORCE};
	if (closing) {
		*closing = (struct closing){ucx, closed, arg};
		param.op_attr_mask |= UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
		param.cb.send = on_closed;
		param.user_data = closing;
	}
	ucx->closing++;
	ucs_status_ptr_t request = ucp_ep_close_nbx(endpoint, &param);
	ucx_kick(ucx);
	if (closing && UCS_PTR_IS_PTR(request))
		return;
	/* Done at once; or no memory for the notice, then the close goes on unobserved. */
	if (UCS_PTR_IS_PTR(request))
		ucp_request_free(request);
	ucx->closing--;
	free(closing);
	closed(arg);
}

enum err ucx_handler(struct ucx *ucx, unsigned id, ucp_am_recv_callback_t fn)
{
	ucp_am_handler_param_t param = {
		.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
		              UCP_AM_HANDLER_PARAM_FIELD_ARG | UCP_AM_HANDLER_PARAM_FIELD_FLAGS,
		.id = id,
		.flags = UCP_AM_FLAG_WHOLE_MSG,
		.cb = fn,
		.arg = ucx,
	};
	return ucx_err(ucp_worker_set_am_recv_handler(ucx->worker, &param));
}

/* "tcp/eth10" does not tell of "tcp/eth1". */
static bool is_told(const char *text, const char *name)
{
	size_t length = strlen(name);
	for (const char *at = text; *at; at += strcspn(at, "+"), at += *at == '+')
		if (strcspn(at, "+") == length && strncmp(at, name, length) == 0)
			return true;
	return false;
}

/* UCX 1.13 tells the transports of an endpoint only to a FILE: "# lane[0]:  2:tcp/lo.0 md[1] -> …". */
void ucx_endpoint_lanes(ucp_ep_h endpoint, char *text, size_t text_bytes)
{
	char *info = NULL;
	size_t info_length = 0;
	text[0] = 0;
	FILE *file = open_memstream(&info, &info_length);
	if (!file)
		return;
	ucp_ep_print_info(endpoint, file);
	fclose(file);
	size_t at = 0;
	for (char *line = info; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
		char name[64];
		if (sscanf(line, "# lane[%*d]: %*d:%63[^ .]", name) != 1 || is_told(text, name))
			continue;
		int n = snprintf(text + at, text_bytes - at, "%s%s", at ? "+" : "", name);
		if (n < 0 || (size_t)n >= text_bytes - at)
			break;
		at += (size_t)n;
	}
	free(info);
}

/* ---- life ---- */

static enum err set(ucp_config_t *config, const char *name, const char *value, struct why *why)
{
	ucs_status_t status = ucp_config_modify(config, name, value);
	if (status == UCS_OK)
		return ERR_OK;
	return why_set(why, ERR_UNSUPPORTED, "UCX setting %s=%s: %s", name, value, ucs_status_string(status));
}

/* Does a context of those transports alone come to be?  It tells what there is. */
static bool has_any(const char *transports)
{
	ucp_config_t *config = NULL;
	ucp_context_h context;
	if (ucp_config_read(NULL, NULL, &config) != UCS_OK)
		return false;
	ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES, .features = UCP_FEATURE_RMA};
	bool found = ucp_config_modify(config, "TLS", transports) == UCS_OK &&
	             ucp_init(&params, config, &context) == UCS_OK;
	if (found)
		ucp_cleanup(context);
	ucp_config_release(config);
	return found;
}

/* A setting that came with a later UCX than may be here. */
static enum err set_if_known(ucp_config_t *config, const char *name, const char *value, struct why *why)
{
	ucs_status_t status = ucp_config_modify(config, name, value);
	if (status == UCS_OK)
		return ERR_OK;
	if (status != UCS_ERR_NO_ELEM)
		return why_set(why, ERR_UNSUPPORTED, "UCX setting %s=%s: %s", name, value, ucs_status_string(status));
	log_info("link > UCX %s has no setting %s: what that is for takes one rail", ucp_get_version_string(), name);
	return ERR_OK;
}

/* Which devices, and that one transfer may take all of them (docs/decisions/rails.md). */
static enum err set_rails(ucp_config_t *config, const struct link_options *options, enum link_transport transport, struct why *why)
{
	struct rails rails;
	char text[RAILS_TEXT], count[16];
	enum err e = rails_parse(options->network, &rails, why);
	if (e != ERR_OK) {
		why_prefix(why, "--link-network");
		return e;
	}
	uint32_t ports = rails.count;
	const char *devices = options->network;
	if (transport == LINK_UCX_RDMA) {
		struct why unknown = {0};
		devices = rails_rdma(&rails, "", text, &ports, &unknown) == ERR_OK ? text : NULL;
		if (!devices)
			log_warn("link > UCX takes any NIC that it finds: %s", unknown.text);
	}
	if (devices)
		e = set(config, "NET_DEVICES", devices, why);
	if (e != ERR_OK || !devices || ports < 2)
		return e;
	log_info("link > UCX %s may use %u rails: %s", ucp_get_version_string(), ports, devices);
	snprintf(count, sizeof(count), "%u", ports);
	e = set_if_known(config, "MAX_RNDV_RAILS", count, why);
	return e == ERR_OK ? set_if_known(config, "MAX_RMA_RAILS", count, why) : e;
}

/* With NICs also what knows GPU memory, where UCX was built with it. */
static enum err configure(ucp_config_t *config, const struct link_options *options, enum link_transport transport,
                          struct why *why)
{
	static const char *const tls[] = {
		[LINK_UCX_TCP] = "tcp,self",
		[LINK_UCX_SHM] = "posix,cma,self",
		[LINK_UCX_RDMA] = "rc,dc,ud,tcp,self",
	};
	bool cuda = transport == LINK_UCX_RDMA && has_any("cuda_copy");
	enum err e = set(config, "TLS", cuda ? "rc,dc,ud,tcp,self,cuda_copy" : tls[transport], why);
	if (e == ERR_OK && transport != LINK_UCX_SHM && options->network)
		e = set_rails(config, options, transport, why);
	/* A rendezvous over TCP would else be a write by the sender to an address in our memory (law 2).  So
	 * fragments come as messages that name a request, which a closed endpoint no longer has. */
	if (e == ERR_OK && transport != LINK_UCX_SHM)
		e = set(config, "PUT_ENABLE", "n", why);
	/* Without it error mode PEER silently excludes shared memory. */
	if (e == ERR_OK && transport == LINK_UCX_SHM)
		e = set(config, "MM_ERROR_HANDLING", "y", why);
	if (e == ERR_OK)
		e = set(config, "RNDV_THRESH", "65536", why);
	return e;
}

static enum err create_context(struct ucx *ucx, enum link_transport transport, struct why *why)
{
	const struct link_options *options = &ucx->link->options;
	ucp_config_t *config = NULL;
	if (ucp_config_read(NULL, NULL, &config) != UCS_OK)
		return why_set(why, ERR_UNSUPPORTED, "UCX: no configuration");
	enum err e = configure(config, options, transport, why);
	ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED,
		.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP,
	};
	/* Software gets are a reading of any address by whoever reaches us: only where they are wanted. */
	if (options->one_sided || transport == LINK_UCX_RDMA)
		params.features |= UCP_FEATURE_RMA;
	if (e == ERR_OK) {
		ucs_status_t status = ucp_init(&params, config, &ucx->context);
		e = ucx_err(status);
		if (e != ERR_OK)
			why_set(why, e, "UCX over %s: %s", options->network, ucs_status_string(status));
	}
	ucp_config_release(config);
	ucp_context_attr_t attributes = {.field_mask = UCP_ATTR_FIELD_MEMORY_TYPES};
	ucx->knows_cuda = e == ERR_OK && ucp_context_query(ucx->context, &attributes) == UCS_OK &&
	                  attributes.memory_types & 1u << UCS_MEMORY_TYPE_CUDA;
	ucx->transport = transport;
	ucx->one_sided = params.features & UCP_FEATURE_RMA;
	return e;
}

static enum err choose_context(struct ucx *ucx, struct why *why)
{
	enum link_transport wanted = ucx->link->options.transport;
	if (wanted == LINK_UCX_TCP || wanted == LINK_UCX_SHM)
		return create_context(ucx, wanted, why);
	bool rdma = access("/sys/class/infiniband", F_OK) == 0 && has_any("rc,dc");
	if (wanted == LINK_UCX_RDMA && !rdma)
		return why_set(why, ERR_UNSUPPORTED, "transport ucx-rdma: UCX finds no RDMA device on this host; "
		               "`baton doctor` says what it has");
	return create_context(ucx, rdma ? LINK_UCX_RDMA : LINK_UCX_TCP, why);
}

static enum err create_worker(struct ucx *ucx)
{
	ucp_worker_params_t params = {
		.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE | UCP_WORKER_PARAM_FIELD_FLAGS,
		.thread_mode = UCS_THREAD_MODE_SINGLE,
		.flags = UCP_WORKER_FLAG_IGNORE_REQUEST_LEAK,
	};
	ucs_status_t status = ucp_worker_create(ucx->context, &params, &ucx->worker);
	if (status != UCS_OK)
		return ucx_err(status);
	status = ucp_worker_get_address(ucx->worker, &ucx->address, &ucx->address_length);
	if (status == UCS_OK)
		status = ucp_worker_get_efd(ucx->worker, &ucx->event_fd);
	if (status == UCS_OK)
		return ERR_OK;
	ucp_worker_destroy(ucx->worker);
	return ucx_err(status);
}

static enum err start(struct ucx *ucx)
{
	loop_task_init(&ucx->progress_task, progress, ucx);
	enum err e = ucx_reader_init(ucx);
	if (e == ERR_OK)
		e = ucx_get_init(ucx);
	if (e == ERR_OK)
		e = ucx_serve_init(ucx);
	if (e == ERR_OK)
		e = loop_timer_create(ucx->link->loop, on_retry, ucx, &ucx->retry_timer);
	if (e == ERR_OK)
		e = loop_watch_create(ucx->link->loop, ucx->event_fd, LOOP_READ, on_event, ucx, &ucx->watch);
	if (e == ERR_OK)
		ucx_kick(ucx);
	else
		loop_timer_destroy(ucx->retry_timer);
	return e;
}

enum err ucx_create(struct link *link, struct ucx **ret_ucx, struct why *why)
{
	struct ucx *ucx = calloc(1, sizeof(*ucx));
	if (!ucx)
		return ERR_NOMEM;
	ucx->link = link;
	enum err e = choose_context(ucx, why);
	if (e != ERR_OK)
		goto free_ucx;
	e = create_worker(ucx);
	if (e != ERR_OK)
		goto cleanup_context;
	e = start(ucx);
	if (e != ERR_OK)
		goto destroy_worker;
	*ret_ucx = ucx;
	return ERR_OK;

destroy_worker:
	ucp_worker_release_address(ucx->worker, ucx->address);
	ucp_worker_destroy(ucx->worker);
cleanup_context:
	ucp_cleanup(ucx->context);
free_ucx:
	free(ucx);
	return e;
}

static uint64_t wall_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void ucx_destroy(struct ucx *ucx)
{
	if (!ucx)
		return;
	ucx_serve_close(ucx);
	for (uint64_t end = wall_ns() + CLOSE_WAIT_NS; (ucx->closing || ucx->flight_count) && wall_ns() < end;)
		ucp_worker_progress(ucx->worker);
	loop_watch_destroy(ucx->watch);
	loop_timer_destroy(ucx->retry_timer);
	loop_task_cancel(ucx->link->loop, &ucx->progress_task);
	ucx_reader_fini(ucx);
	ucp_worker_release_address(ucx->worker, ucx->address);
	ucp_worker_destroy(ucx->worker);
	for (size_t i = 0; i < ucx->region_count; i++) {
		ucx_unregister(ucx, &ucx->regions[i].of[MEMORY_HOST]);
		ucx_unregister(ucx, &ucx->regions[i].of[MEMORY_CUDA]);
	}
	ucp_cleanup(ucx->context);
	free(ucx->peers.places);
	free(ucx->flights.places);
	free(ucx->keys.places);
	free(ucx->sessions.places);
	free(ucx);
}

/* What landed there is judged by nobody any more: its pieces are read from the host's memory. */
void ucx_drop_twins(struct ucx *ucx)
{
	for (uint64_t end = wall_ns() + CLOSE_WAIT_NS; ucx->twin_count && wall_ns() < end;)
		ucp_worker_progress(ucx->worker);
	if (ucx->twin_count)
		log_error("link > %zu reads into the memory of a device are still under way", ucx->twin_count);
	for (size_t i = 0; i < ucx->region_count; i++)
		ucx_unregister(ucx, &ucx->regions[i].of[MEMORY_CUDA]);
}

enum link_transport ucx_transport(const struct ucx *ucx)
{
	return ucx->transport;
}

void ucx_local_address(const struct ucx *ucx, const uint8_t **ret_address, uint16_t *ret_length)
{
	*ret_address = (const uint8_t *)ucx->address;
	*ret_length = (uint16_t)ucx->address_length;
}
