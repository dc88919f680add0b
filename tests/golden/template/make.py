#!/usr/bin/env python3
"""What Jinja makes of chat templates, as transformers sets it up.

cases.json: small templates and what they print.  forms.json: the templates of forms/, which have the shape of those that model
families publish (the words are ours), each with many chats; of every rendering the length and the first half of its SHA-256.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install jinja2==3.1.6
    /tmp/venv/bin/python tests/golden/template/make.py
    /tmp/venv/bin/python tests/golden/template/make.py --show FORM CHAT      # prints one
"""
import datetime
import hashlib
import json
import pathlib
import sys

from jinja2 import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent

CHATML = """{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set system = 'You are Baton.' %}
    {%- set rest = messages %}
{%- endif %}
{{- '<|im_start|>system\\n' + system + '<|im_end|>\\n' }}
{%- for message in rest %}
    {%- if (message.role == "user") or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- for call in message.tool_calls %}
            {{- '\\n<call>\\n{"name": "' }}
            {{- call.function.name }}
            {{- '", "arguments": ' }}
            {{- call.function.arguments | tojson }}
            {{- '}\\n</call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- raise_exception('unknown role ' ~ message.role) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

HEADERS = """{{ bos_token }}{% for message in messages %}
{% if loop.first and message['role'] != 'system' %}
<|start|>system<|end|>

