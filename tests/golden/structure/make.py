#!/usr/bin/env python3
"""Writes cases.json: schemas, texts, and what the jsonschema package says of them.     (pip install jsonschema)

A case is {"schema", "texts": [[text, [lengths]], …]}: of each text the lengths in bytes of its beginnings that are
documents as a whole (its own length among them, if it is one itself).
"""
import json
import pathlib
import random

import random_schemas as rs

SCHEMAS = [
    {"type": "object"},
    {},
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "null"}},
     "required": ["b"], "additionalProperties": False},
    {"type": "object", "properties": {"ab": {"type": "integer"}, "a": {"type": "integer"}}, "required": [],
     "additionalProperties": {"type": "boolean"}},
    {"type": "array", "items": {"type": "integer", "minimum": 5, "exclusiveMaximum": 21}, "minItems": 1, "maxItems": 3},
    {"type": "array", "prefixItems": [{"type": "string"}, {"const": 7}], "items": False},
    {"type": "string", "minLength": 2, "maxLength": 3},
    {"type": "string", "pattern": "^(a|b)+c?$"},
    {"type": "string", "pattern": "b.d"},
    {"type": "number", "minimum": -1.5, "maximum": 2.25},
    {"type": "integer", "minimum": -120, "maximum": -7},
    {"type": ["number", "null"]},
    {"enum": ["one", "one more", 1, 1.5, None, {"a": [1, "x"]}]},
    {"anyOf": [{"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "integer"}}, "required": ["kind", "x"],
                "additionalProperties": False},
               {"type": "object", "properties": {"kind": {"const": "b"}, "y": {"type": "string"}}, "required": ["kind", "y"],
                "additionalProperties": False}]},
    {"$defs": {"N": {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/N"},
                                                                                                   {"type": "null"}]}},
                     "required": ["v", "next"], "additionalProperties": False}}, "$ref": "#/$defs/N"},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"],
                "additionalProperties": False},
               {"properties": {"a": {"maximum": 30}}}]},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "uuid"},
]
TEXTS = {
    0: ['{}', '{"a":{"b":[1,-2.5e10,true]}}', '{"\\ud83d\\ude00":"\\u00e9é😀"}', '{"a":01}',
        '{"a":"\n"}', '{"a":1,}', '{"a" :1}', '{\n\t"a": [\n\t\t1\n\t]\n}', '[]'],
    1: ['1', '-0.5E+3', '"x"', 'null', '[[[{}]]]', 'nul', '+1', '.5', '1.'],
    2: ['{"b":"x"}', '{"a":1,"b":"x"}', '{"a":1,"b":"","c":null}', '{"b":"","c":null}', '{"a":1}', '{"b":"x","d":1}',
        '{"b":"x","a":1}'],
    3: ['{"a":1}', '{"ab":1,"a":2,"abc":true}', '{"abc":true,"":false,"b":true}', '{"ab":true}', '{"abc":1}', '{"ac":true}'],
    4: ['[5]', '[20, 7, 19]', '[21]', '[4]', '[]', '[5,6,7,8]'],
    5: ['["x",7]', '["x"]', '[]', '["x",8]', '["x",7,1]'],
    6: ['"ab"', '"é😀"', '"\\ud83d\\ude00\\n\\u0041"', '"a"', '"abcd"'],
    7: ['"ababc"', '"c"', '"abcc"'],
    8: ['"abcd"', '"xxbédyy"', '"bd"'],
    9: ['-1.5', '-1.51', '2.25', '2.250', '2.26', '0', '-0.0001', '1.9999', '-2', '3', '10'],
    10: ['-7', '-6', '-120', '-121', '-99', '7', '-1000'],
    11: ['null', '1e5', '12', 'true'],
    12: ['"one"', '"one more"', '1', '1.5', 'null', '{"a":[1,"x"]}', '{"a": [1, "x"]}', '"two"', '2'],
    13: ['{"kind":"a","x":1}', '{"kind":"b","y":""}', '{"kind":"a","y":""}', '{"kind":"c"}'],
    14: ['{"v":1,"next":null}', '{"v":1,"next":{"v":2,"next":{"v":3,"next":null}}}', '{"v":1,"next":{}}'],
    15: ['{"a":1}', '{"a":30}', '{"a":31}', '{"a":0}', '{}'],
    16: ['"2024-02-28T23:59:59Z"', '"2024-13-28T23:59:59Z"', '"2024-05-31T00:00:00.5+02:30"', '"2024-06-31T00:00:00Z"'],
    17: ['"01234567-89ab-cdef-0123-456789abcdef"', '"01234567-89ab-cdef-0123-456789abcde"'],
}


def case(schema, texts):
    judged = []
    for text in texts:
        ends = [len(text[:i].encode()) for i in range(1, len(text) + 1) if rs.judge(text[:i], schema)]
        judged.append([text, ends])
    return {"schema": schema, "texts": judged}


def main():
    cases = [case(schema, TEXTS[i]) for i, schema in enumerate(SCHEMAS)]
    rng = random.Random(20)
    while len(cases) < 70:
        schema = rs.random_schema(rng)
        texts = [rs.written(rng, rs.document(rng, schema, schema)) for _ in range(3)]
        texts += [rs.broken(rng, text) for text in texts[:2]]
        made = case(schema, [text for text in texts if len(text) < 200])
        if len(json.dumps(made)) < 1500:
            cases.append(made)
    lines = ",\n".join(json.dumps(made, ensure_ascii=False) for made in cases)
    path = pathlib.Path(__file__).parent / "cases.json"
    path.write_text("[" + lines + "]\n")
    whole = sum(1 for made in cases for text, ends in made["texts"] if len(text.encode()) in ends)
    print(f"{len(cases)} schemas, {sum(len(made['texts']) for made in cases)} texts, {whole} valid, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
