#!/usr/bin/env python3
"""Makes FORMAT.json: what models of each family say when they think and call tools, and what is to be understood.

    python3 tests/golden/speech/make.py

The texts are written by this script from a seed, in the forms that the families publish.  What is to be understood is not what
the script meant, but what the functions below read out of the whole text: vLLM's published rules (which marker begins a call,
which keys a call has, what is content), by regular expressions and json, and nothing of Baton.  tests/coordinator/test_speech.c
feeds each text whole, byte by byte, cut at every place, and cut at random.
"""
import json
import pathlib
import random
import re

HERE = pathlib.Path(__file__).parent
COUNT = 60

# ---- what is understood: (content, reasoning, [(name, arguments as a value)])


def loads_calls(values):
    """[(name, arguments)]; KeyError, TypeError: it was none."""
    calls = []
    for value in values:
        arguments = value["arguments"] if "arguments" in value else value["parameters"]
        if not isinstance(value["name"], str):
            raise TypeError
        calls.append((value["name"], arguments))
    return calls


def read_hermes(text, tools):
    if "<tool_call>" not in text:
        return text, []
    try:
        found = re.findall(r"<tool_call>(.*?)</tool_call>|<tool_call>(.*)", text, re.S)
        return text[:text.index("<tool_call>")], loads_calls(json.loads(a or b) for a, b in found)
    except (ValueError, KeyError, TypeError):
        return text, []


def python_value(value, kind):
    if value.lower() == "null":
        return None
    try:
        if kind == "integer":
            return int(value)
        if kind == "number":
            number = float(value)
            return int(number) if number == int(number) else number
        if kind == "boolean":
            return value.lower() == "true"
        if kind in ("object", "array"):
            return json.loads(value)
    except ValueError:
        pass
    return value


def read_qwen3_coder(text, tools):
    if "<tool_call>" not in text or "<function=" not in text:
        return text, []
    calls = []
    for name, body in re.findall(r"<function=(.*?)>(.*?)</function>", text, re.S):
        properties = next((tool["function"]["parameters"]["properties"] for tool in tools
                           if tool["function"]["name"] == name), {})
        arguments = {}
        for key, value in re.findall(r"<parameter=(.*?)>(.*?)</parameter>", body, re.S):
            value = value[1:] if value.startswith("\n") else value
            value = value[:-1] if value.endswith("\n") else value
            arguments[key] = python_value(value, properties.get(key, {}).get("type", "string"))
        calls.append((name, arguments))
    return text[:text.index("<tool_call>")], calls


def read_llama3_json(text, tools):
    """The answer is a call or none: it begins with one, or with the tag."""
    tag = "<|python_tag|>"
    if not text.startswith(("{", tag)):
        return text, []
    rest = text[len(tag):] if text.startswith(tag) else text
    values, at = [], 0
    try:
        while at < len(rest):
            value, used = json.JSONDecoder().raw_decode(rest[at:])
            values.append(value)
            at += used + len("; ")
        return "", loads_calls(values)
    except (ValueError, KeyError, TypeError):
        return text, []


def read_mistral(text, tools):
    marker = "[TOOL_CALLS]"
    if marker not in text:
        return text, []
    content, _, rest = text.partition(marker)
    try:
        if rest.lstrip().startswith("["):
            return content, loads_calls(json.JSONDecoder().raw_decode(rest.lstrip())[0])
        calls = []
        for one in text.split(marker)[1:]:
            name, brace, arguments = one.partition("{")
            name = re.sub(r"\[CALL_ID\].*", "", name.replace("[ARGS]", "")).strip()
            calls.append((name, json.JSONDecoder().raw_decode(brace + arguments)[0]))
        return content, calls
    except (ValueError, KeyError, TypeError):
        return text, []


