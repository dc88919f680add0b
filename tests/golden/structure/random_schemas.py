#!/usr/bin/env python3
"""Random schemas, and documents near them, judged by the jsonschema package.

usage: random_schemas.py TOOL_STRUCTURE TOKENIZER.JSON [COUNT [SEED]]     (pip install jsonschema)

For each schema: (1) documents, valid and broken, in three ways of writing: what the automaton accepts is what is JSON,
written as we write it, and valid; (2) walks that take any allowed token until the text may end: each ends in a document
that is JSON and valid, and each mask is compared with reading the tokens one by one.
"""
import json
import random
import re
import subprocess
import sys

import jsonschema

NAMES = ["a", "b", "name", "näme", "x y", "q\"uote", "long_property_name"]
PATTERNS = ["^[a-z]{2,4}$", "^(foo|bar)+$", "[0-9]", "^a.c$", "^\\d{3}-\\w+$", "^[^a-z]*$", "é|ü"]
FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "email"]


def text_schema(rng):
    kind = rng.randrange(4)
    if kind == 0:
        return {"type": "string"}
    if kind == 1:
        low = rng.randrange(4)
        return {"type": "string", "minLength": low, "maxLength": low + rng.randrange(5)}
    if kind == 2:
        return {"type": "string", "pattern": rng.choice(PATTERNS)}
    return {"type": "string", "format": rng.choice(FORMATS)}


def number_schema(rng):
    schema = {"type": rng.choice(["integer", "number"])}
    low = rng.choice([None, -1000, -17, -1, 0, 0.5, 1, 7, 99, 12345])
    if low is not None:
        schema[rng.choice(["minimum", "exclusiveMinimum"])] = low
    if rng.random() < 0.6:
        schema[rng.choice(["maximum", "exclusiveMaximum"])] = (low or 0) + rng.choice([2, 3, 10, 11.25, 90, 1000])
    return schema


def object_schema(rng, depth, refs):
    names = rng.sample(NAMES, rng.randrange(5))
    schema = {"type": "object", "properties": {name: any_schema(rng, depth + 1, refs) for name in names},
              "required": [name for name in names if rng.random() < 0.5], "additionalProperties": False}
    if rng.random() < 0.2:
        schema["additionalProperties"] = rng.choice([True, {"type": "integer"}])
    return schema


def array_schema(rng, depth, refs):
    schema = {"type": "array", "items": any_schema(rng, depth + 1, refs)}
    if rng.random() < 0.3:
        schema["prefixItems"] = [any_schema(rng, depth + 1, refs) for _ in range(rng.randrange(3))]
    if rng.random() < 0.4:
        schema["minItems"] = rng.randrange(3)
    if rng.random() < 0.4:
        schema["maxItems"] = schema.get("minItems", 0) + rng.randrange(3)
    return schema


def any_schema(rng, depth, refs):
    kind = rng.randrange(10 if depth < 3 else 5)
    if kind == 0:
        return rng.choice([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {"const": "fixed"}])
    if kind == 1:
        return {"enum": rng.sample(["red", "gr\"een", "blü", 1, 2.5, None, True, [1, "x"], {"k": 1}], 3)}
    if kind == 2:
        return number_schema(rng)
    if kind in (3, 4):
        return text_schema(rng)
    if kind == 5:
        return {"anyOf": [any_schema(rng, depth + 1, refs) for _ in range(rng.randrange(1, 4))]}
    if kind == 6 and refs:
        return {"anyOf": [{"$ref": "#/$defs/" + rng.choice(refs)}, {"type": "null"}]}
    return array_schema(rng, depth, refs) if kind == 7 else object_schema(rng, depth, refs)


def random_schema(rng):
    refs = ["A", "B"] if rng.random() < 0.4 else []
    schema = object_schema(rng, 0, refs) if rng.random() < 0.7 else any_schema(rng, 0, refs)
    if refs:
        schema = dict(schema)
        schema["$defs"] = {name: object_schema(rng, 1, refs) for name in refs}
    return schema


