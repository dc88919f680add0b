#include "coordinator/drain_api.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/api_error.h"
#include "coordinator/json_out.h"

enum { BODY_MAX = 4096 };
static const uint64_t RETRY_NS = 1000000000;

/* The name of the node; "": this coordinator. */
static enum err read_node(const char *body, size_t length, char ret_node[COORD_NAME_MAX + 1], struct api_error *error)
{
	ret_node[0] = 0;
	if (length == 0)
		return ERR_OK;
	if (length > BODY_MAX)
		return api_error_field(error, "", "the body has %zu bytes, at most %d", length, BODY_MAX);
	json_t *json = json_loadb(body, length, JSON_REJECT_DUPLICATES, NULL);
	const json_t *node = json_object_get(json, "node");
	const char *text = json_string_value(node);
	enum err e = ERR_OK;
	if (!json_is_object(json))
		e = api_error_field(error, "", "expected a JSON object like {\"node\":\"decode-1\"}");
	else if (json_object_size(json) > (node ? 1u : 0u))
		e = api_error_field(error, "", "expected no field but \"node\"");
	else if (node && (!text || !*text || strlen(text) > COORD_NAME_MAX))
		e = api_error_field(error, "node", "expected the name of a node, of 1 to %d bytes", COORD_NAME_MAX);
	else if (node)
		snprintf(ret_node, COORD_NAME_MAX + 1, "%s", text);
	json_decref(json);
	return e;
}

static enum err put_state(const struct drain_call *call, const char *node, uint64_t epoch, struct buf *out)
{
	struct json_out json;
	json_out_init(&json, out);
	json_out_open(&json, '{');
	json_put_text(&json, "node", node);
	json_put_bool(&json, "draining", call->drain);
	if (epoch)
		json_put_unsigned(&json, "epoch", epoch);
	json_out_close(&json, '}');
	return json.e;
}

/* Not the leader: says who is, and sends the client there. */
static void redirect(const struct drain_call *call, struct api_error *error, struct drain_answer *answer)
{
	bool known = call->leader_url[0] && strcmp(call->leader_name, call->name) != 0;
	if (!known) {
		api_error_set(error, 503, NULL, "Nobody leads at the moment; only the leader directs nodes.");
		answer->retry_after_ns = RETRY_NS;
		return;
	}
	api_error_set(error, 307, "not_leader", "%s does not lead; %s does, at %s.", call->name, call->leader_name,
		      call->leader_url);
	snprintf(answer->location, sizeof(answer->location), "%s%s", call->leader_url, call->path);
}

static enum err direct(const struct drain_call *call, const char *node, struct api_error *error, struct buf *out,
		       struct drain_answer *answer)
{
	struct why why = {0};
	enum coord_wish wish = call->drain ? COORD_WISH_DRAIN : COORD_WISH_UNDRAIN;
	enum err e = coord_direct(call->coord, node, wish, call->now_ns, &why);
	struct coord_lead lead;
	coord_lead(call->coord, call->now_ns, &lead);
	if (e == ERR_OK) {
		answer->status = 202; /* said; the node's reports will show it */
		return put_state(call, node, lead.epoch, out);
	}
	if (e == ERR_STALE)
		redirect(call, error, answer);
	else if (e == ERR_NOT_FOUND)
		api_error_set(error, 404, "node_not_found", "There is no node `%s` (a coordinator is asked itself).", node);
	else
		api_error_from(error, e, why.text, RETRY_NS);
	return e;
}

enum err drain_call(const struct drain_call *call, const char *body, size_t length, struct buf *out,
		    struct drain_answer *ret_answer)
{
	char node[COORD_NAME_MAX + 1];
	struct api_error error = {0};
	*ret_answer = (struct drain_answer){.status = 200};
	enum err e = read_node(body, length, node, &error);
	if (e == ERR_OK && (!node[0] || strcmp(node, call->name) == 0)) {
		ret_answer->self = true;
		return put_state(call, call->name, 0, out);
	}
	if (e == ERR_OK)
		e = direct(call, node, &error, out, ret_answer);
	if (e == ERR_OK || !error.status)
		return e;
	ret_answer->status = error.status;
	if (error.retry_after_ns)
		ret_answer->retry_after_ns = error.retry_after_ns;
	return api_error_body(&error, out);
}