def read_deepseek_v3(text, tools):
    begin = "<｜tool▁calls▁begin｜>"
    if begin not in text:
        return text, []
    old = re.findall(r"<｜tool▁call▁begin｜>[^\n]*?<｜tool▁sep｜>([^\n{]+)\n```json\n(.*?)\n```<｜tool▁call▁end｜>", text, re.S)
    new = re.findall(r"<｜tool▁call▁begin｜>([^\n]*?)<｜tool▁sep｜>(\{.*?)<｜tool▁call▁end｜>", text, re.S)
    calls = [(name, json.loads(arguments)) for name, arguments in old or new]
    return (text[:text.index(begin)], calls) if calls else (text, [])


def read_phi4_mini_json(text, tools):
    found = re.search(r"(functools|<\|tool_call\|>)\[(.*)\]", text, re.S)
    if not found:
        return text, []
    try:
        calls = loads_calls(json.loads("[" + found.group(2) + "]"))
        return (text[:found.start()], calls) if calls else (text, [])
    except (ValueError, KeyError, TypeError):
        return text, []


def read_openai(text, tools):
    content, reasoning, calls = "", "", []
    for part in re.split(r"<\|start\|>", text):
        header, message, body = part.partition("<|message|>")
        body = re.split(r"<\|(?:end|call|return)\|>", body)[0]
        to = re.search(r"to=functions\.(\S+?)(?=\s|<|$)", header)
        if not message:
            continue
        if to:
            calls.append((to.group(1), json.loads(body) if body else {}))
        elif "analysis" in header or "to=" in header:
            reasoning += body
        else:
            content += body
    return content, calls, reasoning


def read_thoughts(text, prompt, how):
    """(reasoning, rest), as vLLM's parsers have it: the thought ends at </think>, and may have begun in the prompt."""
    begun = prompt.rstrip().endswith("<think>") or (how == "deepseek_r1" and not prompt.rstrip().endswith("</think>"))
    stripped = text.lstrip()
    if stripped.startswith("<think>"):
        begun, text = True, stripped[len("<think>"):]
    if not begun:
        return "", text
    reasoning, _, rest = text.partition("</think>")
    return reasoning, rest


# ---- what is said

WORDS = ["Let me see.", "Ünïcödé 日本 😀", "a < b && c > d", "<tool", "[TOOL", "{", "}", "\n", "“quoted”", "<function", "fine", "functools",
         "<|", "```json\n{}\n```", "100%", "\\n", "<think", "</", "tool_call", "<br>", "[1, 2]", "]"]
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {
    "place": {"type": "string"}, "days": {"type": "integer"}, "price": {"type": "number"}, "now": {"type": "boolean"},
    "legs": {"type": "array"}, "how": {"type": "object"}}}}} for name in ("get_weather", "book-trip", "search.web", "f")]
VALUES = {"place": ["Köln", "a \"quoted\" \\ place", "日本", "", "x\ny", "</tool> no", "{}", "<b>"], "days": [0, -3, 12345678901],
          "price": [1.5, -0.25, 3.0, 1e3], "now": [True, False], "legs": [[], ["a", 2, {"b": None}], [[1], [2, "]}"]]],
          "how": [{}, {"a": {"b": ["c", "}{"]}}, {"é": "\u2028\t"}]}


def words(rng, most):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, most)))


def some_arguments(rng):
    keys = rng.sample(sorted(VALUES), rng.randint(0, 4))
    return {key: rng.choice(VALUES[key]) for key in keys}


def dumped(rng, value):
    return json.dumps(value, ensure_ascii=rng.random() < 0.3, indent=rng.choice([None, None, None, 1]))


def call_json(rng, call, second):
    name, arguments = json.dumps(call[0]), dumped(rng, call[1])
    pairs = [f'"name": {name}', f'"{second}": {arguments}']
    if rng.random() < 0.15:
        pairs.reverse()
    if rng.random() < 0.1:
        pairs.insert(rng.randint(0, 2), rng.choice(['"id": "x\\"}"', '"n": 17', '"extra": {"name": "no", "arguments": {}}', '"t": true']))
    space = rng.choice(["", "", "\n ", " "])
    return "{" + space + ("," + (space or " ")).join(pairs) + space + "}"