def document(rng, schema, root, depth=0):
    """A value that is probably valid."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].split("/")[-1]]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    if "anyOf" in schema:
        return document(rng, rng.choice(schema["anyOf"]) if depth < 6 else schema["anyOf"][-1], root, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = rng.choice(kind)
    if kind == "object":
        value = {name: document(rng, inner, root, depth + 1) for name, inner in schema["properties"].items()
                 if name in schema["required"] or (rng.random() < 0.5 and depth < 6)}
        if schema["additionalProperties"] is not False and rng.random() < 0.5:
            value["zzz"] = 17
        return value
    if kind == "array":
        low, first = schema.get("minItems", 0), schema.get("prefixItems", [])
        count = min(low + rng.randrange(3), schema.get("maxItems", 99))
        return [document(rng, first[i] if i < len(first) else schema["items"], root, depth + 1) for i in range(count)]
    if kind == "string":
        samples = ["", "a", "ab", "foo", "foobar", "abc", "aéc", "😀", "x7", "123-foo", "2024-02-28", "2023-13-01", "12:30:00Z",
                   "2024-05-31T23:59:59+02:00", "01234567-89ab-cdef-0123-456789abcdef", "192.168.0.255", "256.1.1.1",
                   "a@b.de", "\"\\\n", "ÄÖ", "ab\u0001"]
        return rng.choice(samples)
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        value = low + rng.choice([0, 0.25, 0.5, 1, 2, 3, 10, 90, -1, -1000])
        return int(value) if kind == "integer" or rng.random() < 0.5 else value
    return None if kind == "null" else rng.random() < 0.5


def written(rng, value):
    return rng.choice([lambda v: json.dumps(v, ensure_ascii=False, separators=(",", ":")),
                       lambda v: json.dumps(v, ensure_ascii=False),
                       lambda v: json.dumps(v, ensure_ascii=False, indent=2)])(value)


def broken(rng, text):
    at = rng.randrange(len(text) + 1)
    return rng.choice([text[:at], text[:at] + rng.choice("\"{}[],:0ax\\ ") + text[at:], text[:at] + text[at + 1:], text + "}"])


def parse(text):
    def refuse(name):
        raise ValueError(name)
    return json.loads(text, parse_constant=refuse)


PARTS = re.compile(r'"(?:[^"\\]|\\.)*"|[\s]+|[{}\[\],:]|[^\s{}\[\],:"]+', re.S)
SPACE = re.compile(r" |\n(?: {0,64}|\t{0,16})")


def laid_out(text):
    """White space only where we write it."""
    parts = PARTS.findall(text)
    for i, part in enumerate(parts):
        if not part.isspace():
            continue
        before, after = parts[i - 1] if i else "", parts[i + 1] if i + 1 < len(parts) else ""
        opens, closes = before in ("{", "[", ",", ":"), after in ("}", "]")
        if not SPACE.fullmatch(part) or not (opens or closes) or (before in ("{", "[") and closes) or after in (",", ":"):
            return False
    return True


def ordered(value, schema, root):
    """Keys stand as the schema lists them (we ask for that, jsonschema does not); any branch of an anyOf may be meant."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].split("/")[-1]]
    if "anyOf" in schema:
        return any(ordered(value, inner, root) and valid(value, inner, root) for inner in schema["anyOf"])
    if isinstance(value, dict) and "properties" in schema:
        names = list(schema["properties"])
        places = [names.index(key) if key in names else len(names) for key in value]
        return places == sorted(places) and all(ordered(v, schema["properties"][k], root) for k, v in value.items() if k in names)
    if isinstance(value, list) and "items" in schema:
        first = schema.get("prefixItems", [])
        return all(ordered(v, first[i] if i < len(first) else schema["items"], root) for i, v in enumerate(value))
    return True


CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER


def valid(value, schema, root):
    whole = dict(schema)
    if "$defs" in root:
        whole["$defs"] = root["$defs"]
    return jsonschema.Draft202012Validator(whole, format_checker=CHECKER).is_valid(value)


def judge(text, schema):
    try:
        value = parse(text)
    except ValueError:
        return False
    return laid_out(text) and valid(value, schema, schema) and ordered(value, schema, schema)


def main(tool, tokenizer, count=500, seed=1):
    rng = random.Random(int(seed))
    process = subprocess.Popen([tool, tokenizer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    documents = accepted = walked = unfinished = refused = wrong = 0
    longest = slowest = 0.0
    for number in range(int(count)):
        schema = random_schema(rng)
        texts = [written(rng, document(rng, schema, schema)) for _ in range(8)]
        texts += [broken(rng, text) for text in texts]
        process.stdin.write(json.dumps({"structure": {"json": schema}, "texts": texts, "walks": 3, "seed": number}) + "\n")
        process.stdin.flush()
        said = json.loads(process.stdout.readline())
        slowest = max(slowest, said["seconds"])
        if "error" in said:
            refused += 1
            if "nothing can match" not in said["error"]:
                wrong += 1
                print(number, said["error"], json.dumps(schema))
            continue
        longest = said["longest"]
        for text, (at, whole) in zip(texts, said["texts"]):
            documents += 1
            accepted += whole
            if whole != judge(text, schema):
                wrong += 1
                print(number, "accepted" if whole else f"refused at {at}", repr(text), json.dumps(schema))
        for text in said["walks"]:
            walked += 1
            if text is None:
                unfinished += 1
            elif not isinstance(text, str) or not judge(text, schema):
                wrong += 1
                print(number, "walked to", repr(text), json.dumps(schema))
    print(f"{count} schemas, {refused} impossible; {documents} documents, {accepted} accepted; {walked} walks, {unfinished} unfinished; "
          f"{wrong} wrong; slowest compilation {slowest * 1e3:.2f} ms, slowest mask {longest * 1e3:.2f} ms")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
