#!/usr/bin/env python3
"""The official openai client against `baton up`: what a user of any OpenAI-compatible server relies on.

usage: test_openai_client.py      (a cluster of its own, or the one at BATON_TEST_PORT)
"""
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
                 "stream": "true", "messages": [], "user": 7, "service_tier": "gold", "tools": [{"type": "function"}],
                 "response_format": {"type": "json_object"}}
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
        self.check(openai.BadRequestError, 400, "prompt", lambda: complete(prompt="a" * (10 << 20)),
                   "context_length_exceeded")
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


class Surroundings(unittest.TestCase):
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
