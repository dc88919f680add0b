#!/usr/bin/env python3
"""Tools, as the official openai client uses them, against `baton up` and a model that calls by script (scripted_model.py).

usage: test_tools.py
"""
import json
import pathlib
import shutil
import tempfile
import unittest
from typing import Literal

import openai
from pydantic import BaseModel

import scripted_model
from cluster import Cluster

MODEL = "scripted"
CODER = "scripted-coder"  # by its template it writes calls as Qwen3 coder does
ASK = {"role": "user", "content": "What is the weather in Köln?"}
BOTH = {"role": "user", "content": "I want both."}


class GetWeather(BaseModel):
    """The weather of a place."""
    place: str
    unit: str = "C"


class Book(BaseModel):
    days: int


class Pick(BaseModel):
    colour: Literal["red", "green"]
    size: Literal["s", "m"]


class Count(BaseModel):
    number: Literal[1, 22]


PICKS = [openai.pydantic_function_tool(Pick, name="pick"), openai.pydantic_function_tool(Count, name="count")]
TOOLS = [openai.pydantic_function_tool(GetWeather, name="get_weather"), openai.pydantic_function_tool(Book, name="book")]


def setUpModule():
    global cluster, client, folder
    folder = tempfile.mkdtemp(prefix="baton-scripted-")
    models = (scripted_model.write(pathlib.Path(folder, MODEL)),
              scripted_model.write(pathlib.Path(folder, CODER), scripted_model.TEMPLATE + "{#- <function=name> #}\n"))
    cluster = Cluster(models=models, prefill=1, decode=1, kvstore=1).__enter__()
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{cluster.port}/v1", api_key="none", max_retries=0, timeout=60)


def tearDownModule():
    client.close()
    cluster.__exit__(None, None, None)
    shutil.rmtree(folder)


def chat(*messages, **more):
    return client.chat.completions.create(**{"model": MODEL, "messages": list(messages), "tools": TOOLS, **more})


class Calls(unittest.TestCase):
    def test_a_call_is_a_call_and_no_content(self):
        answer = chat(ASK)
        message = answer.choices[0].message
        self.assertEqual(answer.choices[0].finish_reason, "tool_calls")
        self.assertEqual(message.content, "\n\n")
        self.assertEqual([call.function.name for call in message.tool_calls], ["get_weather"])
        self.assertEqual(json.loads(message.tool_calls[0].function.arguments), {"place": "Köln", "unit": "C"})
        self.assertEqual(message.tool_calls[0].type, "function")
        self.assertTrue(message.tool_calls[0].id.startswith("call_"))

    def test_what_it_thought_stands_apart_and_is_counted(self):
        answer = chat(ASK)
        self.assertEqual(answer.choices[0].message.reasoning, "\nThe weather is asked for.\n")
        self.assertEqual(answer.choices[0].message.reasoning_content, answer.choices[0].message.reasoning)
        self.assertEqual(answer.usage.completion_tokens_details.reasoning_tokens, 3)
        self.assertEqual(answer.usage.completion_tokens, 12)
        without = chat(ASK, extra_body={"include_reasoning": False}).choices[0].message
        self.assertFalse(hasattr(without, "reasoning"))

    def test_two_calls_at_once(self):
        message = chat(BOTH).choices[0].message
        self.assertEqual(message.content, "Both. ")
        self.assertEqual([(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls],
                         [("get_weather", {"place": "Bonn"}), ("book", {"days": 2})])
        self.assertEqual(len({call.id for call in message.tool_calls}), 2)

    def test_one_call_where_no_more_are_wanted(self):
        message = chat(BOTH, parallel_tool_calls=False).choices[0].message
        self.assertEqual([call.function.name for call in message.tool_calls], ["get_weather"])

    def test_the_loop_of_calls_ends_in_an_answer(self):
        messages = [ASK]
        first = chat(*messages).choices[0].message
        messages.append(first.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "21"} for call in first.tool_calls]
        last = chat(*messages).choices[0]
        self.assertEqual((last.finish_reason, last.message.content, last.message.tool_calls), ("stop", "It is 21 degrees in Köln.", None))

    def test_none_and_no_tools_are_answered_in_text(self):
        for more in ({"tool_choice": "none"}, {"tools": openai.NOT_GIVEN}):
            answer = chat(ASK, **more).choices[0]
            self.assertEqual((answer.finish_reason, answer.message.content, answer.message.tool_calls), ("stop", "I have no tools.", None))

    def test_calls_that_are_cut_off_end_by_length(self):
        answer = chat(ASK, max_tokens=9).choices[0]
        self.assertEqual(answer.finish_reason, "length")
        self.assertEqual(answer.message.tool_calls[0].function.arguments, "{\"place\": \"Köln\", ")

    def test_the_same_key_gives_calls_of_the_same_id(self):
        ids = {chat(ASK, extra_headers={"Idempotency-Key": "tools-1"}).choices[0].message.tool_calls[0].id for _ in range(2)}
        self.assertEqual(len(ids), 1)


