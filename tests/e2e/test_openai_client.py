#!/usr/bin/env python3
"""The official openai client against `baton up`: what a user of any OpenAI-compatible server relies on.

usage: test_openai_client.py      (a cluster of its own, or the one at BATON_TEST_PORT)
"""
import http.client
import json
import os
import time
import unittest
import urllib.error
import urllib.request

import openai

from cluster import Cluster

MODEL = "demo"
QUESTION = ("Remember this list.\nMirana has 417.\nTobin has 902.\nLena has 158.\nSalio has 633.\n"
            "Which number belongs to Tobin?")
MESSAGES = [{"role": "user", "content": QUESTION}]
LONG = {"ignore_eos": True}


def setUpModule():
    global cluster, port, client
    cluster, port = None, os.environ.get("BATON_TEST_PORT")
    if not port:
        cluster = Cluster(prefill=1, decode=1, kvstore=1).__enter__()
        port = cluster.port
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=60)


def tearDownModule():
    client.close()
    if cluster:
        cluster.__exit__(None, None, None)


def fetch(path, body=None, headers=None):
    """(status, headers in lower case, text) without a client library."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json",
                                                                            **(headers or {})})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return response.status, {k.lower(): v for k, v in response.headers.items()}, response.read().decode()


def chat(**more):
    return client.chat.completions.create(**{"model": MODEL, "messages": MESSAGES, "temperature": 0, "max_tokens": 24,
                                             **more})


def complete(**more):
    return client.completions.create(**{"model": MODEL, "prompt": QUESTION, "temperature": 0, "max_tokens": 24, **more})


class Answers(unittest.TestCase):
    def test_models_are_listed(self):
        models = client.models.list().data
        self.assertIn(MODEL, [model.id for model in models])
        self.assertEqual({model.object for model in models}, {"model"})
        self.assertGreater(models[0].max_model_len, 0)
        self.assertEqual(client.models.retrieve(MODEL).id, MODEL)
        with self.assertRaises(openai.NotFoundError):
            client.models.retrieve("no-such-model")

    def test_chat(self):
        answer = chat()
        choice = answer.choices[0]
        self.assertEqual((answer.object, answer.model, len(answer.choices)), ("chat.completion", MODEL, 1))
        self.assertEqual((choice.index, choice.message.role), (0, "assistant"))
        self.assertIn(choice.finish_reason, ("stop", "length"))
        self.assertTrue(choice.message.content)
        self.assertTrue(answer.id.startswith("chatcmpl-"))

    def test_completion(self):
        answer = complete()
        self.assertEqual((answer.object, answer.model), ("text_completion", MODEL))
        self.assertTrue(answer.id.startswith("cmpl-"))
        self.assertTrue(answer.choices[0].text)

    def test_usage_adds_up(self):
        for answer in (chat(), complete(), complete(n=3, temperature=1, seed=1)):
            usage = answer.usage
            self.assertEqual(usage.prompt_tokens + usage.completion_tokens, usage.total_tokens)
            self.assertLessEqual(usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens)
            self.assertGreater(usage.completion_tokens, 0)

    def test_a_repeated_prompt_is_cached(self):
        prompt = "A prompt that only this test asks. " + QUESTION
        self.assertEqual(complete(prompt=prompt).usage.prompt_tokens_details.cached_tokens, 0)
        again = complete(prompt=prompt).usage
        self.assertGreater(again.prompt_tokens_details.cached_tokens, 0)
        self.assertLess(again.prompt_tokens_details.cached_tokens, again.prompt_tokens)

    def test_completions_generate_16_tokens_unless_told(self):
        answer = client.completions.create(model=MODEL, prompt="Tell a story.", extra_body=LONG)
        self.assertEqual(answer.usage.completion_tokens, 16)
        self.assertEqual(answer.choices[0].finish_reason, "length")

    def test_max_completion_tokens_goes_before_max_tokens(self):
        answer = chat(max_tokens=9, max_completion_tokens=5, extra_body=LONG)
        self.assertEqual(answer.usage.completion_tokens, 5)

    def test_content_may_come_in_parts(self):
        lines = QUESTION.split("\n", 1)
        parts = [{"type": "text", "text": line} for line in lines]
        same = chat(messages=[{"role": "user", "content": parts}])
        self.assertEqual(same.choices[0].message.content, chat().choices[0].message.content)

    def test_prompts_as_tokens_and_in_lists(self):
        answer = complete(extra_body={"return_token_ids": True})
        ids = answer.choices[0].prompt_token_ids
        self.assertEqual(len(ids), answer.usage.prompt_tokens)
        self.assertEqual(len(answer.choices[0].token_ids), answer.usage.completion_tokens)
        text = answer.choices[0].text
        self.assertEqual(complete(prompt=ids).choices[0].text, text)
        for prompts in ([QUESTION, QUESTION], [ids, ids]):
            two = complete(prompt=prompts, n=2, temperature=1, seed=3)
            self.assertEqual([choice.index for choice in two.choices], [0, 1, 2, 3])
            self.assertEqual(two.choices[0].text, two.choices[2].text)
            self.assertEqual(two.choices[1].text, two.choices[3].text)

    def test_echo(self):
        self.assertEqual(complete(echo=True).choices[0].text, QUESTION + complete().choices[0].text)


class Streams(unittest.TestCase):
    def test_chat_streams_the_same_text(self):
        events = list(chat(stream=True))
        self.assertEqual(events[0].choices[0].delta.role, "assistant")
        self.assertEqual(events[0].choices[0].delta.content, "")
        self.assertTrue(all(event.object == "chat.completion.chunk" for event in events))
        self.assertEqual(len({event.id for event in events}), 1)
        text = "".join(event.choices[0].delta.content or "" for event in events)
        whole = chat()
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(events[-1].choices[0].finish_reason, whole.choices[0].finish_reason)
        self.assertTrue(all(event.choices[0].finish_reason is None for event in events[:-1]))
        self.assertTrue(all(event.usage is None for event in events))

    def test_completion_streams_a_chunk_a_token(self):
        events = list(complete(stream=True, max_tokens=12, extra_body=LONG))
        self.assertEqual(len(events), 12)
        self.assertEqual("".join(event.choices[0].text for event in events),
                         complete(max_tokens=12, extra_body=LONG).choices[0].text)

    def test_usage_comes_last(self):
        for ask in (chat, complete):
            events = list(ask(stream=True, stream_options={"include_usage": True}))
            self.assertEqual(events[-1].choices, [])
            usage, whole = events[-1].usage, ask().usage
            self.assertEqual(usage.completion_tokens, whole.completion_tokens)
            self.assertEqual(usage.prompt_tokens, whole.prompt_tokens)
            self.assertIsNotNone(usage.prompt_tokens_details.cached_tokens)
            self.assertTrue(all(event.usage is None for event in events[:-1]))

    def test_usage_with_every_chunk(self):
        events = list(complete(stream=True, max_tokens=6, extra_body={**LONG, "stream_options": {
            "include_usage": True, "continuous_usage_stats": True}}))
        self.assertEqual([event.usage.completion_tokens for event in events[:-1]], [1, 2, 3, 4, 5, 6])

    def test_several_choices_stream_side_by_side(self):
        settings = {"n": 3, "temperature": 1, "seed": 11, "max_tokens": 10}
        texts = {0: "", 1: "", 2: ""}
        for event in chat(stream=True, **settings):
            for choice in event.choices:
                texts[choice.index] += choice.delta.content or ""
        self.assertEqual(list(texts.values()), [choice.message.content for choice in chat(**settings).choices])

    def test_a_client_that_leaves_frees_everything(self):
        stream = complete(stream=True, max_tokens=1500, extra_body=LONG)
        next(iter(stream))
        stream.close()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            nodes = json.loads(fetch("/debug/topology")[2])["nodes"]
            if all(node["load"]["jobs"] == 0 and node["kv_blocks_used"] == 0 for node in nodes
                   if node["role"] in ("prefill", "decode")):
                return
            time.sleep(0.05)
        self.fail(nodes)


class Sampling(unittest.TestCase):
    def test_chat_logprobs(self):
        answer = chat(logprobs=True, top_logprobs=3)
        content = answer.choices[0].logprobs.content
        self.assertEqual(len(content), answer.usage.completion_tokens)
        for token in content:
            self.assertLessEqual(token.logprob, 0)
            self.assertEqual(bytes(token.bytes).decode(errors="replace"), token.token)
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertEqual(token.logprob, token.top_logprobs[0].logprob)  # greedy: the likeliest
            tops = [top.logprob for top in token.top_logprobs]
            self.assertEqual(tops, sorted(tops, reverse=True))
        said = "".join(token.token for token in content)
        self.assertTrue(said.startswith(answer.choices[0].message.content))

    def test_chat_logprobs_are_the_same_in_a_stream(self):
        whole = chat(logprobs=True, top_logprobs=2).choices[0].logprobs.content
        streamed = []
        for event in chat(logprobs=True, top_logprobs=2, stream=True):
            if event.choices[0].logprobs:
                streamed += event.choices[0].logprobs.content
        self.assertEqual(streamed, whole)

    def test_completion_logprobs(self):
        answer = complete(logprobs=2, max_tokens=12, extra_body=LONG)
        logprobs, text = answer.choices[0].logprobs, answer.choices[0].text
        self.assertEqual({len(logprobs.tokens), len(logprobs.token_logprobs), len(logprobs.top_logprobs),
                          len(logprobs.text_offset)}, {12})
        self.assertEqual(logprobs.text_offset[0], 0)
        for token, offset, logprob, top in zip(logprobs.tokens, logprobs.text_offset, logprobs.token_logprobs,
                                               logprobs.top_logprobs):
            if text[offset:offset + len(token)] == token:
                self.assertEqual(top[token], logprob)
            self.assertGreaterEqual(len(top), 2)

    def test_stop_strings(self):
        text = complete(max_tokens=40, extra_body=LONG).choices[0].text
        stop = text[6:9]
        cut = text[:text.index(stop)]
        answer = complete(max_tokens=40, stop=[stop, "never said"], extra_body=LONG)
        self.assertEqual((answer.choices[0].text, answer.choices[0].finish_reason), (cut, "stop"))
        self.assertEqual(answer.choices[0].stop_reason, stop)
        self.assertLess(answer.usage.completion_tokens, 40)
        streamed = "".join(event.choices[0].text
                           for event in complete(max_tokens=40, stop=stop, stream=True, extra_body=LONG))
        self.assertEqual(streamed, cut)
        kept = complete(max_tokens=40, stop=stop, extra_body={**LONG, "include_stop_str_in_output": True})
        self.assertEqual(kept.choices[0].text, cut + stop)

    def test_a_stop_string_that_only_begins_is_given_back(self):
        text = complete(max_tokens=10, extra_body=LONG).choices[0].text
        self.assertEqual(complete(max_tokens=10, stop=text[-2:] + "\x01", extra_body=LONG).choices[0].text, text)

    def test_stop_tokens(self):
        plain = complete(max_tokens=20, extra_body={**LONG, "return_token_ids": True}).choices[0]
        token = plain.token_ids[4]
        answer = complete(max_tokens=20, extra_body={**LONG, "return_token_ids": True, "stop_token_ids": [token]})
        choice = answer.choices[0]
        self.assertEqual(choice.token_ids, plain.token_ids[:plain.token_ids.index(token) + 1])
        self.assertEqual((choice.finish_reason, choice.stop_reason), ("stop", token))
        self.assertTrue(plain.text.startswith(choice.text))

    def test_n_and_seed(self):
        def texts(seed):
            answer = chat(n=4, temperature=1.5, seed=seed, max_tokens=16, extra_body=LONG)
            self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2, 3])
            return [choice.message.content for choice in answer.choices]
        first = texts(7)
        self.assertEqual(texts(7), first)
        self.assertNotEqual(texts(8), first)
        self.assertGreater(len(set(first)), 1)

    def test_without_a_seed_answers_differ_but_for_one_idempotency_key(self):
        def text(key=None):
            headers = {"Idempotency-Key": key} if key else None
            return complete(temperature=1.5, max_tokens=24, extra_body=LONG, extra_headers=headers).choices[0].text
        self.assertNotEqual(text(), text())
        self.assertEqual(text("abc-1"), text("abc-1"))
        self.assertNotEqual(text("abc-1"), text("abc-2"))

    def test_logit_bias(self):
        plain = complete(max_tokens=1, extra_body={**LONG, "return_token_ids": True}).choices[0].token_ids[0]
        other = plain + 1
        for bias, expected in (({str(other): 100}, other), ({str(plain): -100}, None)):
            got = complete(max_tokens=1, logit_bias=bias, extra_body={**LONG, "return_token_ids": True})
            if expected is not None:
                self.assertEqual(got.choices[0].token_ids, [expected])
            else:
                self.assertNotEqual(got.choices[0].token_ids, [plain])

    def test_min_tokens_holds_off_the_end(self):
        answer = complete(max_tokens=64, extra_body={"min_tokens": 60})
        self.assertGreaterEqual(answer.usage.completion_tokens, 60)


class Prompts(unittest.TestCase):
    """What is said of the prompt itself."""

    def test_an_echo_has_log_probabilities(self):
        plain = complete(max_tokens=8, logprobs=2, extra_body={**LONG, "return_token_ids": True}).choices[0]
        ids = plain.prompt_token_ids + plain.token_ids
        # Law 1: what decode said of a token as it chose it, prefill says of it as a part of a prompt.
        echo = complete(prompt=ids, max_tokens=0, echo=True, logprobs=2)
        scored, chosen, begin = echo.choices[0].logprobs, plain.logprobs, len(plain.prompt_token_ids)
        self.assertEqual(scored.token_logprobs[begin:], chosen.token_logprobs)
        self.assertEqual(scored.top_logprobs[begin:], chosen.top_logprobs)
        self.assertIsNone(scored.token_logprobs[0])
        self.assertIsNone(scored.top_logprobs[0])
        self.assertEqual(echo.choices[0].text, QUESTION + plain.text)
        self.assertEqual("".join(scored.tokens), echo.choices[0].text)
        for token, offset in zip(scored.tokens, scored.text_offset):
            self.assertEqual(echo.choices[0].text[offset:offset + len(token)], token)
        self.assertEqual((echo.usage.completion_tokens, echo.choices[0].finish_reason), (0, "length"))
        self.assertEqual(echo.usage.prompt_tokens, len(ids))
        # A warm cache changes nothing, and is not used: every row is computed.
        again = complete(prompt=ids, max_tokens=0, echo=True, logprobs=2)
        self.assertEqual(again.choices[0].logprobs, scored)
        self.assertEqual(again.usage.prompt_tokens_details.cached_tokens, 0)

    def test_an_echo_streams_the_same(self):
        ask = {"echo": True, "logprobs": 1, "max_tokens": 4, "extra_body": LONG}
        whole = complete(**ask).choices[0]
        text, tokens, logprobs = "", [], []
        for event in complete(stream=True, **ask):
            text += event.choices[0].text
            tokens += event.choices[0].logprobs.tokens
            logprobs += event.choices[0].logprobs.token_logprobs
        self.assertEqual((text, tokens, logprobs), (whole.text, whole.logprobs.tokens, whole.logprobs.token_logprobs))

    def test_a_long_echo_streams_whole(self):
        """Several times what a slow reader may leave unread, in bursts of a chunk of the prompt."""
        ids = json.loads(fetch("/tokenize", {"prompt": QUESTION * 60})[2])["tokens"][:3500]
        tokens = []
        for event in complete(prompt=ids, echo=True, logprobs=20, max_tokens=2, stream=True, extra_body=LONG):
            tokens += event.choices[0].logprobs.tokens
        self.assertEqual(len(tokens), len(ids) + 2)

    def test_an_echo_waits_for_a_reader_that_was_busy(self):
        """Nothing is read before all of it was said: an echo comes faster than anyone reads."""
        ids = json.loads(fetch("/tokenize", {"prompt": QUESTION * 60})[2])["tokens"][:3500]
        body = {"model": MODEL, "prompt": ids, "echo": True, "logprobs": 20, "max_tokens": 2, "stream": True, **LONG}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        seen = False
        while not seen or json.loads(fetch("/debug/topology")[2])["coordinator"]["requests"]:
            seen = seen or json.loads(fetch("/debug/topology")[2])["coordinator"]["requests"] > 0
        text = connection.getresponse().read().decode()
        connection.close()
        self.assertTrue(text.endswith("data: [DONE]\n\n"), text[-200:])
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        self.assertEqual(sum(len(e["choices"][0]["logprobs"]["tokens"]) for e in events), len(ids) + 2)

    def test_prompt_logprobs(self):
        answer = complete(max_tokens=2, n=2, extra_body={"prompt_logprobs": 2, "return_token_ids": True}).choices
        ids = answer[0].prompt_token_ids
        echo = complete(max_tokens=0, echo=True, logprobs=0).choices[0].logprobs.token_logprobs
        for choice in answer:
            self.assertEqual(len(choice.prompt_logprobs), len(ids))
            self.assertIsNone(choice.prompt_logprobs[0])
            for token, entry, logprob in zip(ids[1:], choice.prompt_logprobs[1:], echo[1:]):
                own = entry[str(token)]
                self.assertEqual(own["logprob"], logprob)
                ranks = sorted(e["rank"] for e in entry.values())
                self.assertEqual(ranks, sorted({1, 2, own["rank"]}))
                self.assertEqual([e["logprob"] for e in sorted(entry.values(), key=lambda e: e["rank"])],
                                 sorted((e["logprob"] for e in entry.values()), reverse=True))
        said = chat(max_tokens=1, extra_body={"prompt_logprobs": 0})
        self.assertEqual(len(said.prompt_logprobs), said.usage.prompt_tokens)
        with self.assertRaises(openai.BadRequestError) as caught:
            complete(stream=True, extra_body={"prompt_logprobs": 0})
        self.assertEqual(caught.exception.param, "prompt_logprobs")

    def test_the_end_of_a_prompt_may_be_kept(self):
        whole = complete(extra_body={"return_token_ids": True}).choices[0].prompt_token_ids
        for keep in (1, 7):
            kept = complete(extra_body={"return_token_ids": True, "truncate_prompt_tokens": keep}).choices[0]
            self.assertEqual(kept.prompt_token_ids, whole[-keep:])
        rest = complete(prompt="a b " * 4000, max_tokens=10, extra_body={"truncate_prompt_tokens": -1}).usage
        self.assertEqual(rest.prompt_tokens, client.models.list().data[0].max_model_len - 10)

    def test_a_message_may_go_on(self):
        def ids(**more):
            return json.loads(fetch("/tokenize", {"messages": more.pop("messages"), **more})[2])["tokens"]
        spoken = MESSAGES + [{"role": "assistant", "content": "The number is"}]
        going = ids(messages=spoken, continue_final_message=True)
        self.assertEqual(ids(messages=MESSAGES), going[:len(ids(messages=MESSAGES))])
        text = json.loads(fetch("/detokenize", {"tokens": going})[2])["prompt"]
        self.assertTrue(text.endswith("The number is"), text)
        answer = chat(messages=spoken, extra_body={"continue_final_message": True, "return_token_ids": True})
        self.assertEqual(answer.prompt_token_ids, going)

    def test_a_template_of_the_client_is_refused_unless_trusted(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            chat(extra_body={"chat_template": "{{ messages[0].content }}"})
        self.assertEqual(caught.exception.param, "chat_template")
        self.assertIn("--trust-request-chat-template", caught.exception.message)


class Texts(unittest.TestCase):
    """Routes on which no model works."""

    def test_tokenize_and_back(self):
        status, _, text = fetch("/tokenize", {"model": MODEL, "prompt": QUESTION, "return_token_strs": True})
        said = json.loads(text)
        self.assertEqual(status, 200)
        self.assertEqual((said["count"], said["max_model_len"]), (len(said["tokens"]), 4096))
        self.assertEqual(said["tokens"], complete(extra_body={"return_token_ids": True}).choices[0].prompt_token_ids)
        self.assertEqual("".join(said["token_strs"]).replace("\u0120", " ").replace("\u010a", "\n"), QUESTION)
        self.assertEqual(json.loads(fetch("/detokenize", {"tokens": said["tokens"]})[2]), {"prompt": QUESTION})

    def test_a_chat_is_tokenized_as_it_is_asked(self):
        said = json.loads(fetch("/tokenize", {"messages": MESSAGES})[2])
        self.assertEqual(said["tokens"], chat(extra_body={"return_token_ids": True}).prompt_token_ids)
        self.assertIsNone(said["token_strs"])

    def test_wrong_texts_are_named(self):
        for path, body, status, param in (
                ("/tokenize", {}, 400, "prompt"), ("/tokenize", {"prompt": 7}, 400, "prompt"),
                ("/tokenize", {"prompt": "x", "model": "other"}, 404, "model"), ("/detokenize", {}, 400, "tokens"),
                ("/detokenize", {"tokens": [1 << 40]}, 400, "tokens"),
                ("/v1/chat/completions/render", {"model": MODEL, "messages": MESSAGES, "top_p": 7}, 400, "top_p")):
            with self.subTest(path=path, body=body):
                got, _, text = fetch(path, body)
                self.assertEqual((got, json.loads(text)["error"]["param"]), (status, param), text)

    def test_render_is_what_the_nodes_would_see(self):
        body = {"model": MODEL, "messages": MESSAGES, "temperature": 0.5, "seed": 3, "max_tokens": 9, "stop": ["x"]}
        said = json.loads(fetch("/v1/chat/completions/render", body, {"x-request-id": "r-1"})[2])
        self.assertEqual(said["request_id"], "r-1")
        self.assertEqual(said["token_ids"], chat(extra_body={"return_token_ids": True}).prompt_token_ids)
        self.assertEqual({key: said["sampling_params"][key] for key in ("temperature", "seed", "max_tokens", "stop", "n")},
                         {"temperature": 0.5, "seed": 3, "max_tokens": 9, "stop": ["x"], "n": 1})
        two = json.loads(fetch("/v1/completions/render", {"model": MODEL, "prompt": ["a", QUESTION]})[2])
        self.assertEqual([len(one["token_ids"]) > 1 for one in two], [False, True])

    def test_what_was_rendered_is_generated(self):
        body = {"model": MODEL, "messages": MESSAGES, "temperature": 0.9, "seed": 3, "max_tokens": 9, "logprobs": True,
                "top_logprobs": 2, "n": 2}
        asked = chat(**body, extra_body={"return_token_ids": True})
        rendered = json.loads(fetch("/v1/chat/completions/render", body, {"x-request-id": "r-2"})[2])
        status, _, text = fetch("/inference/v1/generate", rendered)
        said = json.loads(text)
        self.assertEqual((status, said["request_id"]), (200, "r-2"), text)
        self.assertEqual([c["token_ids"] for c in said["choices"]], [c.token_ids for c in asked.choices])
        self.assertEqual([c["logprobs"] for c in said["choices"]], [c.logprobs.model_dump(exclude={"refusal"}) for c in asked.choices])
        self.assertEqual([c["finish_reason"] for c in said["choices"]], [c.finish_reason for c in asked.choices])
        self.assertEqual((said["usage"]["prompt_tokens"], said["usage"]["completion_tokens"]),
                         (len(rendered["token_ids"]), sum(len(c.token_ids) for c in asked.choices)))
        self.assertNotIn("text", said["choices"][0])

        _, headers, text = fetch("/inference/v1/generate", {**rendered, "stream": True, "stream_options": {"include_usage": True}})
        self.assertTrue(headers["content-type"].startswith("text/event-stream") and text.endswith("data: [DONE]\n\n"), text)
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        parts = [c for e in events for c in e["choices"]]
        for choice in said["choices"]:
            mine = [c for c in parts if c["index"] == choice["index"]]
            self.assertEqual(sum((c["token_ids"] for c in mine), []), choice["token_ids"])
            self.assertEqual(mine[-1]["finish_reason"], choice["finish_reason"])
        self.assertEqual(events[-1]["usage"]["total_tokens"], said["usage"]["total_tokens"])

    def test_the_form_of_an_answer_is_rendered_with_it(self):
        schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
        forms = ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}},
                 {"guided_regex": "[a-c]{3}"}, {"structured_outputs": {"choice": ["an \"x\"", "b"]}})
        said = ({"json": schema}, {"regex": "[a-c]{3}"}, {"choice": ["an \"x\"", "b"]})
        for form, expected in zip(forms, said):
            with self.subTest(form=form):
                body = {"model": MODEL, "messages": MESSAGES, "temperature": 0.9, "seed": 3, "max_tokens": 40, **form}
                rendered = json.loads(fetch("/v1/chat/completions/render", body)[2])
                self.assertEqual(rendered["sampling_params"]["structured_outputs"], expected)
                status, _, text = fetch("/inference/v1/generate", rendered)
                asked = json.loads(fetch("/v1/chat/completions", {**body, "return_token_ids": True})[2])
                self.assertEqual(status, 200, text)
                self.assertEqual(json.loads(text)["choices"][0]["token_ids"], asked["choices"][0]["token_ids"])

    def test_a_forced_call_is_not_rendered(self):
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        status, _, text = fetch("/v1/chat/completions/render",
                                {"model": MODEL, "messages": MESSAGES, "tools": [tool], "tool_choice": "required"})
        self.assertEqual((status, json.loads(text)["error"]["param"]), (400, "tool_choice"), text)

    def test_tokens_alone_are_enough_to_generate(self):
        ids = json.loads(fetch("/tokenize", {"prompt": QUESTION})[2])["tokens"]
        said = json.loads(fetch("/inference/v1/generate", {"token_ids": ids, "sampling_params": {"temperature": 0, "prompt_logprobs": 1}})[2])
        asked = complete(max_tokens=16, extra_body={"return_token_ids": True, "prompt_logprobs": 1}).choices[0]
        self.assertEqual(said["choices"][0]["token_ids"], asked.token_ids)
        self.assertEqual(said["prompt_logprobs"], asked.prompt_logprobs)
        for field, body in (("token_ids", {"sampling_params": {}}), ("token_ids", {"token_ids": "x", "sampling_params": {}}),
                            ("sampling_params", {"token_ids": ids}), ("token_ids", {"token_ids": [1 << 30], "sampling_params": {}}),
                            ("sampling_params.top_p", {"token_ids": ids, "sampling_params": {"top_p": 7}}),
                            ("features", {"token_ids": ids, "sampling_params": {}, "features": {"mm_hashes": {}}})):
            with self.subTest(body=body):
                status, _, text = fetch("/inference/v1/generate", body)
                self.assertEqual((status, json.loads(text)["error"]["param"]), (400, field), text)


class Errors(unittest.TestCase):
    def check(self, kind, status, param, call, code=None):
        with self.assertRaises(kind) as caught:
            call()
        error = caught.exception
        self.assertEqual((error.status_code, error.param, error.code), (status, param, code), error.body)
        self.assertEqual(set(error.body), {"message", "type", "param", "code"})
        self.assertTrue(error.response.headers["x-request-id"])
        return error

    def test_wrong_fields_are_named(self):
        wrong = {"temperature": 3, "top_p": 0, "n": 0, "max_tokens": 0, "presence_penalty": -3, "frequency_penalty": 2.5,
                 "seed": "one", "stop": [""], "logprobs": "yes", "top_logprobs": 21, "logit_bias": {"x": 1},
                 "stream": "true", "messages": [], "user": 7, "service_tier": "gold", "tools": {"type": "function"},
                 "response_format": {"type": "xml"}}
        for field, value in wrong.items():
            with self.subTest(field=field):
                body = {"model": MODEL, "messages": MESSAGES, **({"logprobs": True} if field == "top_logprobs" else {}),
                        field: value}
                status, _, text = fetch("/v1/chat/completions", body)
                error = json.loads(text)["error"]
                self.assertEqual((status, error["type"], error["param"]), (400, "invalid_request_error", field), text)
                self.assertIn(field, error["message"])

    def test_wrong_extensions_are_named(self):
        for field, value in {"top_k": 1.5, "min_p": 2, "repetition_penalty": 0, "stop_token_ids": [-1], "min_tokens": -1,
                             "ignore_eos": 1, "prompt": [], "best_of": 3, "echo": "no", "suffix": "x"}.items():
            with self.subTest(field=field):
                status, _, text = fetch("/v1/completions", {"model": MODEL, "prompt": "x", field: value})
                self.assertEqual((status, json.loads(text)["error"]["param"]), (400, field), text)

    def test_error_classes(self):
        self.check(openai.BadRequestError, 400, "temperature", lambda: chat(temperature=3))
        self.check(openai.NotFoundError, 404, "model", lambda: chat(model="no-such-model"), "model_not_found")
        self.check(openai.BadRequestError, 400, "messages", lambda: chat(max_tokens=1 << 20), "context_length_exceeded")
        self.check(openai.BadRequestError, 400, "prompt", lambda: complete(prompt="a b " * 20000),
                   "context_length_exceeded")
        self.check(openai.BadRequestError, 400, "prompt", lambda: complete(prompt="a" * (3 << 20)),
                   "context_length_exceeded")
        with self.assertRaises(openai.APIStatusError) as caught:
            complete(prompt="a" * (10 << 20))
        self.assertEqual(caught.exception.status_code, 413)
        self.check(openai.BadRequestError, 400, "prompt", lambda: complete(prompt=[1 << 30]))

    def test_an_error_before_the_first_token_has_a_status_of_its_own(self):
        self.check(openai.BadRequestError, 400, "temperature", lambda: chat(temperature=3, stream=True))

    def test_broken_bodies(self):
        for body in (b"{", b"[]", b"\xff", b'{"model": 3}'):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", body,
                                             {"Content-Type": "application/json"})
            with self.assertRaises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=30)
            self.assertEqual(caught.exception.code, 400)
            self.assertIn("message", json.loads(caught.exception.read())["error"])

    def test_unknown_fields_are_accepted(self):
        self.assertEqual(chat(extra_body={"prompt_cache_key": "k", "from_the_future": {"x": 1}, "stop": None,
                                          "reasoning_effort": "low", "metadata": {"a": "b"}}).choices[0].message.content,
                         chat().choices[0].message.content)


class Retries(unittest.TestCase):
    """The client repeats by itself what may help, and only that."""

    def counted(self, ask):
        """How often the client asked; what it raised."""
        asked = []
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=2, timeout=60) as eager:
            send = eager._client.send
            eager._client.send = lambda request, **more: asked.append(request.headers) or send(request, **more)
            try:
                ask(eager)
            except openai.APIStatusError as error:
                return len(asked), error
        return len(asked), None

    def test_a_deadline_that_passed_is_not_repeated(self):
        times, error = self.counted(lambda eager: eager.completions.create(
            model=MODEL, prompt="A long story.", max_tokens=2000, extra_body=LONG, extra_headers={"x-request-timeout": "0.2"}))
        self.assertEqual((times, error.status_code, error.code), (1, 408, "request_timeout"))
        self.assertEqual(error.response.headers["x-should-retry"], "false")

    def test_a_deadline_in_a_stream_is_an_error_event(self):
        got = []
        with self.assertRaises(openai.APIError) as caught:
            for event in complete(stream=True, max_tokens=3500, extra_body=LONG, extra_headers={"x-request-timeout": "0.5"}):
                got.append(event)
        self.assertTrue(got, "no token came before the deadline")
        self.assertIn("deadline", caught.exception.message)
        self.assertTrue(all(event.choices[0].finish_reason is None for event in got))

    def test_bad_requests_are_not_repeated(self):
        for ask, status in ((lambda c: c.completions.create(model=MODEL, prompt="x", temperature=9), 400),
                            (lambda c: c.completions.create(model="other", prompt="x"), 404),
                            (lambda c: c.completions.create(model=MODEL, prompt="x",
                                                            extra_headers={"Content-Type": "text/plain"}), 415)):
            times, error = self.counted(ask)
            self.assertEqual((times, error.status_code), (1, status))

    def test_a_copy_that_still_runs_is_repeated_when_it_may_be(self):
        key = {"Idempotency-Key": f"retry-{time.monotonic()}"}
        stream = complete(stream=True, max_tokens=3000, extra_body=LONG, extra_headers=key)
        next(iter(stream))
        times, error = self.counted(lambda eager: eager.completions.create(
            model=MODEL, prompt=QUESTION, temperature=0, max_tokens=3000, stream=True, extra_body=LONG,
            extra_headers=key).close())
        self.assertGreater(times, 1)  # the client waits as it is told, and asks again
        if error:
            self.assertEqual((error.status_code, error.code), (409, "idempotency_key_in_use"))
            self.assertEqual(error.response.headers["retry-after-ms"], "1000")
        stream.close()

    def test_a_wrong_timeout_is_named(self):
        for wrong in ("", "soon", "-1", "0", "1e9", "nan"):
            status, _, text = fetch("/v1/completions", {"model": MODEL, "prompt": "x"}, {"x-request-timeout": wrong})
            self.assertEqual((status, json.loads(text)["error"]["param"]), (400, "x-request-timeout"), wrong)


class Surroundings(unittest.TestCase):
    def test_methods(self):
        for method, path, status, allow in (("DELETE", "/v1/models/demo", 405, "GET, HEAD, OPTIONS"),
                                            ("GET", "/v1/completions", 405, "POST, OPTIONS"),
                                            ("OPTIONS", "/v1/completions", 204, "POST, OPTIONS"),
                                            ("HEAD", "/v1/models", 200, None), ("GET", "/nowhere", 404, None)):
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method,
                                             headers={"Origin": "https://elsewhere.example"})
            try:
                response = urllib.request.urlopen(request, timeout=30)
            except urllib.error.HTTPError as error:
                response = error
            with response, self.subTest(method=method, path=path):
                text = response.read().decode()
                self.assertEqual((response.status, response.headers["Allow"]), (status, allow), text)
                self.assertTrue(response.headers["x-request-id"])
                self.assertIsNone(response.headers["Access-Control-Allow-Origin"])
                if status >= 400:
                    self.assertEqual(set(json.loads(text)["error"]), {"message", "type", "param", "code"})

    def test_load_and_ping(self):
        self.assertEqual(fetch("/ping")[0::2], (200, ""))
        self.assertEqual(json.loads(fetch("/load")[2]), {"server_load": 0})

    def test_request_ids(self):
        given = fetch("/v1/completions", {"model": MODEL, "prompt": "x"}, {"x-request-id": "mine-1"})
        self.assertEqual(given[1]["x-request-id"], "mine-1")
        self.assertTrue(fetch("/v1/models")[1]["x-request-id"])

    def test_health_and_readiness(self):
        self.assertEqual(fetch("/health")[0::2], (200, ""))
        self.assertEqual(fetch("/livez")[0], 200)
        status, _, text = fetch("/readyz")
        self.assertEqual((status, json.loads(text)), (200, {"ready": True, "reasons": []}))
        self.assertIn("version", json.loads(fetch("/version")[2]))

    def test_metrics(self):
        complete()
        text = fetch("/metrics")[2]
        for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:prompt_tokens_total",
                     "vllm:generation_tokens_total", "vllm:time_to_first_token_seconds_bucket",
                     "vllm:inter_token_latency_seconds_count", "vllm:e2e_request_latency_seconds_sum",
                     "vllm:request_success_total", "vllm:prefix_cache_hits_total", "vllm:kv_cache_usage_perc",
                     "baton_node_state", "baton_kv_blocks_total", "baton_transport_info", "baton_recoveries_total",
                     "baton_block_misses_total"):
            self.assertIn(f"\n{name}{{", text)

    def test_trace(self):
        _, _, text = fetch("/v1/completions", {"model": MODEL, "prompt": QUESTION}, {"x-baton-trace": "1"})
        usage = json.loads(text)["usage"]
        attempt = usage["baton"]["attempts"][0]
        prefill, decode = attempt["prefill"], attempt["decode"]
        self.assertEqual(prefill["computed"] + prefill["reused"] + prefill["fetched"], usage["prompt_tokens"])
        self.assertEqual(decode["transferred"] + decode["reused"], usage["prompt_tokens"])
        self.assertNotIn("baton", json.loads(fetch("/v1/completions", {"model": MODEL, "prompt": "x"})[2])["usage"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
