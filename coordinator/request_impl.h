/* request_impl - the parts of reading a request, between its files. */
#ifndef COORDINATOR_REQUEST_IMPL_H
#define COORDINATOR_REQUEST_IMPL_H
#include "coordinator/request_fields.h"
#include "coordinator/request_parse.h"

/* request_sampling.c: how tokens are drawn, how many, and what ends them. */
void request_read_sampling(struct fields *fields, struct api_request *request);
/* request_prompt.c: what becomes the prompt: messages and their template, or texts and tokens. */
void request_read_chat(struct fields *fields, struct api_request *request);
/* request_tools.c: tools, documents, and how the model thinks. */
void request_read_tools(struct fields *fields, struct api_request *request);
void request_read_prompt(struct fields *fields, struct api_request *request);
void request_read_token_ids(struct fields *fields, struct api_request *request);
/* request_structure.c: what the answer must look like. */
void request_read_structure(struct fields *fields, struct api_request *request);
#endif
