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
    # tests of names, order and case
    "{{ 'trim' is filter }} {{ 'nosuch' is filter }} {{ 'odd' is test }} {{ 'nosuch' is test }} {{ 'a' is lower }} {{ 'A1' is upper }} {{ '1' is upper }} {{ 'aB' is lower }} {{ none is lower }} {{ n is upper }}",
    "{{ 1 is lt 2 }} {{ 2 is le 2 }} {{ 3 is le 2 }} {{ 3 is gt 2 }} {{ 2 is gt 2 }} {{ 2 is ge 2 }} {{ 1 is ge 2 }} {{ 'a' is lessthan 'b' }} {{ 'b' is greaterthan 'b' }} {{ 'a' is sameas 1 }} {{ yes is sameas true }} {{ n is sameas none }}",
    "{% set ns = namespace(a=1) %}{{ ns is mapping }} {{ ns is sequence }} {{ ns is iterable }} {{ 'a' in [ns] }}{% for i in [1] %} {{ loop is mapping }} {{ loop is sequence }}{% endfor %} {{ range is mapping }} {{ f is sequence }}",
    "{{ 'a' is even }}", "{{ n is divisibleby 'a' }}", "{{ n is divisibleby 0 }}", "{{ n is lt none }}", "{{ none is ge 1 }}", "{{ n is in 5 }}", "{{ missing is lower }}",
    "{{ list|select('in', [1, 2])|list }} {{ list|reject('odd')|list }} {{ list|select|list }} {{ words|reject|list }} {{ messages|selectattr('content', 'none')|list|length }} {{ messages|rejectattr('n', 'ge', 2)|list|length }}",
    "{{ ['a', 1]|select('even')|list }}", "{{ list|select('nosuch')|list }}", "{{ messages|rejectattr('n', 5)|list }}", "{{ messages|selectattr('content.x')|list|length }}", "{{ messages|selectattr('n', 'gt', none)|list }}",
    # map and its filters
    "{{ ['a ', ' b']|map('trim')|list }} {{ ['aXa', 'X']|map('replace', 'X', 'y')|list }} {{ messages|map(attribute='content', default='d')|list }} {{ messages|map(attribute='zz', default='d')|list }} {{ nested|map(attribute='0')|list }} {{ nested|map(attribute='1.0')|join('|') }}",
    "{{ list|map('nosuch')|list }}", "{{ list|map()|list }}", "{{ n|map('upper')|list }}", "{{ [none, 1]|map('join')|list }}",
    "{{ messages|map(attribute='12345678901')|list|length }} {{ nested|map(attribute='a0')|join('|') }} {{ nested|map(attribute='1x')|join('|') }}",
    # order
    "{{ ['b', 'A', 'a', 'B']|sort }} {{ ['b', 'A', 'a']|sort(case_sensitive=true) }} {{ list|sort(reverse=true) }} {{ messages|sort(attribute='n', reverse=true)|map(attribute='n')|list }} {{ ['b', 'A', 'a', 'B']|unique|list }} {{ ['b', 'B']|unique(case_sensitive=true)|list }} {{ messages|unique(attribute='role')|map(attribute='role')|list }} {{ [1, 1.0, yes, '1']|unique|list }}",
    "{{ {'b': 1, 'A': 3, 'a': 2}|dictsort }} {{ {'b': 1, 'A': 3, 'a': 2}|dictsort(true) }} {{ {'b': 1, 'A': 3, 'a': 2}|dictsort(by='value', reverse=true) }} {{ {'b': 'Z', 'A': 'y', 'a': 'X'}|dictsort(false, 'value') }} {{ hole|dictsort }}",
    "{{ list|min }} {{ list|max }} [{{ []|min }}] [{{ []|max }}] {{ ['b', 'A']|min }} {{ ['b', 'A']|min(case_sensitive=true) }} {{ messages|max(attribute='n') }} {{ 'hello'|max }} {{ [1.5, yes, 0]|min }}",
    "{{ list|sum }} {{ [1.5, 2]|sum }} {{ []|sum }} {{ list|sum(start=10) }} {{ messages[:2]|sum(attribute='n') }} {{ messages[:2]|sum('n', 5) }} {{ nested|sum(start=[]) }}",
    "{{ [1, 'a']|sort }}", "{{ [1, none]|min }}", "{{ n|sort }}", "{{ n|unique|list }}", "{{ n|dictsort }}", "{{ n|sum }}", "{{ ['a', 1]|sum }}", "{{ messages|sum(attribute='n') }}", "{{ {'a': 1, 'b': 'x'}|dictsort(by='value') }}", "{{ [[1], [none]]|sort }}", "{{ none|min }}",
    # numbers of texts
    "{{ ' 12.5 '|float }} {{ 'x'|float }} {{ 'x'|float(1.5) }} {{ ''|float }} {{ '0x10'|float }} {{ '0X10'|float(2) }} {{ yes|float }} {{ none|float }} {{ none|float(3.5) }} {{ n|float }} {{ f|float }} {{ '1e3'|float }} {{ list|float }}",
    "{{ '12.7'|int }} {{ 'x'|int(5) }} {{ none|int(3) }} {{ '0x1'|int(4) }} {{ '-12.9'|int }} {{ '123456789012345678'|int }} {{ yes|int(3) }} {{ '1 2'|int(9) }} {{ f|int }} {{ list|int(2) }}",
    "{{ -7|abs }} {{ (-7)|abs }} {{ f|abs }} {{ (-2.5)|abs }} {{ yes|abs }} {{ no|abs }} {{ zero|abs }}", "{{ 'a'|abs }}", "{{ none|abs }}",
    "{{ 'a\nb\n\nc'|indent }}|{{ 'a\nb\n\nc'|indent(2, true) }}|{{ 'a\nb\n\nc'|indent(2, true, true) }}|{{ 'a\nb\n'|indent(blank=true) }}|{{ 'a\nb'|indent('> ') }}|{{ ''|indent(first=true) }}|{{ 'a\n'|indent(1) }}|{{ 'a\nb'|indent(0) }}|{{ 'a\nb'|indent(width='--', first=false) }}",
    "{{ missing|replace('a', 'b') }}", "{{ missing|trim }}", "{{ missing|upper }}", "{{ 'a'|trim(5) }}", "{{ 'a'|nosuch }}", "{{ missing|abs }}", "{{ missing|sum }} {{ missing|sort }} {{ missing|unique|list }} {{ missing|map('upper')|list }} {{ missing|select|list }}",
    "{{ map|tojson(indent=2) }} {{ {'b': 1, 'a': [2], 'ab': 3}|tojson }} {{ odd|tojson|length }} {{ 'a\\u2028</b>&\\'' | tojson }} {{ [f, -0.0, 1e300, big]|tojson }} {{ '\\x1b\\b\\f'|tojson }}",
    # texts
    "{{ 'a,b,c'.rsplit(',') }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a,b,c'.rsplit(',', 0) }} {{ 'a b c'.rsplit() }} {{ 'abc'.rsplit('x', 2) }} {{ 'aXXb'.rsplit('XX', 5) }} {{ ''.rsplit(',', 1) }} {{ ',a,'.rsplit(',', 9) }}",
    "{{ 'a\\nb\\r\\nc\\rd'.splitlines() }} {{ 'a\\nb\\r\\nc\\rd'.splitlines(true) }} {{ 'a\\x0bb\\x0cc\\x1cd\\x1de\\x1ef\\x85g\\u2028h\\u2029i'.splitlines() }} {{ ''.splitlines() }} {{ '\\n'.splitlines() }} {{ 'a\\r'.splitlines(true) }} {{ 'a\\x1fb\\x0e'.splitlines()|length }} {{ 'h\u00e9\\n\u00e9'.splitlines(no) }} {{ '\\x84\\u2027\\u202a'.splitlines()|length }}",
    "{{ 'banana'.find('an') }} {{ 'banana'.rfind('an') }} {{ 'banana'.find('x') }} {{ 'banana'.rfind('x') }} {{ 'h\u00e9llo'.find('l') }} {{ 'banana'.index('n') }} {{ 'banana'.count('an') }} {{ 'banana'.count('x') }} {{ ''.find('') }} {{ ''.rfind('') }} {{ 'abc'.find('') }} {{ 'abc'.rfind('') }} {{ 'abc'.rfind('abcd') }} {{ ''.find('a') }}",
    "{{ 'banana'.removeprefix('ba') }} {{ 'banana'.removeprefix('x') }} {{ 'banana'.removesuffix('na') }} {{ 'banana'.removesuffix('x') }} [{{ 'a'.removeprefix('a') }}] {{ 'ab'.removesuffix('') }} {{ 'a'.removeprefix('abc') }}",
    "{{ 'a=b=c'.partition('=') }} {{ 'abc'.partition('=') }} {{ ''.partition('=') }} {{ '=='.partition('==') }}",
    "{{ '12'.isdigit() }} {{ ''.isdigit() }} {{ '1a'.isdigit() }} {{ 'ab\u00e9'.isalpha() }} {{ 'a1'.isalpha() }} {{ 'a1'.isalnum() }} {{ 'a-'.isalnum() }} {{ ' \\t'.isspace() }} {{ ' a'.isspace() }} {{ '\\x1c\\x1f'.isspace() }} {{ 'A1'.isupper() }} {{ 'Aa'.isupper() }} {{ '1'.isupper() }} {{ 'a b'.islower() }} {{ '\u01c5'.islower() }} {{ '\u01c5'.isupper() }} {{ ''.islower() }} {{ '\\x1b'.isspace() }} {{ '\\x20!'.isspace() }}",
    "{{ '{} {}'.format(1, 'a') }} {{ '{1}{0}'.format('a', 'b') }} {{ '{x}'.format(x=5) }} {{ '{{}} {{x}}'.format() }} {{ 'a}}b'.format() }} {{ ''.format() }} {{ '{}'.format(none) }} {{ '{a}{}{b}'.format(3, a=1, b=[2]) }}",
    "{{ '{}'.format() }}", "{{ '{x}'.format(1) }}", "{{ '{'.format(1) }}", "{{ '}'.format(1) }}", "{{ 'a{0'.format(1) }}", "{{ '{1}'.format(1) }}", "{{ 'a}'.format() }}",
    "{{ 'a'.find() }}", "{{ 'a'.find(1) }}", "{{ 'a'.index('b') }}", "{{ 'a'.count() }}", "{{ 'a'.removeprefix(1) }}", "{{ 'a'.removesuffix() }}", "{{ 'a'.partition('') }}", "{{ 'a'.partition() }}", "{{ 'a'.partition(1) }}", "{{ 'a'.replace('a') }}", "{{ 'a'.replace() }}", "{{ 'a'.replace(1, 'b') }}", "{{ 'a'.replace('a', none) }}", "{{ 'a'.join() }}", "{{ 'a'.join(5) }}", "{{ 'a'.join([1]) }}", "{{ 'a'.join(['x', none]) }}", "{{ 'a'.startswith() }}", "{{ 'a'.startswith(1) }}", "{{ 'a'.endswith(none) }}", "{{ 'a'.strip(1) }}", "{{ 'a'.rsplit('', 1) }}", "{{ 'a'.lstrip([]) }}",
    "{{ '\u00e9a\u00e9'.lstrip('\u00e9') }} {{ '\u00e9a\u00e9b'.rstrip('b\u00e9') }} {{ 'o\\'neil_x y-z'.title() }} {{ '_a a_b'.title() }}",
    # lists and maps
    "{{ list.index(1) }} {{ list.count(1) }} {{ list.count(9) }} {{ nested.index([1, 2]) }} {{ [1, 1.0, yes].count(1) }} {{ [].count(none) }}", "{{ list.index(9) }}", "{{ list.index() }}", "{{ list.count() }}", "{{ map.get() }}", "{{ missing.index(1) }}", "{{ map.pop('k') }}",
    "{% for i in list %}{{ loop.cycle('a', 'b') }} {% endfor %}", "{% for i in list %}{{ loop.cycle() }}{% endfor %}", "{% for i in list %}{{ loop.nosuch() }}{% endfor %}", "{% for i in list %}{{ loop.nosuch }}{% endfor %}",
    "{% macro m(x) %}<{{ x }}>{% endmacro %}{% set ns = namespace(f=m) %}{{ ns.f(1) }}{{ {'g': m}.g(2) }} {{ [m][0](3) }}", "{% set ns = namespace(f=1) %}{{ ns.f(1) }}", "{% set ns = namespace(f=1) %}{{ ns.g(1) }}", "{% set ns = namespace(a=1) %}{{ ns.items() }}", "{{ map.k() }}", "{{ 5() }}", "{{ (1)(2) }}", "{{ 'a'() }}", "{{ list[0]() }}",
    "{{ namespace(1) }}", "{{ dict(1) }}", "{{ dict([1]) }}", "{{ dict(map).k }} {{ dict(map, k=2).k }} {% set ns = namespace(map, b=2) %}{{ ns.k }}{{ ns.b }}", "{{ range(big, big)|list }} {{ range(big, big + 9, 5)|list }}", "{{ raise_exception() }}", "{{ raise_exception(missing) }}", "{{ raise_exception(5) }}", "{{ raise_exception(message='m') }}",
    "{{ 'ab'[1:] * 2 }} {{ [1] + [2] }} {{ [] + [] }}", "{{ 'ab' * 1.5 }}", "{{ {} + {} }}", "{{ 'a' * 'b' }}",
    "{{ list['a'] }}", "{{ list[1.5] }} ", "{{ 'abc'[none] }}", "{{ map[0] }}|{{ map[none] }}|{{ map[list] }}", "{{ n[0] }}", "{{ f.x }}|{{ yes.y }}|{{ none.z }}", "{{ none[0] }}", "{{ map[1:] }}", "{{ 'abc'[1:none:none] }}",
    "{{ 1 in map }} {{ none in map }}", "{{ 1 in 'a' }}", "{{ 'a' in namespace(a=1) }}", "{{ 1 in missing }} {{ 'a' in missing }}", "{{ [missing]|length }} {{ missing in [missing] }}", "{{ -f }} {{ -yes }} {{ -(1 > 2) }}",
    # blocks
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}{{ m(1, 3, 4) }}{{ m(1, c=1) }}", "{% macro m(a, b=2) %}{{ a }}|{{ b }}{% endmacro %}{{ m() }} {{ m(b=1) }} {{ m(1, 2) }}", "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}in{% endcall %}", "{% macro m(a) %}{{ caller(a, 2) }}{% endmacro %}{% call(x, y) m(1) %}{{ x }}{{ y }}{% endcall %}", "{% macro m() %}x{% endmacro %}{% call m() %}in{% endcall %}", "{% call n %}x{% endcall %}", "{% call 5 %}x{% endcall %}", "{% call %}x{% endcall %}", "{% call( %}x{% endcall %}", "{% macro %}x{% endmacro %}", "{% macro m %}x{% endmacro %}", "{% macro m( %}x{% endmacro %}", "{% macro m(a=1, b) %}x{% endmacro %}", "{% macro m(a %}x{% endmacro %}", "{% macro m(1) %}x{% endmacro %}", "{% macro m(a=) %}x{% endmacro %}", "{% macro m() %}x", "{% macro m() %}{% break %}{% endmacro %}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(q=2) }}",
    "{% filter upper %}a{{ t }}{% endfilter %}", "{% filter trim|upper|replace('A', 'bcd') %} a {% endfilter %}", "{% filter %}x{% endfilter %}", "{% filter nosuch %}x{% endfilter %}", "{% filter upper %}x", "{% filter upper x %}y{% endfilter %}", "{% filter join %}ab{% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}[{{ a }}]", "{% with %}x{% endwith %}", "{% with a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{% endwith %}", "{% with a %}x{% endwith %}", "{% with a = %}x{% endwith %}", "{% with 1 = 2 %}x{% endwith %}", "{% with a = 1 b = 2 %}x{% endwith %}", "{% with a = 1 %}x",
    "{% raw %}{{ x }}{% if %}{% endraw %}", "a {%- raw -%} {{ x }} {%- endraw -%} b", "{% raw %}x", "{% raw x %}{% endraw %}", "{% raw %} {% endraw %}{% raw %}{%+ endraw %}", "{% raw %}{% endraw x %}{% endraw %}",
    "{% generation %}a{{ n }}{% endgeneration %}", "{% generation %}a", "{% generation x %}{% endgeneration %}",
    "{% set x = 'a' ~ 1 %}{% set x = x ~ 2 %}{{ x }}{% set y | upper %}a{{ x }}{% endset %}{{ y }}{% set ns = namespace() %}{% set ns.z %}q{% endset %}{{ ns.z }}{% set a, b %}q{% endset %}", "{% set x | nosuch %}a{% endset %}", "{% set x %}a", "{% set ns.x %}a{% endset %}", "{% set a, b = 'xy' %}{{ a }}{{ b }}", "{% set a, b, c = (1, 2) %}", "{% set a, b = map %}{{ a }}{{ b }}", "{% set a, b = none %}", "{% set a, b = missing %}",
    "{{ 'a' 'b' \"c\" }} {{ ('a' 'b')|upper }} {{ true }}{{ false }}{{ none }}{{ True }}{{ None }} {{ 1.5.x }}|{{ 1_0.5 }} {{ 1e+2 }} {{ 1E-2 }} {{ 0 }}", "{{ 1e }}", "{{ 1.e5 }}", "{{ '\\x4' }}", "{{ '\\u12' }}", "{{ '\\U00110000' }}", "{{ '\\xzz' }}",
    "{{ f(**map) }}", "{{ f(*list) }}", "{% macro m(a, b=0) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}", "{{ n is not }}", "{{ n is not 5 }}", "{{ 1 not 2 }}", "{{ (n is odd)(1) }}", "{{ n|upper()() }}", "{{ n is divisibleby(7) and n is odd or n is even }}", "{{ n is in [7] }} {{ n is sameas n }} {{ 1 if n is odd else 2 }}", "{{ [1, 2 for }}", "{{ {'a': 1, 'a': 2} }}", "{{ {'a': 1 'b': 2} }}", "{{ loop }}", "{{ a.b.c }}", "{{ a['b']['c'] }}", "{{ a() }}", "{{ n.x.y }}",
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