Default.<|eot|>{% endif %}
{% set content = '<|start|>' + message['role'] + '<|end|>\\n\\n' + message['content'] | trim + '<|eot|>' %}
{{ content }}{% if loop.last and add_generation_prompt %}{{ '<|start|>assistant<|end|>\\n\\n' }}{% endif %}
{% endfor %}
"""

STRICT = """{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"""

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "  Hi there \n"},
            {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Ünïcödé 日本 😀 \"q\" <b>&"}]
TOOLS = MESSAGES[1:2] + [
    {"role": "assistant", "content": None, "tool_calls": [
        {"function": {"name": "add", "arguments": {"a": 1, "b": [1.5, True, None, "x\ny\u00e9"], "c": {}}}}]}]
V = {"messages": MESSAGES, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>",
     "n": 7, "f": 2.5, "t": "a,b,,c", "none": None, "yes": True, "list": [3, 1, 2], "map": {"k": "v", "x": [1, {"y": "it's"}]},
     "text": "  Hello wörld  ", "empty": "", "floats": [1.0, 0.1, 1e16, 1e-5, 123456.789, -0.0, 1e300]}

SMALL = [
    "plain text\n", "a\n\n", "\n a", "{{ n }} {{ f }} {{ yes }} {{ none }} [{{ missing }}]", "{# comment #}\nx{# c #} y",
    "  {% if yes %}\n  A\n  {% else %}\n  B\n  {% endif %}\n", "a {%- if yes -%}  b  {%- endif -%}  c",
    "a\n  {%+ if yes %} b{% endif +%}\nc", "x {{- n -}} y", "x  {#- c -#}  y", "  {{ n }}  \n  {% set a = 1 %}  \n{{ a }}",
    "{% for i in list %}{{ loop.index }}/{{ loop.length }}:{{ i }}{{ ', ' if not loop.last }}{% endfor %}",
    "{% for i in list if i > 1 %}{{ loop.index0 }}={{ i }} {% else %}none{% endfor %}|{% for i in [] %}x{% else %}empty{% endfor %}",
    "{% for k, v in map.items() %}{{ k }}={{ v }};{% endfor %}", "{% for c in 'åbç' %}[{{ c }}]{% endfor %}",
    "{% for i in range(10) %}{% if i == 3 %}{% continue %}{% endif %}{% if i > 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% set x = 1 %}{% for i in list %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}",
    "{% set ns = namespace(found=false, n=0) %}{% for i in list %}{% set ns.n = ns.n + i %}{% if i == 1 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }} {{ ns.n }}",
    "{{ 1 + 2 * 3 - 4 // 3 }} {{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ -n }} {{ 7 % -3 }} {{ 1.5 + 1 }} {{ 2 ** -1.0 }}",
    "{{ 'a' ~ 1 ~ none ~ yes }} {{ 'ab' * 3 }} {{ 'a' 'b' }} {{ [1] + [2] }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 'a' < 'b' }} {{ 1 == 1.0 }} {{ 'a' != 'b' }} {{ true == 1 }} {{ none == missing }}",
    "{{ 'a' in t }} {{ 'z' not in t }} {{ 'k' in map }} {{ 3 in list }} {{ not 3 in list }} {{ 'q' in missing }}",
    "{{ yes and n }} {{ empty or 'x' }} {{ not yes or n }} {{ none and missing }} {{ 'a' if yes else 'b' }} {{ 'a' if empty }}",
    "{{ text|trim }}|{{ text|length }}|{{ list|length }}|{{ map|count }}|{{ missing|default('d') }}|{{ empty|default('e', true) }}|{{ missing|d }}",
    "{{ text|upper }}|{{ text|lower|trim }}|{{ 'hello world'|title }}|{{ 'hELLO'|capitalize }}|{{ list|join('-') }}|{{ list|first }}{{ list|last }}",
    "{{ map|tojson }} {{ 'é\"\\\\<>&\\n\\u0001'|tojson }} {{ [1, 2.5, none, true]|tojson }} {{ map|tojson(indent=2) }} {{ []|tojson(indent=4) }}",
    "{{ floats }} {{ floats|tojson }}", "{{ map }} {{ ['a\\'b', \"c\\n\", none] }}", "{{ list[0] }} {{ list[-1] }} {{ list[5] }} {{ 'åbc'[0] }}{{ 'åbc'[-1] }} {{ map['k'] }} {{ map.k }} {{ map.zz }}",
    "{{ list[1:] }} {{ list[:-1] }} {{ list[::-1] }} {{ 'åbcdé'[1:3] }} {{ 'åbcdé'[::-1] }} {{ 'abcdef'[::2] }} {{ 'abc'[5:] }} {{ list[-2:] }}",
    "{{ t.split(',') }} {{ ' a  b '.split() }} {{ 'a b c'.split(' ', 1) }} {{ 'x</think>y'.split('</think>')[-1] }} {{ ' a  b c '.split(none, 1) }}",
    "{{ text.strip() }}|{{ text.lstrip() }}|{{ text.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ '\\n\\na\\n'.lstrip('\\n') }}",
    "{{ t.startswith('a,') }} {{ t.endswith(',c') }} {{ t.replace(',', ';') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ ', '.join(['x', 'y']) }} {{ 'ab'.upper() }}",
    "{{ map.get('k') }} {{ map.get('zz') }} {{ map.get('zz', 'd') }} {{ map.keys()|list }} {{ map.values()|list }}",
    "{{ n is defined }} {{ missing is defined }} {{ missing is not defined }} {{ none is none }} {{ t is string }} {{ n is number }} {{ map is mapping }} {{ list is iterable }} {{ n is odd }} {{ n is divisibleby 7 }} {{ n is not none and yes is true }} {{ yes is sameas true }} {{ 'a' is in 'abc' }}",
    "{% if missing %}a{% elif none %}b{% elif n == 7 %}c{% else %}d{% endif %}", "{% set a, b = 1, 2 %}{{ b }}{{ a }}{% set c %}in {{ n }}{% endset %}[{{ c }}]",
    "{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list|length }} {{ messages|rejectattr('role', 'eq', 'user')|list|length }} {{ messages|map(attribute='role')|join(', ') }}",
    "{{ {'a': 1, 'b': [2]} }} {{ {}|length }} {{ ('a', 'b')|join }} {{ (1 + 2) * 3 }} {{ '}}' }} {{ '%}' }}",
    "{% generation %}x{% set a = 1 %}{% endgeneration %}{{ a is defined }}", "{{ '12'|int + 1 }} {{ 3.9|int }} {{ n|string + 'x' }} {{ 'a-b'|replace('-', '+') }} {{ list|reverse|list }}",
    "{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined else '-' }}>{{ loop.nextitem.role if not loop.last else '-' }} {{ loop.revindex }} {% endfor %}",
    "{% for i in range(2) %}{% for j in range(1, 7, 3) %}{{ i }}{{ j }}{{ loop.first }}{% endfor %}{{ loop.last }} {% endfor %}",
    "{%- for m in messages %}\n    {{- m.role }}\n{%- endfor %}\nend\n", "a\r\nb\r{{ n }}\r\n", "{% if yes %}\n\n  x\n\n{% endif %}\n\ny",
    "{% macro m(a, b=2, c='x') %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m(b=1, a=0)|length }}{{ m() }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %} {{ f(n - 1) }}{% endif %}{% endmacro %}[{{ f(4) }}]{{ f is callable }}",
    "{% macro a() %}{{ late }}{% endmacro %}{% set late = 5 %}{{ a() }}{% for i in list %}{% set late = i %}{{ a() }}{% endfor %}",
    "{% macro d(x, y=x * 2) %}{{ x }}-{{ y }}{% endmacro %}{{ d(3) }} {{ d(3, 4) }}",
    "{% macro wrap(t) %}<{{ t }}>{{ caller(7) }}</{{ t }}>{% endmacro %}{% call(v) wrap('b') %}in {{ v }} {{ n }}{% endcall %}",
    "{% macro outer() %}{% for i in list %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}{% endmacro %}{{ outer() }}",
    "{% set ns = namespace() %}{% macro g(x) %}g{{ x }}{% endmacro %}{% set ns.f = g %}{{ ns.f(1) }} {{ {'k': g}.k(2) }}",
    "a {% raw %} {{ x }} {% if %} {% endraw %} b", "  {%- raw -%}  {% y %}\n  {%- endraw -%}  z", "{% raw %}\nx\n{% endraw %}\ny",
    "x\n  {% raw %}\n  in {# no comment #}\n  {% endraw %}\n  y",
    "{% filter upper %}abc {{ n }}{% endfilter %} {% filter trim | replace('b', 'X') %}  abc {% endfilter %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% set c = 9 %}{% endwith %}{{ a is defined }}{{ c is defined }}",
    "{% set s | upper | trim %}  loud {{ n }} {% endset %}[{{ s }}]{% set q %}{% set hidden = 1 %}{% endset %}{{ hidden is defined }}",
    "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d %H:%M:%S %A %a %B %j %y %I %p %-d %%') }} {{ strftime_now is defined }}",
    "{{ map|tojson(indent=None) }} {{ map|tojson(separators=(',', ':')) }} {{ map|tojson(indent=4, separators=(' ,', ' : ')) }}",
    "{{ 'é😀\x7f\\n'|tojson(ensure_ascii=True) }} {{ {'b': 1, 'a': {'d': 1, 'c': 2}}|tojson(sort_keys=True) }} {{ {'b': 1}|tojson(true) }} {{ [[], {}]|tojson(indent=0) }}",
    "{{ ('a', 'b') }} {{ ('a',) }} {{ () }} {{ map.items()|list }} {{ (1, 2) == [1, 2] }} {{ (1, 2)|tojson }} {{ ('a', 'b')[::-1] }}",
    "{{ map.items is defined }} {{ map['items'] is defined }} {{ {'items': 3}['items'] }} {{ {'items': 3}.items is callable }} {{ {'items': 3}.get('items') }}",
    "{{ t.title is defined }} {{ t.nothing is defined }} {{ list.append is defined }} {{ list.index(1) }} {{ list.count(9) }} {{ n.x is defined }}",
    "{{ 'a.b.c'.rsplit('.', 1) }} {{ 'a.b.c'.rsplit('.') }} {{ 'a\nb\r\nc\n'.splitlines() }} {{ 'a\nb'.splitlines(true) }}",
    "{{ 'abcabc'.find('c') }} {{ 'åbcåbc'.rfind('c') }} {{ 'abc'.find('z') }} {{ 'abc'.index('b') }} {{ 'banana'.count('an') }}",
    "{{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.py'.removesuffix('.py') }} {{ 'a=b=c'.partition('=') }} {{ 'abc'.partition('=') }}",
    "{{ '12'.isdigit() }} {{ 'a1'.isdigit() }} {{ 'ABC'.isupper() }} {{ 'aB'.islower() }} {{ ' \t'.isspace() }} {{ 'ab'.isalpha() }} {{ 'a1'.isalnum() }} {{ ''.isdigit() }}",
    "{{ '{} and {}'.format(1, 'x') }} {{ '{1}{0}'.format('a', 'b') }} {{ '{k}'.format(k=none) }} {{ '{{}}'.format() }}",
    "{{ list|sort }} {{ list|sort(reverse=true) }} {{ ['b', 'A', 'c']|sort }} {{ ['b', 'A', 'c']|sort(case_sensitive=true) }} {{ messages|sort(attribute='content')|map(attribute='role')|list }}",
    "{{ [1, 2, 1, 3]|unique|list }} {{ ['a', 'A', 'b']|unique|list }} {{ map|dictsort }} {{ {'b': 1, 'A': 2}|dictsort }} {{ {'b': 1, 'a': 2}|dictsort(by='value', reverse=true) }}",
    "{{ list|sum }} {{ list|min }} {{ list|max }} {{ []|sum }} {{ messages|map(attribute='role')|max }} {{ [{'a': 1}, {'a': 4}]|sum(attribute='a') }} {{ -3|abs }} {{ '2.5'|float }} {{ 'x'|float(1.5) }} {{ 'x'|int(9) }} {{ '3.7'|int }} {{ ' 12 '|int }} {{ '12abc'|int }}",
    "{{ list|map('string')|list }} {{ ['a ', ' b']|map('trim')|join('|') }} {{ ['a', 'b']|map('replace', 'a', 'c')|list }} {{ messages|map(attribute='nope', default='-')|list }} {{ [{'a': {'b': 1}}]|map(attribute='a.b')|list }}",
    "{{ list|select('gt', 1)|list }} {{ list|reject('odd')|list }} {{ [0, 1, '', 'a']|select|list }} {{ ['a', none]|select('string')|list }} {{ list|select('in', [1, 2])|list }} {{ messages|selectattr('tool_calls', 'defined')|list|length }}",
    "{{ 'a\nb\n\nc'|indent }} | {{ 'a\nb'|indent(2, first=true) }} | {{ 'a\n\nb\n'|indent(3, blank=true) }} | {{ ''|indent }} | {{ 'x\n'|indent('>>', true) }}",
    "{{ n is gt 3 }} {{ n is le 7 }} {{ 'ab' is lower }} {{ 'AB' is upper }} {{ n is == 7 }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ 3 is sameas 3.0 }} {{ missing is sequence }} {{ n is sequence }}",
    "{% for m in messages %}{{ loop.cycle('a', 'b', 'c') }}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4]] %}{{ a + b }} {% endfor %}{% for (a, b) in [(1, 2)] %}{{ a }}{% endfor %}{% set x, y = 'pq' %}{{ y }}",
    "{{ dict(a=1, b=2) }} {{ dict(map, z=1)|length }} {{ namespace(a=1).a }} {{ namespace({'q': 2}).q }} {{ namespace(a=1).b is defined }}",
    "{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s + m.role %}{% set keep = ns.s %}{% set ns.s = ns.s + ',' %}{{ keep }}; {% endfor %}{{ ns.s }}",
    "{% set a = 'xy' + 'z' %}{% set b = a + '1' %}{% set c = a + '2' %}{% set d = b + c + a %}{{ a }} {{ b }} {{ c }} {{ d }}",
    "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=1) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{% call m(1) %}x{% endcall %}",
    "{% raw %}never ends", "{{ list.append(1) }}", "{{ map.update({'a': 1}) }}", "{% macro m(a=1, b) %}{% endmacro %}",
    "{{ [1, 'a']|sort }}", "{{ 'abc'.index('z') }}", "{% for i in range(9) %}{% set f %}{% endfor %}", "{{ '{'.format() }}",
    # errors
    "{{ missing.field }}", "{{ missing + 'a' }}", "{{ 'a' + 1 }}", "{{ raise_exception('no ' ~ n) }}", "{% for i in n %}{% endfor %}",
    "{{ 1 // 0 }}", "{{ 'a' < 1 }}", "{{ missing() }}", "{{ n.foo.bar }}", "{% set n.x = 1 %}",
    # syntax errors
    "{{ a", "{% if a %}", "{% endif %}", "{{ a b }}", "{{ 'a }}", "{% for x y %}{% endfor %}", "{{ a|nosuchfilter }}", "{{ (a }}", "{% foo %}",
]


NOW = datetime.datetime(2026, 3, 4, 15, 6, 7)


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise TemplateError(message)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def case(env, template, variables):
    try:
        return {"template": template, "variables": variables, "output": env.from_string(template).render(**variables)}
    except Exception as error:  # whatever Jinja or Python says: here it is an error
        return {"template": template, "variables": variables, "error": f"{type(error).__name__}: {error}"}


# ---- whole chats for the forms

def function(name, description, properties, **more):
    return {"type": "function", "function": {"name": name, "description": description,
                                             "parameters": {"type": "object", "properties": properties, **more}}}


WEATHER = function("get_weather", "Tells the weather of a place.", {
    "place": {"type": "string", "description": "Town, land"}, "unit": {"type": "string", "enum": ["C", "F"], "default": "C"}},
    required=["place"])
BOOK = function("book", "Books a trip,\nwith \"legs\".", {
    "legs": {"type": "array", "items": {"type": "object", "properties": {"to": {"type": "string"}, "days": {"type": "integer"}},
                                        "required": ["to"]}, "description": "In order"},
    "tags": {"type": "array", "items": {"type": "string"}, "nullable": True},
    "price": {"type": ["number", "null"], "description": "In \u20ac, at most"},
    "extra": {"oneOf": [{"type": "string", "description": "a note"}, {"type": "integer", "default": 3}]},
    "free": {"type": "object", "additionalProperties": {"type": "number"}}, "any": {"description": "whatever"}}, required=["legs"])
EMPTY = function("now", "The time.", {})
CALL = {"id": "abcDEF123", "type": "function", "function": {"name": "get_weather", "arguments": {"place": "K\u00f6ln", "unit": "C"}}}
CALL2 = {"id": "zyxWVU987", "type": "function",
         "function": {"name": "book", "arguments": {"legs": [{"to": "\u65e5\u672c", "days": 2}], "price": 1.5, "tags": None}}}
ASK = {"role": "user", "content": "  What is the weather in K\u00f6ln? \n"}
SYSTEM = {"role": "system", "content": "Be brief.\nAnd kind."}
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello! "}, {"role": "user", "content": "\u00dc\u00f1\u00ef \u65e5\u672c \U0001f600 \"q\" <b>&'"},
        {"role": "assistant", "content": "\n ok \n"}, {"role": "user", "content": "bye"}]
RESULT = {"role": "tool", "tool_call_id": "abcDEF123", "name": "get_weather", "content": "{\"t\": 21}"}
RESULT2 = {"role": "tool", "tool_call_id": "zyxWVU987", "name": "book", "content": "done \u2713"}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
BOTH = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL, CALL2]}
THOUGHT = {"role": "assistant", "content": "<think>\nHm, 21.\n</think>\n\nIt is 21."}
REASONED = {"role": "assistant", "content": "It is 21.", "reasoning_content": "Hm.", "thinking": "Hm."}
PARTS = {"role": "user", "content": [{"type": "text", "text": " one "}, {"type": "text", "text": "two"}]}
ANSWER = {"role": "assistant", "content": "It is 21."}

CHATS = {
    "one": {"messages": [ASK]}, "system": {"messages": [SYSTEM, ASK]}, "talk": {"messages": TALK}, "system_talk": {"messages": [SYSTEM] + TALK},
    "no_prompt": {"messages": TALK[:2], "add_generation_prompt": False}, "ends_with_answer": {"messages": [SYSTEM] + TALK[:4]},
    "empty": {"messages": [{"role": "user", "content": ""}]}, "two_users": {"messages": [ASK, ASK]}, "starts_with_answer": {"messages": [ANSWER, ASK]},
    "late_system": {"messages": [ASK, ANSWER, SYSTEM, ASK]}, "unknown_role": {"messages": [{"role": "alien", "content": "x"}, ASK]},
    "parts": {"messages": [PARTS]}, "system_parts": {"messages": [{"role": "system", "content": PARTS["content"]}, PARTS]},
    "image": {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]},
    "tools": {"messages": [SYSTEM, ASK], "tools": [WEATHER, BOOK]}, "tools_alone": {"messages": [ASK], "tools": [EMPTY]},
    "tools_outside": {"messages": [SYSTEM, ASK], "tools": [BOOK, EMPTY, WEATHER], "tools_in_user_message": False},
    "call": {"messages": [ASK, CALLS, RESULT], "tools": [WEATHER]}, "call_answered": {"messages": [SYSTEM, ASK, CALLS, RESULT, ANSWER, ASK], "tools": [WEATHER, BOOK]},
    "two_calls": {"messages": [ASK, BOTH, RESULT, RESULT2], "tools": [WEATHER, BOOK]},
    "two_calls_answered": {"messages": [SYSTEM, ASK, BOTH, RESULT, RESULT2, ANSWER, ASK], "tools": [BOOK]},
    "calls_twice": {"messages": [ASK, CALLS, RESULT, {**CALLS, "tool_calls": [CALL2]}, RESULT2], "tools": [WEATHER]},
    "calls_without_tools": {"messages": [ASK, CALLS, RESULT, ANSWER]}, "short_id": {"messages": [ASK, {**CALLS, "tool_calls": [{**CALL, "id": "x"}]}, RESULT]},
    "builtin": {"messages": [ASK, {**CALLS, "tool_calls": [{"function": {"name": "search", "arguments": {"query": "x", "n": "2"}}}]}, RESULT],
                "builtin_tools": ["search", "code_interpreter"]},
    "dated": {"messages": [ASK], "date_string": "1 Jan 2000", "tools": [WEATHER]},
    "thought": {"messages": [ASK, THOUGHT, ASK]}, "thought_last": {"messages": [ASK, THOUGHT], "add_generation_prompt": False},
    "reasoned": {"messages": [ASK, REASONED, ASK, REASONED], "add_generation_prompt": False}, "reasoned_call": {"messages": [ASK, {**CALLS, "thinking": "Hm.", "reasoning_content": "Hm."}, RESULT], "tools": [WEATHER]},
    "not_thinking": {"messages": [SYSTEM, ASK], "enable_thinking": False}, "thinking": {"messages": [ASK], "enable_thinking": True},
    "effort": {"messages": [ASK], "reasoning_effort": "high", "model_identity": "You are X."},
    "documents": {"messages": [SYSTEM] + TALK, "documents": [{"title": "A", "text": "x\ny"}, {"title": "\u00c4", "snippet": "z", "n": 3}], "citation_mode": "accurate"},
    "text_arguments": {"messages": [ASK, {**CALLS, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{\"a\": 1}"}}]}, RESULT], "tools": [WEATHER]},
    "response_in_user": {"messages": [ASK, {"role": "assistant", "content": "<think>a</think>b"}, {"role": "user", "content": "<tool_response>x</tool_response>"}]},
}


def chat_variables(chat):
    return {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True, "tools": None, "documents": None, **chat}


def rendered(env, form, chat):
    return env.from_string((HERE / "forms" / (form + ".jinja")).read_text()).render(**chat_variables(CHATS[chat]))


def mark(env, form, chat):
    """Length and digest of what comes out; null: an error."""
    try:
        text = rendered(env, form, chat).encode()
    except Exception:
        return None
    return [len(text), hashlib.sha256(text).hexdigest()[:32]]


def write_forms(env):
    forms = sorted(path.stem for path in (HERE / "forms").glob("*.jinja"))
    marks = {form: {chat: mark(env, form, chat) for chat in CHATS} for form in forms}
    lines = ["{\"now\": %d," % NOW.replace(tzinfo=datetime.timezone.utc).timestamp(), "\"chats\": {"]
    lines += [",\n".join(f"{json.dumps(name)}: {json.dumps(chat_variables(chat))}" for name, chat in CHATS.items())]
    lines += ["},", "\"forms\": {"]
    lines += [",\n".join(f"{json.dumps(form)}: {json.dumps(of)}" for form, of in marks.items()), "}}"]
    (HERE / "forms.json").write_text("\n".join(lines) + "\n")
    errors = sum(one is None for of in marks.values() for one in of.values())
    print(len(forms), "forms of", len(CHATS), "chats,", errors, "of them errors")


def main():
    env = environment()
    if sys.argv[1:2] == ["--show"]:
        sys.stdout.write(rendered(env, *sys.argv[2:4]))
        return
    write_forms(env)
    cases = []
    for template in (CHATML, HEADERS, STRICT):
        for messages in (MESSAGES, MESSAGES[1:], MESSAGES[1:2], TOOLS):
            for prompt in (True, False):
                cases.append(case(env, template, {**V, "messages": messages, "add_generation_prompt": prompt}))
    cases.append(case(env, CHATML, {**V, "messages": [{"role": "alien", "content": "x"}]}))
    cases += [case(env, template, V) for template in SMALL]
    lines = ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases)
    (HERE / "cases.json").write_text('{"cases":[\n' + lines + "\n]}\n")
    print(len(cases), "cases,", sum("error" in c for c in cases), "of them errors")


if __name__ == "__main__":
    main()
