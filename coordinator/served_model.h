/* served_model - a model as the API knows it: a name, and the directory that says how its texts become tokens.
 *
 * Owns:   the opened directory, without weights, and the operator's chat template.
 * Bounds: SERVED_MODELS_MAX models of a coordinator. */
#ifndef COORDINATOR_SERVED_MODEL_H
#define COORDINATOR_SERVED_MODEL_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/why.h"
#include "coordinator/core.h"
#include "coordinator/speech.h"

struct chat_template;
struct model_dir;
struct token_trie;

enum { SERVED_MODELS_MAX = 16 };

struct served_model {
	char name[COORD_TEXT_MAX + 1];
	struct model_dir *dir;
	uint32_t context_max; /* tokens of prompt and answer */
	struct token_trie *tokens; /* the vocabulary as a tree: what a structure may ask for */
	uint32_t token_bytes_max; /* of the longest token: a text far beyond context_max of them need not be tokenised */
	int64_t created;      /* seconds since 1970: when it was opened */
	struct chat_template *chat_template; /* instead of the model's; NULL: that one */
	bool trust_request_template;         /* a client may bring its own */
	enum tool_format tool_format;        /* how it writes calls and thoughts: guessed from its chat template */
	enum reasoning_format reasoning_format;
	bool names_first;                    /* Mistral's newer form of calls */
};

/* spec: "DIR", served as the folder's name, or "NAME=DIR".  context_max 0: the model's own. */
MUST_USE enum err served_model_open(const char *spec, uint32_t context_max, struct why *why,
				    struct served_model *ret_model);
/* Serves a directory that somebody else opened and closes; served_model_fini() gives back what is the model's own. */
MUST_USE enum err served_model_borrow(struct model_dir *dir, const char *name, uint32_t context_max,
				      struct served_model *ret_model);
void served_model_fini(struct served_model *model);
/* The operator's chat template: a file's path, or the template itself where it has more than one line or braces. */
MUST_USE enum err served_model_template(struct served_model *model, const char *template_or_path, struct why *why);
/* The formats by vLLM's names; "auto" or NULL: as the chat template has it. */
MUST_USE enum err served_model_formats(struct served_model *model, const char *tools, const char *reasoning,
				       struct why *why);
void served_model_close(struct served_model *model);
#endif