def say_hermes(rng, calls):
    return rng.choice(["", "\n"]).join(f"<tool_call>\n{call_json(rng, call, 'arguments')}\n</tool_call>" for call in calls)


def say_qwen3_coder(rng, calls):
    out = []
    for name, arguments in calls:
        body = "".join(f"<parameter={key}>\n{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}\n</parameter>\n"
                       for key, value in arguments.items() if not (isinstance(value, str) and "<" in value))
        out.append(f"<tool_call>\n<function={name}>\n{body}</function>\n</tool_call>")
    return "\n".join(out)


def say_llama3_json(rng, calls):
    tag = "<|python_tag|>" if rng.random() < 0.5 else ""
    return tag + "; ".join(call_json(rng, call, rng.choice(["parameters", "arguments"])) for call in calls)


def say_mistral(rng, calls):
    how = rng.choice(["list", "name", "args", "id"])
    if how == "list":
        return "[TOOL_CALLS]" + rng.choice(["", " "]) + "[" + ", ".join(call_json(rng, call, "arguments") for call in calls) + "]"
    between = {"name": "", "args": "[ARGS]", "id": "[CALL_ID]abcDEF123[ARGS]"}[how]
    return "".join(f"[TOOL_CALLS]{name}{between}{dumped(rng, arguments)}" for name, arguments in calls)


