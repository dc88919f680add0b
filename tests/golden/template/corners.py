#!/usr/bin/env python3
"""Makes corners.json: the less trodden paths of templates over one set of variables, and what Jinja makes of them.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install jinja2==3.1.6
    /tmp/venv/bin/python tests/golden/template/corners.py
"""
import json

from make import HERE, case, environment

V = {"n": 7, "zero": 0, "f": 2.5, "fz": 0.0, "yes": True, "no": False, "none": None, "t": "a,b,,c", "empty": "",
     "text": "  Hello w\u00f6rld  ", "list": [3, 1, 2], "nested": [[1, 2], [3, [4, "x"]]], "words": ["b", "a", ""],
     "map": {"k": "v", "x": [1, {"y": "it's"}]}, "hole": {}, "odd": "q\"'\\\t\r\n\u0001\u007f\u00e9",
     "ws": "x".join(chr(c) for c in [9, 10, 11, 12, 13, 28, 29, 30, 31, 32, 0x85, 0xa0, 0x1680, *range(0x2000, 0x200b), 0x2028, 0x2029, 0x202f,
                                     0x205f, 0x3000]),
     "near": "x".join(chr(c) for c in [8, 14, 27, 33, 0x84, 0x86, 0x9f, 0xa1, 0x167f, 0x180e, 0x1fff, 0x200b, 0x2027, 0x202a, 0x205e, 0x2060, 0x3001]),
     "spaces": "\u2003a\u00a0b\u3000\u0085c\u001d", "big": 9007199254740993,
     "messages": [{"role": "user", "content": "hi", "n": 1}, {"role": "tool", "content": "", "n": 2},
                  {"role": "user", "content": None}]}

