/* service_structure - is what a request asks of its answer something that the model can write?  Compiled here only to say so
 * before anything is computed; the nodes compile it for themselves. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "coordinator/service_impl.h"
#include "coordinator/tool_structure.h"
#include "model/model_dir.h"
#include "model/structure.h"

static void name_structure(const struct served_model *model, const char *structure, struct id128 *ret_name)
{
	struct sha256 sha;
	uint8_t digest[32];
	sha256_init(&sha);
	sha256_add(&sha, &model, sizeof(model));
	sha256_add(&sha, structure, strlen(structure));
	sha256_end(&sha, digest);
	memcpy(ret_name->bytes, digest, sizeof(ret_name->bytes));
}

/* The same few come again and again. */
static bool is_known(const struct service *service, const struct id128 *name)
{
	for (int i = 0; i < SERVICE_STRUCTURES_KNOWN; i++)
		if (id128_equal(&service->structures[i], name))
			return true;
	return false;
}

static enum err check(struct service *service, const struct served_model *model, const struct api_request *request,
		      struct api_error *error)
{
	const struct structure_tokens tokens = {model->dir->tokenizer, model->tokens};
	struct grammar *grammar;
	struct id128 name;
	struct why why = {0};
	if (!request->structure)
		return ERR_OK;
	name_structure(model, request->structure, &name);
	if (is_known(service, &name))
		return ERR_OK;
	enum err e = structure_compile(request->structure, strlen(request->structure), &tokens, &why, &grammar);
	if (e == ERR_NOMEM)
		return e;
	if (e != ERR_OK)
		return api_error_field(error, request->structure_param, "%s: %s", request->structure_param, why.text);
	grammar_destroy(grammar);
	service->structures[service->structure_next++ % SERVICE_STRUCTURES_KNOWN] = name;
	return ERR_OK;
}

/* A call in its family's format, where the answer has to be one. */
static enum err force_call(struct service_call *call, struct api_error *error)
{
	struct api_request *request = &call->request;
	json_t *structure = NULL;
	struct why why = {0};
	const struct tool_structure_options options = {
		.format = call->model->tool_format,
		.tools = request->tools,
		.name = request->called_tool,
		.one_call = request->one_call,
		.names_first = call->model->names_first,
	};
	enum err e = tool_structure(&options, &why, &structure);
	if (e == ERR_UNSUPPORTED)
		return api_error_field(error, "tool_choice", "tool_choice: %s", why.text);
	request->structure = e == ERR_OK ? json_dumps(structure, JSON_COMPACT) : NULL;
	request->structure_param = "tool_choice";
	json_decref(structure);
	return request->structure ? ERR_OK : ERR_NOMEM;
}

static enum err precede(struct api_request *request, enum tool_precedence what)
{
	char *whole = NULL;
	enum err e = tool_structure_precede(request->structure, what, &whole);
	if (e != ERR_OK)
		return e;
	free(request->structure);
	request->structure = whole;
	return ERR_OK;
}

enum err service_settle_structure(struct service_call *call, const struct speech_options *speech, struct api_error *error)
{
	struct api_request *request = &call->request;
	enum err e = request->must_call ? force_call(call, error) : ERR_OK;
	if (e == ERR_OK && request->structure && speech_has_channels(speech))
		e = precede(request, request->must_call ? TOOL_CALL_CHANNEL : TOOL_FINAL_CHANNEL);
	else if (e == ERR_OK && request->structure && speech_thinks_first(speech))
		e = precede(request, TOOL_THOUGHT_ENDS);
	return e == ERR_OK ? check(call->service, call->model, request, error) : e;
}
