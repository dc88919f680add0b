/* Each parser over a valid input. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/options.h"
#include "coordinator/json_out.h"
#include "coordinator/prompt.h"
#include "coordinator/request_parse.h"
#include "fail.h"
#include "model/detokenize.h"
#include "model/model_dir.h"
#include "net/http_parse.h"
#include "net/link.h"
#include "net/member.h"
#include "net/region.h"
#include "proto/codec.h"
#include "tests/scratch.h"
#include "torture.h"

#define MODEL GOLDEN_DIR "/engine/llama-f32"
#define SPLITS GOLDEN_DIR "/tokenizer/splits.json"

static enum err http_head(struct why *why)
{
	char text[] = "POST /v1/completions?a=%41 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n";
	struct http_head head;
	enum err e = http_head_parse(text, http_head_length(text, sizeof(text) - 1), &head);
	torture_check(e == ERR_OK && strcmp(head.query[0].value, "A") == 0 && head.body_length == 3);
	return ERR_OK;
}

static enum err request(struct why *why)
{
	static const char body[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"max_tokens\":3,"
				   "\"stop\":[\"a\",\"bc\"],\"logit_bias\":{\"5\":1.5},\"stop_token_ids\":[7],\"seed\":4,"
				   "\"chat_template_kwargs\":{\"a\":[1,2]},\"logprobs\":true,\"top_logprobs\":2,\"unknown\":{}}";
	struct api_request request;
	struct api_error error = {0};
	enum err e = api_request_parse(API_CHAT, body, sizeof(body) - 1, &request, &error);
	if (e != ERR_OK)
		return why_set(why, e, "%s", error.message);
	torture_check(request.sampling.max_tokens == 3 && request.sampling.bias_count == 1 && request.has_seed);
	api_request_fini(&request);
	return ERR_OK;
}

/* The arena is what may run out: every size from nothing up. */
static enum err envelope(struct why *why)
{
	Wire__JobId job = {.base = PROTOBUF_C_MESSAGE_INIT(&wire__job_id__descriptor), .coordinator = 1, .number = 2};
	Wire__Sampling sampling = WIRE__SAMPLING__INIT;
	Wire__Reserve reserve = WIRE__RESERVE__INIT;
	Wire__Envelope envelope = WIRE__ENVELOPE__INIT, *got = NULL;
	uint8_t compat[PROTO_KEY_BYTES] = {1}, frame[1024];
	uint32_t tokens[] = {1, 2, 3}, choices[] = {0};
	reserve.job = &job;
	reserve.sampling = &sampling;
	reserve.model = reserve.tenant = reserve.request = (char *)"m";
	reserve.compat = (ProtobufCBinaryData){sizeof(compat), compat};
	reserve.tokens = tokens, reserve.n_tokens = 3, reserve.prompt_count = 3;
	reserve.choices = choices, reserve.n_choices = 1;
	envelope.version = PROTO_VERSION;
	envelope.body_case = WIRE__ENVELOPE__BODY_RESERVE;
	envelope.reserve = &reserve;
	torture_check(codec_packed_size(&envelope) <= sizeof(frame));
	size_t length = codec_pack(&envelope, frame);
	enum err e = ERR_TOO_LARGE;
	for (size_t capacity = 0; e != ERR_OK && capacity < 65536; capacity += 8) {
		uint8_t *memory = malloc(capacity + 1); /* exactly as much as it may touch */
		if (!memory)
			return ERR_NOMEM;
		struct codec_arena arena = {.memory = memory, .capacity = capacity};
		e = codec_unpack(&arena, frame, length, why, &got);
		torture_check(e == ERR_OK || e == ERR_TOO_LARGE);
		torture_check(e != ERR_OK || (got->reserve->n_tokens == 3 && got->reserve->tokens[2] == 3));
		free(memory);
	}
	return e;
}

static enum err config(struct why *why)
{
	struct model_config config;
	enum err e = model_config_read(MODEL, why, &config);
	torture_check(e != ERR_OK || config.layer_count > 0);
	return e;
}

static enum err options(struct why *why)
{
	char path[64];
	static const char text[] = "name: x\nsize: 2MiB\nlist: [a, b]\nflag: true\n";
	fail_pause();
	int fd = scratch_file(path, sizeof(path), "options");
	torture_check(write(fd, text, sizeof(text) - 1) == (ssize_t)sizeof(text) - 1);
	close(fd);
	fail_resume();
	const char *name = "";
	uint64_t size = 0;
	bool flag = false;
	struct option_list list = {0};
	const struct option table[] = {{"name", OPTION_TEXT, &name, 0, 0, "TEXT", ""},
				       {"size", OPTION_BYTES, &size, 1, 0, "BYTES", ""},
				       {"list", OPTION_LIST, &list, 0, 0, "TEXT", ""},
				       {"flag", OPTION_FLAG, &flag, 0, 0, NULL, ""}};
	char *environment[] = {(char *)"BATON_NAME=y", NULL};
	char *argv[] = {(char *)"test", (char *)"--config", path, (char *)"--list", (char *)"c,d", NULL};
	struct options options = {.program = "test", .table = table, .count = 4, .environment = environment};
	enum err e = options_parse(&options, 5, argv, why);
	torture_check(e != ERR_OK || (size == 2 << 20 && strcmp(name, "y") == 0 && flag && list.count == 2));
	options_fini(&options);
	unlink(path);
	return e;
}