def say_deepseek_v3(rng, calls):
    old = rng.random() < 0.5
    each = [f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{dumped(rng, arguments)}\n```<｜tool▁call▁end｜>" if old else
            f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{dumped(rng, arguments)}<｜tool▁call▁end｜>" for name, arguments in calls]
    return "<｜tool▁calls▁begin｜>" + rng.choice(["", "\n"]).join(each) + "<｜tool▁calls▁end｜>"


def say_phi4_mini_json(rng, calls):
    begin, end = rng.choice([("functools[", "]"), ("<|tool_call|>[", "]<|/tool_call|>")])
    return begin + ", ".join(call_json(rng, call, rng.choice(["arguments", "parameters"])) for call in calls) + end


def say_openai(rng, content, reasoning, calls):
    parts = [f"<|channel|>analysis<|message|>{reasoning}"] if reasoning else []
    for name, arguments in calls:
        body = rng.choice([dumped(rng, arguments), dumped(rng, arguments), ""]) if not arguments else dumped(rng, arguments)
        parts.append(rng.choice([f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{body}",
                                 f"assistant to=functions.{name}<|channel|>commentary json<|message|>{body}"]))
    if content:
        parts.insert(rng.randint(0, len(parts)), rng.choice(["<|channel|>final<|message|>", "<|channel|>commentary<|message|>"]) + content)
    text = "<|end|><|start|>assistant".join(parts)
    return text + rng.choice(["", "<|return|>", "<|call|>"])


BROKEN = {
    "hermes": ["<tool_call>\nnot json\n</tool_call>", "<tool_call>", "<tool_call>\n{\"name\": \"f\"}\n</tool_call>", "<tool_call>{\"arguments\": {}}</tool_call>",
               "<tool_call>\n{\"name\": 3, \"arguments\": {}}\n</tool_call>", "<tool_call>[1]</tool_call>", "<tool_call>\n{\"name\": \"f"],
    "qwen3_coder": ["<tool_call>\nno function\n</tool_call>", "<tool_call>", "<tool_call>\n<functio"],
    "llama3_json": ["{\"city\": \"Köln\"}", "{", "{\"name\": \"Bob\"}", "{\"name\": 1, \"parameters\": {}}", "{]", "{\"parameters\": {}}"],
    "mistral": ["[TOOL_CALLS]", "[TOOL_CALLS] nothing", "[TOOL_CALLS] [1]", "[TOOL_CALLS] [{\"name\": 1, \"arguments\": {}}]", "[TOOL_CALLS] [{\"x\": 1}]"],
    "deepseek_v3": ["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁begin｜>nothing<｜tool▁calls▁end｜>", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁call▁end｜>",
                    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>nothing<｜tool▁call▁end｜>"],
    "phi4_mini_json": ["functools[", "functools[1]", "functools[{\"x\": 1}]", "functools are modules", "<|tool_call|>[]"],
    "openai": [],
}


def conversation(rng, number, format):
    """(text, prompt end, reasoning format)"""
    if format == "openai":
        calls = [(rng.choice(TOOLS)["function"]["name"], some_arguments(rng)) for _ in range(rng.choice([0, 1, 1, 2]))]
        content = words(rng, 4).replace("<|", "<") if rng.random() < 0.5 or not calls else ""
        return say_openai(rng, content, words(rng, 5).replace("<|", "<") if rng.random() < 0.6 else "", calls), "<|start|>assistant", "openai_gptoss"
    calls = [(rng.choice(TOOLS)["function"]["name"], some_arguments(rng)) for _ in range(rng.choice([0, 1, 1, 2, 3]))]
    content = words(rng, 4) + rng.choice(["", "\n", "\n\n"]) if rng.random() < 0.5 else ""
    say = globals()["say_" + format]
    broken = BROKEN[format][number] if number < len(BROKEN[format]) else None
    if format == "llama3_json":
        content = "" if calls or broken else (words(rng, 4) if rng.random() < 0.8 else "")
        content = content.lstrip("{")
    if format == "phi4_mini_json":
        content = content.replace("[", "(")
    text = content + (broken or (say(rng, calls) if calls else ""))
    if format == "llama3_json" or rng.random() < 0.5:
        return text, "", "none"
    thought = rng.choice(["\n", ""]) + words(rng, 5).replace("</", "").replace("<think", "") + rng.choice(["\n", ""])
    prompt, before, how = rng.choice([("", "<think>", "qwen3"), ("", "\n<think>", "qwen3"), ("<|im_start|>assistant\n<think>\n", "", "qwen3"),
                                      ("<｜Assistant｜>", "", "deepseek_r1"), ("<｜Assistant｜><think>\n", "<think>", "deepseek_r1"),
                                      ("<think>\n\n</think>\n\n", None, "qwen3"), ("x", None, "qwen3"), ("</think>", None, "deepseek_r1")])
    if before is None:
        return (text if text.strip() else "x" + text), prompt, how
    return before + thought + ("</think>" + rng.choice(["", "\n\n"]) + text if rng.random() < 0.9 else ""), prompt, how


def understood(format, text, prompt, how):
    read = globals()["read_" + format]
    if format == "openai":
        return read(text, TOOLS)
    reasoning, rest = ("", text) if how == "none" else read_thoughts(text, prompt, how)
    content, calls = read(rest, TOOLS)
    return content, calls, reasoning


def main():
    for format in BROKEN:
        rng = random.Random("speech " + format)
        lines, called = [], 0
        for number in range(COUNT):
            text, prompt, how = conversation(rng, number, format)
            content, calls, reasoning = understood(format, text, prompt, how)
            called += len(calls)
            lines.append(json.dumps({"text": text, "prompt": prompt, "reasoning_format": how, "content": content, "reasoning": reasoning,
                                     "calls": [{"name": name, "arguments": arguments} for name, arguments in calls]},
                                    ensure_ascii=False))
        head = json.dumps({"format": format, "tools": TOOLS}, ensure_ascii=False)[:-1]
        (HERE / (format + ".json")).write_text(head + ", \"conversations\": [\n" + ",\n".join(lines) + "\n]}\n")
        print(format, COUNT, "conversations,", called, "calls")


if __name__ == "__main__":
    main()