class Streams(unittest.TestCase):
    def pieces(self, message, **more):
        """(content, reasoning, calls by index as [id, name, arguments], finish reason)"""
        content, reasoning, calls, finish = "", "", {}, None
        for event in chat(message, stream=True, **more):
            choice = event.choices[0]
            finish = choice.finish_reason or finish
            content += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning", None) or ""
            for call in choice.delta.tool_calls or []:
                if call.index not in calls:
                    self.assertTrue(call.id and call.type == "function" and call.function.name)
                    calls[call.index] = [call.id, call.function.name, ""]
                else:
                    self.assertIsNone(call.id)
                    self.assertIsNone(call.function.name)
                calls[call.index][2] += call.function.arguments or ""
        return content, reasoning, [calls[i] for i in sorted(calls)], finish

    def test_a_stream_joins_to_the_whole(self):
        for message, more in ((ASK, {}), (BOTH, {}), (BOTH, {"parallel_tool_calls": False}), (ASK, {"max_tokens": 8}), (ASK, {"tool_choice": "none"})):
            whole = chat(message, **more).choices[0]
            content, reasoning, calls, finish = self.pieces(message, **more)
            self.assertEqual(content, whole.message.content or "")
            self.assertEqual(reasoning, getattr(whole.message, "reasoning", ""))
            self.assertEqual([call[1:] for call in calls],
                             [[call.function.name, call.function.arguments] for call in whole.message.tool_calls or []])
            self.assertEqual(finish, whole.finish_reason)

    def test_arguments_come_in_pieces_and_markers_never(self):
        events = list(chat(ASK, stream=True))
        deltas = [event.choices[0].delta for event in events]
        self.assertGreater(sum(bool(delta.tool_calls) for delta in deltas), 2)
        self.assertNotIn("<", "".join(delta.content or "" for delta in deltas))

    def test_the_clients_helper_understands_the_stream(self):
        with client.chat.completions.stream(model=MODEL, messages=[ASK], tools=TOOLS) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_completion()
        self.assertIn("tool_calls.function.arguments.delta", kinds)
        self.assertIn("tool_calls.function.arguments.done", kinds)
        call = final.choices[0].message.tool_calls[0].function
        self.assertEqual(call.parsed_arguments, GetWeather(place="Köln", unit="C"))

    def test_parse_gives_the_arguments_as_objects(self):
        final = client.chat.completions.parse(model=MODEL, messages=[BOTH], tools=TOOLS)
        self.assertEqual([call.function.parsed_arguments for call in final.choices[0].message.tool_calls],
                         [GetWeather(place="Bonn"), Book(days=2)])


class Forced(unittest.TestCase):
    """This model would never say so: what it may choose from is small, so that it ends."""

    def test_a_call_can_be_required(self):
        for seed in range(5):
            answer = chat({"role": "user", "content": "Hello"}, tools=PICKS, tool_choice="required", seed=seed, max_tokens=400,
                          parallel_tool_calls=False).choices[0]
            self.assertEqual((answer.finish_reason, answer.message.content), ("tool_calls", None))
            call = answer.message.tool_calls[0].function
            {"pick": Pick, "count": Count}[call.name].model_validate_json(call.arguments)

    def test_one_tool_can_be_asked_for_by_name(self):
        chosen = {"type": "function", "function": {"name": "count"}}
        for stream in (False, True):
            answer = chat({"role": "user", "content": "Hello"}, tools=PICKS, tool_choice=chosen, stream=stream, seed=1, max_tokens=400)
            calls = ([event.choices[0].delta.tool_calls[0].function for event in answer if event.choices[0].delta.tool_calls]
                     if stream else [answer.choices[0].message.tool_calls[0].function])
            self.assertEqual([call.name for call in calls if call.name], ["count"])
            Count.model_validate_json("".join(call.arguments for call in calls))


    def test_a_call_of_bare_values_can_be_required(self):
        names = set()
        for seed in range(8):
            answer = chat({"role": "user", "content": "Hello"}, model=CODER, tools=PICKS, tool_choice="required", seed=seed, max_tokens=400,
                          parallel_tool_calls=False).choices[0]
            self.assertEqual((answer.finish_reason, answer.message.content), ("tool_calls", None))
            call = answer.message.tool_calls[0].function
            {"pick": Pick, "count": Count}[call.name].model_validate_json(call.arguments)
            names.add(call.name)
        self.assertEqual(names, {"pick", "count"})


class Refusals(unittest.TestCase):
    def refused(self, param, **more):
        with self.assertRaises(openai.BadRequestError) as caught:
            chat(ASK, **more)
        self.assertEqual(caught.exception.param, param)

    def test_what_is_wrong_is_named(self):
        self.refused("tools[0].function.name", tools=[{"type": "function", "function": {}}])
        self.refused("tools[0].type", tools=[{"type": "retrieval"}])
        self.refused("tool_choice", tools=openai.NOT_GIVEN, tool_choice="auto")
        self.refused("tool_choice", tool_choice="perhaps")
        self.refused("tool_choice", tool_choice={"type": "function", "function": {"name": "unknown"}})
        self.refused("functions", extra_body={"functions": [{"name": "f"}]})
        with self.assertRaises(openai.BadRequestError) as caught:
            chat(ASK, {"role": "assistant", "tool_calls": [{"id": "x", "type": "function", "function": {"name": "f", "arguments": "{"}}]}, ASK)
        self.assertEqual(caught.exception.param, "messages[1].tool_calls[0].function.arguments")


if __name__ == "__main__":
    unittest.main()