static enum err weights(struct why *why)
{
	struct weights *weights = NULL;
	enum err e = weights_open(MODEL, why, &weights);
	torture_check(e != ERR_OK || weights_count(weights) > 4);
	if (e == ERR_OK)
		weights_close(weights);
	return e;
}

static enum err tokens(const struct tokenizer *tokenizer, struct why *why)
{
	static const char text[] = "Ab 12 it's \xc3\xa9 <|eot|>\n\n x";
	struct tokens tokens = {0};
	struct buf out = {0};
	struct detokenizer detokenizer;
	struct tokenizer_encode_options plain = {.parse_special = true};
	enum err e = tokenizer_encode(tokenizer, text, sizeof(text) - 1, &plain, &tokens);
	detokenizer_init(&detokenizer, tokenizer, false);
	for (size_t i = 0; e == ERR_OK && i < tokens.count; i++)
		e = detokenizer_feed(&detokenizer, tokens.ids[i], &out);
	if (e == ERR_OK)
		e = detokenizer_finish(&detokenizer, &out);
	detokenizer_fini(&detokenizer);
	torture_check(e != ERR_OK || tokens.count > 3);
	tokens_fini(&tokens);
	buf_fini(&out);
	return e == ERR_OK ? ERR_OK : why_set(why, e, "text to tokens and back");
}

static enum err tokenizer_file(struct why *why)
{
	struct tokenizer *tokenizer = NULL;
	enum err e = tokenizer_load(SPLITS, why, &tokenizer);
	if (e == ERR_OK)
		e = tokens(tokenizer, why);
	tokenizer_destroy(tokenizer);
	return e;
}

static enum err chat_template(struct why *why)
{
	static const char source[] =
		"{% set ns = namespace(n=0) %}"
		"{% for m in messages if m.role != 'tool' %}{% set ns.n = ns.n + 1 %}{{ loop.index }}[{{ m['content']|trim|upper }}]"
		"{{ m.content.split(' ')|join('-') }}{{ {'a': [1, 2, m]}|tojson }}{% else %}none{% endfor %}"
		"{% if tools is defined and ns.n > 1 %}{{ raise_exception('no') }}{% endif %}{{ ('a' ~ 'b')[::-1] }}";
	struct chat_template *chat_template = NULL;
	struct buf out = {0};
	json_t *variables = json_pack("{s:[{s:s,s:s}]}", "messages", "role", "user", "content", " hi you ");
	enum err e = variables ? chat_template_parse(source, sizeof(source) - 1, why, &chat_template) : ERR_NOMEM;
	if (e == ERR_OK)
		e = chat_template_render(chat_template, variables, NULL, why, &out);
	torture_check(e != ERR_OK || strstr(out.data, "1[HI YOU]") != NULL);
	buf_fini(&out);
	json_decref(variables);
	chat_template_destroy(chat_template);
	return e;
}

static enum err model(struct why *why)
{
	static const struct model_dir_options everything = {0};
	struct model_dir *dir = NULL;
	enum err e = model_dir_open(MODEL, &everything, why, &dir);
	if (e == ERR_OK)
		model_dir_close(dir);
	return e;
}

static enum err member(struct why *why)
{
	struct member member = {.node = 7, .incarnation = 3, .role = WIRE__ROLE__ROLE_PREFILL, .pid = 5, .block_tokens = 16};
	struct member again;
	char text[MEMBER_RECORD_MAX];
	strcpy(member.name, "prefill 1");
	strcpy(member.url, "tcp://127.0.0.1:1");
	enum err e = member_format(&member, text);
	if (e == ERR_OK)
		e = member_parse(text, strlen(text), why, &again);
	torture_check(e != ERR_OK || (again.node == 7 && strcmp(again.url, member.url) == 0));
	return e == ERR_OK || why->text[0] ? e : why_set(why, e, "a member's record");
}

static enum err json_text(struct why *why)
{
	struct buf buf = {0};
	struct json_out out;
	json_out_init(&out, &buf);
	json_out_open(&out, '{');
	json_put_text(&out, "text", "a\"\xff\n\xc3\xa9 and quite a bit more, so that the buffer has to grow a few times over");
	json_put_unsigned(&out, "number", 12345678901234567890u);
	json_put_open(&out, "list", '[');
	for (int i = 0; i < 40; i++)
		json_out_float(&out, (float)i / 7);
	json_out_close(&out, ']');
	json_out_close(&out, '}');
	enum err e = out.e;
	torture_check(e != ERR_OK || (buf.data[0] == '{' && buf.data[buf.length - 1] == '}'));
	buf_fini(&buf);
	return e == ERR_OK ? ERR_OK : why_set(why, e, "JSON text");
}

const struct scenario parser_scenarios[] = {
	{"parse HTTP head", http_head, NULL, 0, true},
	{"parse request JSON", request, NULL, 1000, true},
	{"parse envelope", envelope, NULL, 1000, true},
	{"parse model config", config, NULL, 1000, true},
	{"parse options, YAML", options, NULL, 200, true},
	{"parse safetensors", weights, NULL, 1000, true},
	{"parse tokenizer.json", tokenizer_file, NULL, 1000, true},
	{"parse and render template", chat_template, NULL, 1000, true},
	{"open model directory", model, NULL, 300, true},
	{"parse member record", member, NULL, 1000, true},
	{"write JSON", json_text, NULL, 0, true},
	{0},
};
