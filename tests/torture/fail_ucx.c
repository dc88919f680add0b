/* UCX. */
#include <ucp/api/ucp.h>

#include "fail_impl.h"

#define PTR(status) ((ucs_status_ptr_t)(intptr_t)(status))
#define UCX(name, parameters, arguments, status) WRAP(ucs_status_t, name, parameters, arguments, FAIL_UCX, EIO, status)
#define UCX_PTR(name, parameters, arguments, status) \
	WRAP(ucs_status_ptr_t, name, parameters, arguments, FAIL_UCX, EIO, PTR(status))

UCX(ucp_config_read, (const char *prefix, const char *file, ucp_config_t **config), (prefix, file, config),
    UCS_ERR_NO_MEMORY)
UCX(ucp_config_modify, (ucp_config_t * config, const char *name, const char *value), (config, name, value),
    UCS_ERR_NO_ELEM)
UCX(ucp_init_version, (unsigned major, unsigned minor, const ucp_params_t *params, const ucp_config_t *config,
		       ucp_context_h *context), (major, minor, params, config, context), UCS_ERR_NO_DEVICE)
UCX(ucp_worker_create, (ucp_context_h context, const ucp_worker_params_t *params, ucp_worker_h *worker),
    (context, params, worker), UCS_ERR_NO_MEMORY)
UCX(ucp_worker_get_address, (ucp_worker_h worker, ucp_address_t **address, size_t *length), (worker, address, length),
    UCS_ERR_NO_MEMORY)
UCX(ucp_worker_get_efd, (ucp_worker_h worker, int *fd), (worker, fd), UCS_ERR_IO_ERROR)
UCX(ucp_worker_arm, (ucp_worker_h worker), (worker), UCS_ERR_IO_ERROR)
UCX(ucp_worker_set_am_recv_handler, (ucp_worker_h worker, const ucp_am_handler_param_t *param), (worker, param),
    UCS_ERR_NO_MEMORY)
UCX(ucp_ep_create, (ucp_worker_h worker, const ucp_ep_params_t *params, ucp_ep_h *endpoint), (worker, params, endpoint),
    UCS_ERR_UNREACHABLE)
UCX(ucp_mem_map, (ucp_context_h context, const ucp_mem_map_params_t *params, ucp_mem_h *memory),
    (context, params, memory), UCS_ERR_NO_MEMORY)
UCX(ucp_rkey_pack, (ucp_context_h context, ucp_mem_h memory, void **key, size_t *length),
    (context, memory, key, length), UCS_ERR_NO_MEMORY)
UCX(ucp_ep_rkey_unpack, (ucp_ep_h endpoint, const void *key, ucp_rkey_h *rkey), (endpoint, key, rkey),
    UCS_ERR_NO_MEMORY)
UCX_PTR(ucp_am_send_nbx, (ucp_ep_h endpoint, unsigned id, const void *header, size_t header_length, const void *data,
			  size_t count, const ucp_request_param_t *param),
	(endpoint, id, header, header_length, data, count, param), UCS_ERR_NO_MEMORY)
UCX_PTR(ucp_am_recv_data_nbx, (ucp_worker_h worker, void *descriptor, void *data, size_t count,
			       const ucp_request_param_t *param),
	(worker, descriptor, data, count, param), UCS_ERR_NO_MEMORY)
UCX_PTR(ucp_get_nbx, (ucp_ep_h endpoint, void *data, size_t count, uint64_t from, ucp_rkey_h rkey,
		      const ucp_request_param_t *param), (endpoint, data, count, from, rkey, param), UCS_ERR_NO_MEMORY)