TEMPLATES = [
    # tests
    "{{ yes is true }} {{ n is true }} {{ no is false }} {{ yes is false }} {{ zero is false }} {{ no is true }}",
    "{{ n is even }} {{ n is odd }} {{ 4 is even }} {{ 4 is odd }} {{ n is divisibleby 2 }} {{ 14 is divisibleby(n) }}",
    "{{ list is sequence }} {{ t is sequence }} {{ map is sequence }} {{ n is sequence }} {{ n is iterable }} {{ none is iterable }}",
    "{{ n is integer }} {{ f is integer }} {{ yes is integer }} {{ f is float }} {{ n is float }} {{ yes is boolean }} {{ n is boolean }}",
    "{{ yes is number }} {{ t is number }} {{ t is mapping }} {{ none is string }} {{ range is callable }} {{ n is callable }}",
    "{{ n is eq 7 }} {{ n is ne 7 }} {{ n is equalto(8) }} {{ none is sameas none }} {{ n is ne('7') }}",
    "{{ 'k' is in map }} {{ 'v' is in map }} {{ 3 is in list }} {{ 9 is in list }} {{ '' is in t }} {{ 'z' is in t }} {{ 'b' is in words }}",
    "{{ missing is undefined }} {{ map.zz is undefined }} {{ map.k is undefined }} {{ missing is none }} {{ missing is not none }}",
    "{{ [1, [2]] is eq [1, [2]] }} {{ n is not even }} {{ not n is even }} {{ n is defined and n is number }}",
    # equality of all kinds
    "{{ [1, 2] == [1, 2] }} {{ [1, 2] == [1, 3] }} {{ [1] == [1, 2] }} {{ [] == [] }} {{ [[1]] == nested }} {{ nested == [[1, 2], [3, [4, 'x']]] }}",
    "{{ {'a': 1} == {'a': 1} }} {{ {'a': 1} == {'a': 2} }} {{ {'a': 1} == {'b': 1} }} {{ {} == hole }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1} }} {{ {'a': 1} == {} }}",
    "{{ none == none }} {{ none == false }} {{ 1 == true }} {{ 0 == false }} {{ 1.0 == 1 }} {{ 'a' == 1 }} {{ [] == {} }} {{ '' == none }} {{ f == 2.5 }} {{ yes == 1.0 }}",
    "{{ missing == missing2 }} {{ missing == none }} {{ missing == '' }}",
    # truth
    "{{ 'y' if fz else 'n' }}{{ 'y' if f else 'n' }}{{ 'y' if hole else 'n' }}{{ 'y' if map else 'n' }}{{ 'y' if [] else 'n' }}{{ 'y' if nested else 'n' }}{{ 'y' if empty else 'n' }}{{ 'y' if range else 'n' }}",
    "{% set ns = namespace() %}{{ 'y' if ns else 'n' }} {{ 'y' if missing else 'n' }} {{ not [] }} {{ not {} }} {{ not 0.5 }}",
    # numbers
    "{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 // -2 }} {{ 7 // -1 }} {{ 7 % -1 }} {{ -7 % -3 }} {{ 0 // 5 }} {{ yes + yes }} {{ n - no }} {{ yes * f }} {{ 2 ** 0 }} {{ 2 ** 62 }} {{ (-2) ** 3 }}",
    "{{ f + 1 }} {{ f - 0.5 }} {{ f * 2 }} {{ f / 2 }} {{ f // 1 }} {{ -f // 1 }} {{ f % 1 }} {{ -f % 2 }} {{ 7.5 % -2 }} {{ f ** 2 }} {{ 9 ** 0.5 }} {{ 1 / 3 }} {{ 1e3 }} {{ 1.5e-7 }} {{ 1_000 }} {{ 2.5E+3 }}",
    "{{ 1e300 * 1e300 }} {{ -1e300 * 1e300 }} {{ [1e300 * 1e300]|tojson }} {{ -0.0 }} {{ 0.1 + 0.2 }} {{ 1e15 }} {{ 123456789012345.6 }} {{ 1e-4 }} {{ 1e-5 }} {{ 12345678901234567.0 }} {{ 5e-324 }}",
    "{{ +n }} {{ -(-n) }} {{ - f }} {{ +f }} {{ big }} {{ big + 1 }} {{ -big }}",
    "{{ 1 < 1.5 }} {{ 1.5 <= 1.5 }} {{ 2 >= 2.5 }} {{ yes > no }} {{ f > n }} {{ 'a' <= 'a' }} {{ 'ab' < 'a' }} {{ '' < 'a' }} {{ 'b' >= 'abc' }} {{ '' <= '' }} {{ 2 >= 2 }} {{ 1 > 2 }} {{ 3 <= 2 }}",
    "{{ '12'|int }} {{ '-3'|int }} {{ 'x'|int }} {{ ''|int }} {{ yes|int }} {{ f|int }} {{ -2.9|int }} {{ none|int }} {{ list|int }} {{ ' 4 '|int }} {{ big|int }}",
    # texts
    "{{ 'ab' * 0 }}|{{ 'ab' * -1 }}|{{ '' * 5 }}|{{ 'ab' * 2 }}|{{ '' + '' }}|{{ '' ~ '' }}|{{ 'a' + '' }}|{{ '' + 'b' }}",
    "{{ none ~ 1.5 ~ [1, 'a'] ~ map ~ yes ~ missing }}", "{{ odd }}", "{{ [odd] }}", "{{ {odd: odd} }}", "{{ odd|tojson }}", "{{ ['it\\'s', 'say \"x\"', 'both \\'\"', 'tab\\t', 'r\\r', 'b\\\\'] }}",
    "{{ '\\x41\\u00e9\\U0001f600\\n\\t\\\\\\'\\\"\\a\\b\\f\\v\\r' }}", "{{ 'a\\\nb' }}", "{{ '\\q\\8\\z' }}", "{{ \"a'b\" }}{{ 'a\"b' }}",
    "[{{ spaces.strip() }}][{{ spaces|trim }}][{{ spaces.split() }}][{{ ' \\n\\t'|trim }}][{{ ''.strip() }}][{{ '   '.split() }}][{{ ''.split() }}]",
    "[{{ 'xyaxy'.strip('yx') }}][{{ 'xxa'.lstrip('x') }}][{{ 'axx'.rstrip('x') }}][{{ 'xx'.strip('x') }}][{{ '\u00e9a\u00e9'.strip('\u00e9') }}][{{ 'a'.strip('') }}][{{ 'xax'|trim('x') }}][{{ ' a '.strip(none) }}]",
    "{{ 'a b  c'.split(' ') }} {{ 'abcabc'.split('bc') }} {{ ''.split(',') }} {{ ','.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.split(',', 0) }} {{ 'a,b,c'.split(',', -1) }} {{ 'a b c'.split(none, 2) }} {{ 'abc'.split('x') }} {{ '  a  b  '.split(none, 0) }}",
    "{{ 'aXbX'.replace('X', '--') }} {{ 'aaa'.replace('a', 'b', 1) }} {{ 'aaa'.replace('a', '', 0) }} {{ 'aaa'.replace('aa', 'b') }} {{ 'abc'.replace('x', 'y') }} {{ ''.replace('a', 'b') }} {{ 'aaa'|replace('a', 'c') }} {{ 121|replace('1', '3') }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.startswith('b') }} {{ 'abc'.endswith('bc') }} {{ 'abc'.endswith('abcd') }} {{ 'abc'.startswith('') }} {{ ''.startswith('a') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.endswith(('x', 'y')) }} {{ ''.endswith(()) }}",
    "{{ 'hELLO wORLD-x o\u00e9'.title() }} {{ 'hELLO w'.capitalize() }} {{ 'stra\u00dfe \u00e9'.lower() }} {{ '\u00e9a'.upper() }} {{ ''.upper() }}{{ ''|capitalize }} {{ 'A1b c'|title }} {{ 12|upper }} {{ none|lower }}",
    "{{ ','.join(words) }}|{{ ''.join('abc') }}|{{ '-'.join([]) }}|{{ [1, 2.5, none]|join('+') }}|{{ messages|join(',', attribute='role') }}|{{ 'abc'|join('.') }}|{{ []|join }}|{{ map|join('/') }}",
    "{{ ws.split()|length }} {{ ws.split()|join('|') }} {{ near.split()|length }} {{ (ws ~ 'y' ~ ws)|trim|length }} {{ near|trim|length }}",
    # in
    "{{ '' in '' }} {{ 'a' in '' }} {{ '' in 'a' }} {{ 2 in nested }} {{ [1, 2] in nested }} {{ 'x' in map }} {{ 'x' in hole }} {{ 1 not in list }} {{ 4 not in list }} {{ none in [none] }} {{ 1.0 in list }} {{ yes in list }}",
    # items, slices
    "{{ list[0] }}{{ list[-3] }}[{{ list[3] }}][{{ list[-4] }}] {{ 'h\u00e9l'[1] }}[{{ 'h\u00e9l'[9] }}][{{ ''[0] }}] {{ map['x'][1]['y'] }} {{ map.x[1].y }} {{ nested[1][1][0] }} {{ messages[0].role }}",
    "{{ list[:] }} {{ list[5:] }} {{ list[:-5] }} {{ list[-2:-1] }} {{ list[::2] }} {{ list[::-2] }} {{ list[2:0:-1] }} {{ list[0:2:-1] }} {{ list[9:-9:-1] }} {{ list[1:2] }} {{ list[-9:9] }} {{ list[:2:1] }} {{ list[none:none] }}",
    "{{ 'h\u00e9llo'[1:3] }}|{{ 'h\u00e9llo'[:-1] }}|{{ 'h\u00e9llo'[::-1] }}|{{ 'h\u00e9llo'[::2] }}|{{ 'h\u00e9llo'[3:1] }}|{{ 'h\u00e9llo'[9:] }}|{{ ''[1:] }}|{{ ''[::-1] }}|{{ 'h\u00e9llo'[-3:] }}|{{ 'h\u00e9llo'[4:0:-2] }}",
    # filters
    "{{ list|first }} {{ list|last }} [{{ []|first }}] [{{ []|last }}] {{ 'h\u00e9'|first }}{{ 'h\u00e9'|last }} {{ map|first }} {{ 'abc'|list }} {{ map|list }} {{ list|list }} {{ 'h\u00e9'|reverse }} {{ 'h\u00e9'|length }} {{ hole|length }} {{ ''|length }}",
    "{{ missing|default }}|{{ missing|default('x') }}|{{ none|default('x') }}|{{ none|default('x', true) }}|{{ 0|default('x', true) }}|{{ 5|default('x', true) }}|{{ 0|default('x', false) }}|{{ missing|default(default_value='y') }}|{{ empty|default('z', boolean=true) }}|{{ missing.a|default('q') if false else 'w' }}",
    "{{ [1, [2, {'a': none}], 'x', false, 1.5, {}]|tojson }}|{{ {'a': [], 'b': {}, 'c': [1, {'d': 2}]}|tojson(indent=1) }}|{{ nested|tojson(indent=2) }}|{{ 'x'|tojson }}|{{ none|tojson }}|{{ 5|tojson(indent=3) }}|{{ hole|tojson(indent=4) }}|{{ map|tojson(indent=none) }}",
    "{{ messages|map(attribute='role')|join }}|{{ messages|selectattr('content')|list|length }}|{{ messages|rejectattr('content')|list|length }}|{{ messages|selectattr('n', 'defined')|list|length }}|{{ messages|selectattr('n', 'undefined')|list|length }}|{{ messages|selectattr('n', 'eq', 2)|map(attribute='role')|first }}|{{ messages|rejectattr('role', 'in', ['user'])|list }}",
    "{% for k, v in map|items %}{{ k }}:{{ v }};{% endfor %} {{ missing|items|list }} {{ 'x'|safe }} {{ n|string|length }} {{ [n, none]|string }}",
    "{{ text|trim|upper|replace('O', '0')|length }} {{ (list|last) + 1 }} {{ list|join(',')|replace(',', '') }}",
    # methods
    "{{ map.get('k') }} {{ map.get('q') }} {{ map.get('q', 5) }} {{ map.get(7) }} {{ hole.get('k', none) }} {{ map.keys()|list }} {{ map.values()|list|length }} {{ hole.items()|list }}",
    "{{ dict(a=1, b='x') }} {{ dict()|length }} {{ dict(a=1).a }} {% set ns = namespace(a=1, b=[]) %}{{ ns.a }}{{ ns.b }}{{ ns.c }} {% set ns.a = 2 %}{% set ns.d = 3 %}{{ ns.a }}{{ ns.d }}",
    "{{ range(3)|list }} {{ range(1, 4)|list }} {{ range(5, 0, -2)|list }} {{ range(0)|list }} {{ range(3, 1)|list }} {{ range(0, 10, 4)|list }} {{ range(-2)|list }} {{ range(2)|length }}",
    # statements
    "{% for a, b in [[1, 2], [3, 4]] %}{{ a }}{{ b }};{% endfor %}{% for x in 'ab' %}{{ x }}{% endfor %}{% for k in map %}{{ k }}{% endfor %}{% for x in missing %}x{% else %}e{% endfor %}{% for x in hole %}x{% else %}h{% endfor %}",
    "{% for i in list if i != 1 %}{{ loop.index }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.index0 }} {% else %}no{% endfor %}|{% for i in list if i > 5 %}x{% else %}none{% endfor %}",
    "{% for i in list %}{% for j in list %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% if i == 1 %}{% continue %}{% endif %}|{% endfor %}",
    "{% for i in [1, 2] %}{{ loop.previtem }}/{{ loop.nextitem }};{% endfor %}{% set i = 5 %}{% for i in [1] %}{{ i }}{% endfor %}{{ i }}",
    "{% if no %}a{% elif none %}b{% elif missing %}c{% elif [] %}d{% endif %}|{% if yes %}{% if no %}x{% else %}y{% endif %}{% endif %}|{% if no %}{% endif %}",
    "{% set a = 1 %}{% set a, b = a + 1, a %}{{ a }}{{ b }}{% set c = [a, b] %}{{ c }}{% set d %}x{{ a }}{% for i in c %}{{ i }}{% endfor %}{% endset %}{{ d }}{{ d|length }}{% set e %}{% endset %}[{{ e }}]{% set f2 = (1, 2) %}{{ f2[1] }}",
    "{% if yes %}{% set inside = 1 %}{% endif %}{{ inside }}{% for i in [1] %}{% set deep = 2 %}{{ deep }}{% endfor %}[{{ deep }}]",
    "{{ 'a' if no }}|{{ 'a' if yes }}|{{ 1 if no else 2 if no else 3 }}|{{ (1 if yes else 2) + 1 }}|{{ not yes or yes and no }}|{{ yes or missing.x }}|{{ no and missing.x }}|{{ none or 0 or '' or [] }}|{{ 1 and 2 and 3 }}",
    "{{ 1 < 2 < 3 < 3 }} {{ 1 == 1 != 2 }} {{ 'a' in 'ab' in ['ab'] }}",
    "{{ [1, 2,] }} {{ {'a': 1,} }} {{ ((1)) }} {{ (1, 2)|length }} {{ (1, 2)[0] }} {{ [] }} {{ {} }} {{ [[]] }} {{ [{}] }}",
    # whitespace and tags
    "a\n{%- set x = 1 %}\nb", "a\n  {%- set x = 1 -%}  \n  b", "a {{- ' x ' -}} b", "a {#- c -#} b", "  {# c #}\n x", "\t{% if yes %}\n\tx\n\t{% endif %}\n y", "a{% if yes %} b {% endif %}c", "{% if yes -%}\n x \n{%- endif %}\n",
    "{%+ if yes %}a{% endif %}", "  {%+ if yes %}a{%+ endif %}", "x\n\n{{ n }}\n\n", "{{n}}{{-n}}{{ n-}}", "{%set z=1%}{{z}}", "\n\n{% set z = 1 %}\n\n{{ z }}\n\n", "{", "{ {", "}} %} #}", "{{ '{{' }}{{ \"%}\" }}", "{{\nn\n}}", "{%\nif\nyes\n%}x{% endif %}",
    "\r\n{% if yes %}\r\nx\r{% endif %}\r\n", "a  \n  {%- if yes %}  b{% endif %}",
    # errors
    "{{ 1 / 0 }}", "{{ 1.5 // 0 }}", "{{ 1 % 0 }}", "{{ 1.5 % 0.0 }}", "{{ 'a' - 1 }}", "{{ [1] - [1] }}", "{{ none + 1 }}", "{{ 'a' + none }}", "{{ missing + 1 }}", "{{ 1 + missing }}", "{{ missing < 1 }}", "{{ 1 < none }}", "{{ [1] < 2 }}", "{{ 1 in 2 }}", "{{ 1 in none }}",
    "{{ missing.a.b }}", "{{ missing['a'] }}", "{{ missing[0] }}", "{{ missing.strip() }}", "{{ missing.get('a') }}", "{{ n.strip() }}", "{{ list.nosuch() }}", "{{ t.nosuch() }}", "{{ map.nosuch() }}", "{{ none.get('a') }}", "{{ nosuch() }}", "{{ map['zz'].y }}", "{{ list[9].y }}",
    "{{ n[1:] }}", "{{ list[::0] }}", "{{ 'a'[::0] }}", "{{ 'a'.split('') }}", "{{ range() }}", "{{ range('a') }}", "{{ range(1, 2, 0) }}", "{{ range(1, 2, 3, 4) }}", "{{ raise_exception('x') }}", "{{ raise_exception('x' * 400) }}", "{% for i in 5 %}{% endfor %}", "{% for i in none %}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for a, b in [[1, 2, 3]] %}{% endfor %}",
    "{% set a, b = 1 %}", "{% set a, b = [1] %}", "{% set map.x = 1 %}", "{% set missing.x = 1 %}", "{{ n|length }}", "{{ none|length }}", "{{ n|join }}", "{{ n|list }}", "{{ n|first }}", "{{ missing|tojson }}", "{{ [missing]|tojson }}", "{{ range|tojson }}", "{{ n|selectattr('a')|list }}", "{{ messages|selectattr('a', 'nosuchtest')|list }}", "{{ n|items|list }}",
    "{{ -'a' }}", "{{ -none }}", "{{ -missing }}",
    # syntax errors
    "{{ }}", "{{ 1 + }}", "{{ * 1 }}", "{{ a. }}", "{{ a[ }}", "{{ a[1 }}", "{{ a[1:2:3:4] }}", "{{ f( }}", "{{ f(1 }}", "{{ f(1,, 2) }}", "{{ f(a=1, 2) }}", "{{ [1, 2 }}", "{{ {1 }}", "{{ {'a' 1} }}", "{{ {'a': } }}", "{{ (1, }}", "{{ a is }}", "{{ a is 1 }}", "{{ a is nosuch }}", "{{ a | }}", "{{ a | 1 }}", "{{ a if }}", "{{ a if b else }}", "{{ not }}", "{{ a not b }}", "{{ a not in }}", "{{ 'a\\", "{{ \"a }}", "{{ ' }}",
    "{% %}", "{% if %}x{% endif %}", "{% if yes %}x", "{% if yes %}x{% else %}", "{% if yes %}x{% else %}y{% else %}z{% endif %}", "{% if yes %}x{% endfor %}", "{% else %}", "{% elif yes %}", "{% endfor %}", "{% endset %}", "{% for %}", "{% for x %}", "{% for x in %}", "{% for x in y", "{% for 1 in y %}{% endfor %}", "{% for x. in y %}{% endfor %}", "{% for x in y %}", "{% for x in y if %}{% endfor %}", "{% set %}", "{% set a %}", "{% set a = %}", "{% set 1 = 2 %}", "{% set a. = 2 %}", "{% set a.1 = 2 %}", "{% set a, = %}", "{% break %}", "{% continue %}", "{# open", "{% nosuch %}", "{{ a % }}", "{% if a }}", "{{ a $ b }}", "{{ a ! b }}", "{{ a ? b }}", "{{ 1 2 }}", "{{ 'a' 1 }}", "{% endif x %}", "{{ @ }}", "{{ a }", "{{ a %}", "{% set x = 1 y %}",
]


def main():
    env = environment()
    cases = [case(env, template, V) for template in dict.fromkeys(TEMPLATES)]
    for one in cases:
        del one["variables"]
    lines = ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases)
    variables = json.dumps(V, ensure_ascii=False, separators=(",", ":"))
    (HERE / "corners.json").write_text('{"variables":' + variables + ',\n"cases":[\n' + lines + "\n]}\n")
    print(len(cases), "cases,", sum("error" in c for c in cases), "of them errors")


if __name__ == "__main__":
    main()
