#include "net/ucx_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucp/api/ucp.h>

const char *ucx_view_version(void)
{
	return ucp_get_version_string();
}

/* UCX tells what a context has only to a FILE: "#      resource 2  :  md 1  dev 2  flags -- tcp/eth0". */
static uint32_t read_lanes(const char *info, struct ucx_lane *ret_lanes, uint32_t max)
{
	uint32_t count = 0;
	for (const char *line = info; line && *line && count < max; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
		struct ucx_lane *lane = &ret_lanes[count];
		const char *flags = strncmp(line, "# ", 2) == 0 ? strstr(line, "flags") : NULL;
		const char *end = strchr(line, '\n');
		if (flags && (!end || flags < end) && sscanf(flags, "flags %*s %15[^/ \n]/%31[^ \n]", lane->transport, lane->device) == 2)
			count++;
	}
	return count;
}

static enum err open_context(ucp_context_h *ret_context, bool *ret_rma_rails, struct why *why)
{
	ucp_config_t *config = NULL;
	ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES, .features = UCP_FEATURE_AM | UCP_FEATURE_RMA};
	if (ucp_config_read(NULL, NULL, &config) != UCS_OK)
		return why_set(why, ERR_UNSUPPORTED, "no configuration");
	*ret_rma_rails = ucp_config_modify(config, "MAX_RMA_RAILS", "2") == UCS_OK;
	ucs_status_t status = ucp_config_modify(config, "TLS", "all");
	if (status == UCS_OK)
		status = ucp_config_modify(config, "NET_DEVICES", "all");
	if (status == UCS_OK)
		status = ucp_init(&params, config, ret_context);
	ucp_config_release(config);
	return status == UCS_OK ? ERR_OK : why_set(why, ERR_UNSUPPORTED, "%s", ucs_status_string(status));
}

enum err ucx_view(struct ucx_lane *ret_lanes, uint32_t max, uint32_t *ret_count, bool *ret_cuda, bool *ret_rma_rails, struct why *why)
{
	ucp_context_h context;
	char *info = NULL;
	size_t length = 0;
	enum err e = open_context(&context, ret_rma_rails, why);
	if (e != ERR_OK)
		return e;
	FILE *file = open_memstream(&info, &length);
	if (file) {
		ucp_context_print_info(context, file);
		fclose(file);
	}
	ucp_context_attr_t attributes = {.field_mask = UCP_ATTR_FIELD_MEMORY_TYPES};
	*ret_cuda = ucp_context_query(context, &attributes) == UCS_OK && attributes.memory_types & 1u << UCS_MEMORY_TYPE_CUDA;
	*ret_count = info ? read_lanes(info, ret_lanes, max) : 0;
	ucp_cleanup(context);
	if (!info)
		return ERR_NOMEM;
	free(info);
	return ERR_OK;
}
