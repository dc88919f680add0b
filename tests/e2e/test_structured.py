#!/usr/bin/env python3
"""Structured output on the real programs: what stops is JSON and valid, whatever the schema and the sampling; the cluster
writes what one process writes alone; a request that moves in mid-object goes on with the same tokens; the official client's
helpers work.

usage: test_structured.py [SCHEMAS]     (default 500)
"""
import enum
import json
import os
import random
import signal
import sys
import threading
import unittest

import openai
import pydantic

from cluster import DEMO, ROOT, Cluster, essence, solo

sys.path.insert(0, str(ROOT / "tests" / "golden" / "structure"))
import random_schemas  # noqa: E402

COUNT = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 500
WORDS = "a list of the names and ages of all that live in this house please answer as json what who when where".split()
NOTE = {"type": "object", "additionalProperties": False, "required": ["title", "tags", "score", "notes"],
        "properties": {"title": {"type": "string", "maxLength": 40}, "tags": {"type": "array", "minItems": 3, "maxItems": 6,
                                                                            "items": {"type": "string", "maxLength": 20}},
                       "score": {"type": "integer", "minimum": 0, "maximum": 100},
                       "notes": {"type": "array", "minItems": 8, "maxItems": 8, "items": {"type": "object", "required": ["by", "at"],
                                 "additionalProperties": False,
                                 "properties": {"by": {"type": "string", "minLength": 3, "maxLength": 12},
                                                "at": {"type": "string", "format": "date"}}}}}}


def schema_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def random_request(rng, number):
    """(request, schema); schema None: any object."""
    schema = random_schemas.random_schema(rng) if number % 10 else None
    prompt = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 60)))
    body = {"model": "demo", "max_tokens": 200, "seed": number, "temperature": rng.choice((0, 0.7, 1.0, 1.5)), "n": rng.choice((1, 1, 2)),
            "return_token_ids": True,
            **rng.choice(({}, {"min_tokens": 5}, {"frequency_penalty": 0.5}, {"top_p": 0.9, "top_k": 20}, {"logit_bias": {"34": 5}}))}
    if number % 3 == 1 and schema is not None:
        body["structured_outputs"] = {"json": schema}
    else:
        body["response_format"] = schema_format(schema) if schema is not None else {"type": "json_object"}
    if number % 2:
        return ("/v1/completions", {**body, "prompt": prompt}), schema
    return ("/v1/chat/completions", {**body, "messages": [{"role": "user", "content": prompt}]}), schema


def text_of(choice):
    return choice["message"]["content"] if choice.get("message") else choice["text"]


def joined(events):
    """What a stream said, by choice: (text, finish_reason)."""
    said = {}
    for event in events:
        for choice in event.get("choices", []):
            text, finish = said.get(choice["index"], ("", None))
            piece = choice["delta"].get("content") if "delta" in choice else choice.get("text")
            said[choice["index"]] = (text + (piece or ""), choice.get("finish_reason") or finish)
    return said


