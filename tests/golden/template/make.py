#!/usr/bin/env python3
"""Makes cases.json: chat templates, variables, and what Jinja makes of them as Hugging Face sets it up.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install jinja2==3.1.6
    /tmp/venv/bin/python tests/golden/template/make.py
"""
import json
import pathlib

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
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
    "{% generation %}x{% endgeneration %}" if False else "{{ '12'|int + 1 }} {{ 3.9|int }} {{ n|string + 'x' }} {{ 'a-b'|replace('-', '+') }} {{ list|reverse|list }}",
    "{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined else '-' }}>{{ loop.nextitem.role if not loop.last else '-' }} {{ loop.revindex }} {% endfor %}",
    "{% for i in range(2) %}{% for j in range(1, 7, 3) %}{{ i }}{{ j }}{{ loop.first }}{% endfor %}{{ loop.last }} {% endfor %}",
    "{%- for m in messages %}\n    {{- m.role }}\n{%- endfor %}\nend\n", "a\r\nb\r{{ n }}\r\n", "{% if yes %}\n\n  x\n\n{% endif %}\n\ny",
    # errors
    "{{ missing.field }}", "{{ missing + 'a' }}", "{{ 'a' + 1 }}", "{{ raise_exception('no ' ~ n) }}", "{% for i in n %}{% endfor %}",
    "{{ 1 // 0 }}", "{{ 'a' < 1 }}", "{{ missing() }}", "{{ n.foo.bar }}", "{% set n.x = 1 %}",
    # syntax errors
    "{{ a", "{% if a %}", "{% endif %}", "{{ a b }}", "{{ 'a }}", "{% for x y %}{% endfor %}", "{{ a|nosuchfilter }}", "{{ (a }}", "{% foo %}",
]


def environment():
    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise TemplateError(message)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def case(env, template, variables):
    try:
        return {"template": template, "variables": variables, "output": env.from_string(template).render(**variables)}
    except Exception as error:  # whatever Jinja or Python says: here it is an error
        return {"template": template, "variables": variables, "error": f"{type(error).__name__}: {error}"}


def main():
    env = environment()
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