class Structured(unittest.TestCase):
    maxDiff = 2000

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(prefill=1, decode=2, kvstore=1)
        cls.cluster.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    def check_document(self, text, schema, request):
        value = json.loads(text)
        if schema is None:
            self.assertIsInstance(value, dict)
        else:
            self.assertTrue(random_schemas.valid(value, schema, schema), (text, request))

    def test_what_stops_is_valid(self):
        rng = random.Random(5)
        work = [random_request(rng, number) for number in range(COUNT)]
        answers = self.cluster.post_all([request for request, _ in work], 8)
        stopped = choices = 0
        for (request, schema), answer in zip(work, answers):
            for choice in answer["choices"]:
                choices += 1
                if choice["finish_reason"] == "stop":
                    stopped += 1
                    self.check_document(text_of(choice), schema, request)
        self.assertGreater(stopped, choices // 2)
        print(f"{COUNT} schemas: {choices} answers, {stopped} stopped and are valid, {choices - stopped} reached max_tokens")
        alone = solo(DEMO, [request for request, _ in work])
        for number, (answer, expected) in enumerate(zip(answers, alone)):
            with self.subTest(request=number):
                self.assertEqual(essence(answer), essence(expected))

    def test_a_stream_says_the_same(self):
        rng = random.Random(6)
        for number in range(8):
            (path, body), _ = random_request(rng, number)
            whole = self.cluster.post(path, body)
            events, done = self.cluster.stream(path, body)
            self.assertTrue(done)
            self.assertEqual(joined(events), {c["index"]: (text_of(c), c["finish_reason"]) for c in whole["choices"]})

    def test_an_answer_cut_short_says_length(self):
        body = {"model": "demo", "prompt": "x", "max_tokens": 9, "response_format": schema_format(NOTE)}
        choice = self.cluster.post("/v1/completions", body)["choices"][0]
        self.assertEqual(choice["finish_reason"], "length")

    def test_regex_and_choice(self):
        body = {"model": "demo", "prompt": "The name of it is", "max_tokens": 60, "seed": 3}
        for extra in ({"guided_regex": r"[A-Z][a-z]{2,5}: \d{3}"}, {"structured_outputs": {"regex": r"[A-Z][a-z]{2,5}: \d{3}"}}):
            choice = self.cluster.post("/v1/completions", {**body, **extra})["choices"][0]
            self.assertEqual(choice["finish_reason"], "stop")
            self.assertRegex(choice["text"], r"\A[A-Z][a-z]{2,5}: \d{3}\Z")
        names = ["Miralio", "Mirabel", "the other one", "日本"]
        seen = {self.cluster.post("/v1/completions", {**body, "seed": seed, "temperature": 2, "guided_choice": names})["choices"][0]["text"]
                for seed in range(12)}
        self.assertLessEqual(seen, set(names))
        self.assertGreater(len(seen), 1)

    def test_min_tokens_do_not_prolong_a_document(self):
        body = {"model": "demo", "prompt": "x", "max_tokens": 60, "min_tokens": 50, "guided_choice": ["yes", "no"]}
        choice = self.cluster.post("/v1/completions", body)["choices"][0]
        self.assertIn(choice["text"], ("yes", "no"))
        self.assertEqual(choice["finish_reason"], "stop")

    def test_what_is_not_understood_is_refused_by_name(self):
        for schema, name in (({"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 3}}}, "#/properties/a"),
                             ({"type": "object", "patternProperties": {}}, "patternProperties"),
                             ({"$ref": "#/$defs/Missing"}, "#/$defs/Missing")):
            status, _, text = self.cluster.call("POST", "/v1/completions", {"model": "demo", "prompt": "x",
                                                                            "response_format": schema_format(schema)})
            error = json.loads(text)["error"]
            self.assertEqual((status, error["param"]), (400, "response_format"), text)
            self.assertIn(name, error["message"])
        for field, value in (("guided_grammar", "root ::= x"), ("guided_regex", "(?=x)"), ("guided_json", 7)):
            status, _, text = self.cluster.call("POST", "/v1/completions", {"model": "demo", "prompt": "x", field: value})
            self.assertEqual((status, json.loads(text)["error"]["param"]), (400, field), text)

    def test_the_clients_helpers(self):
        class Kind(enum.Enum):
            CAT = "cat"
            DOG = "dog"

        class Pet(pydantic.BaseModel):
            kind: Kind
            name: str = pydantic.Field(max_length=10)

        class Person(pydantic.BaseModel):
            name: str = pydantic.Field(max_length=20)
            age: int = pydantic.Field(ge=0, le=150)
            pet: Pet | None

        client = openai.OpenAI(base_url=f"http://127.0.0.1:{self.cluster.port}/v1", api_key="none", max_retries=0)
        parsed = 0
        for seed in range(10):
            try:
                answer = client.chat.completions.parse(model="demo", messages=[{"role": "user", "content": "Who?"}], seed=seed,
                                                       temperature=0.8, max_tokens=300, response_format=Person)
            except openai.LengthFinishReasonError:
                continue
            person = answer.choices[0].message.parsed
            self.assertIsInstance(person, Person)
            self.assertLessEqual(person.age, 150)
            parsed += 1
        self.assertGreater(parsed, 0)


class Moved(unittest.TestCase):
    def test_a_decode_node_dies_in_mid_object(self):
        work = [("/v1/completions", {"model": "demo", "prompt": "Notes " * (3 + 5 * i), "seed": i, "temperature": 0.9, "max_tokens": 400,
                                     "return_token_ids": True, "response_format": schema_format(NOTE)}) for i in range(6)]
        expected = [essence(answer)[0] for answer in solo(DEMO, work)]
        with Cluster(prefill=1, decode=2, kvstore=1) as cluster:
            seen, lock, results = [0], threading.Lock(), [None] * len(work)
            victim = next(n for n in cluster.nodes() if n["role"] == "decode")

            def on_event(_):
                with lock:
                    seen[0] += 1
                    if seen[0] == 150:
                        os.kill(victim["pid"], signal.SIGKILL)

            def client(i):
                results[i] = cluster.stream(work[i][0], {**work[i][1], "stream_options": {"include_usage": True}}, on_event)

            threads = [threading.Thread(target=client, args=(i,)) for i in range(len(work))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
            self.assertGreaterEqual(seen[0], 150, "nothing was killed")
            recoveries = 0
            for (events, done), want in zip(results, expected):
                self.assertTrue(done, events[-1:])
                ids = [i for event in events for choice in event.get("choices", []) for i in choice.get("token_ids") or []]
                self.assertEqual(ids, want["token_ids"])
                text, finish = joined(events)[0]
                self.assertEqual((text, finish), (want["text"], want["finish_reason"]))
                if finish == "stop":
                    self.assertTrue(random_schemas.valid(json.loads(text), NOTE, NOTE), text)
                recoveries += [e for e in events if e.get("usage")][-1]["usage"]["baton"]["recoveries"]
            self.assertGreater(recoveries, 0)
            print(f"a decode node killed under {len(work)} structured streams: {recoveries} recoveries, no token differs")


if __name__ == "__main__":
    unittest.main(verbosity=1)
