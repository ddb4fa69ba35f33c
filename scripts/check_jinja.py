#!/usr/bin/env python3
"""Compares Lathe's template language with Jinja2 as transformers sets it up: hundreds of small templates.

    check_jinja.py [--lathe build/lathe] [--generated 400] [--seed 0] [--only TEXT]

Each template is rendered by transformers' own environment (ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks,
loop controls, generation blocks) and by `lathe render-chat`: the texts must be equal, or both must fail. Expressions are
written by hand (EXPRESSIONS) or put together at random from a fixed seed; statements (TEMPLATES) are by hand. What lays
out pages (PAGES) is not there: a template that uses it must fail and name it. What else is known to differ, and why, is
in DIFFERENCES; it must differ, so that the list stays true.
"""
import argparse, copy, json, pathlib, random, re, subprocess, sys, tempfile

# `m` in the templates.
DATA = {
    "s": "Hello, Wörld", "n": 3, "f": 2.5, "t": True, "none": None, "neg": -7, "empty": "", "zero": 0,
    "l": [3, 1, 2], "words": ["pear", "Apple", "fig", "apple"], "nested": [[1, 2], [3], []],
    "d": {"b": 1, "a": [1, {"x": None}], "items": "it", "C": 2.0},
    "users": [{"name": "Bob", "age": 3, "tags": ["x", "y"]}, {"name": "alice", "age": 1, "tags": []},
              {"name": "Carol", "age": 3}],
    "emoji": "a😀é", "lines": "a\nb\r\nc\n", "html": "<a href=\"x?a=1&b=2\">it's</a>", "spaces": "  a  b c ",
    "tree": [{"v": 1, "kids": [{"v": 2, "kids": []}, {"v": 3, "kids": [{"v": 4, "kids": []}]}]}],
}
# What templates are tried on, in a conversation of the right shape.
MESSAGES = [{"role": "user", "content": "", "data": DATA}]

EXPRESSIONS = r"""
7 / 2 ;; 7 // 2 ;; -7 // 2 ;; -7 % 3 ;; 7.5 // 2 ;; -7.5 // 2 ;; 7.5 % -2 ;; 2 ** 10 ;; 2 ** -1 ;; 2 ** 3 ** 2 ;;
-2 ** 2 ;; 2 ** 0.5 ;;
1 + true ;; true + true ;; 1_000 + 1 ;; 0x1F ;; 0b101 ;; 0o17 ;; 1e3 ;; 1.5e-7 ;; 1e16 ;; 123456789012345678 ;;
0.1 + 0.2 ;; 1e22 ;; 100000000000000000000.0 ;;
1 / 0 ;; 1 // 0 ;; 1 % 0 ;; 1.0 / 0 ;; 0 ** -1 ;; 'a' + 1 ;; 1 + 'a' ;; 'a' * 3 ;; 3 * 'ab' ;; [1] * 3 ;; 'a' * -1 ;;
[1] + [2] ;; (1,) + (2,) ;; [1] + (2,) ;;
'a' ~ 1 ~ none ~ 2.0 ~ true ;; 1 ~ 2 ~ 3 ;; none ~ none ;; m.nope ~ 'x' ;; 'a' 'b' "c" ;; 'a\tb' ;; 'a\x41\u00e9' ;;
'\U0001F600' ;; 'it\'s' ;; "say \"hi\"" ;;
1 < 2 < 3 ;; 1 < 3 < 2 ;; 1 == 1.0 == true ;; 1 != 2 != 1 ;; 'a' < 'b' ;; 'a' < 1 ;; [1, 2] < [1, 3] ;;
none == none ;; none < 1 ;; 1 in [1, 2] ;; 'a' in 'abc' ;; 1 in 'abc' ;; 'b' in m.d ;; 'z' not in m.d ;;
not 1 in [1] ;;
'x' if true ;; 'x' if false ;; 'x' if m.nope else 'y' ;; ('x' if false) is defined ;; (('x' if false) or 'z') ;;
'a' if false else 'b' if false else 'c' ;;
true and false or true ;; not true ;; not not 1 ;; 0 or '' or 'x' ;; 1 and 0 and 1 / 0 ;; none or m.nope ;;
(none or m.nope) is defined ;;
m.l[0] ;; m.l[-1] ;; m.l[5] ;; m.l[5] is defined ;; m.l[1:] ;; m.l[:-1] ;; m.l[::-1] ;; m.l[::2] ;; m.l[-100:100] ;;
m.l[2:0:-1] ;; m.s[1] ;; m.s[-1] ;; m.s[2:5] ;; m.s[::-1] ;; m.emoji[1] ;; m.emoji[1:] ;; m.s[::0] ;; m.l['a'] ;;
m.l[none] ;; m.d['b'] ;; m.d.b ;; m.d['items'] ;; m.d.nope ;; m.d['nope'] ;; m.d.nope.x ;; m.nope ;;
m.none.x ;; m.none['x'] ;; m.l.0 ;; m.s.0 ;; m.d[1, 2] ;; m.s[1.0] ;;
[1, 2.0, 'a', none, true, [], {}, ()] ;; {'a': 1, 'b': [2]} ;; (1,) ;; () ;; (1, 2) ;; {1: 2, none: 3, true: 4} ;;
{'a': {'b': {}}} ;; [m.nope] ;; "a'b" ;; ["a'b"] ;; ['a"b'] ;; ["a'\"b"] ;; ['é\n\u200b\x00'] ;;
[1e100, -0.0, 1e-7] ;; {(1, 2): 3} ;; {[1]: 2} ;;
m.d ;; m.users[0] ;; m.l ;; m.d.keys() ;; m.d.values() ;; m.d.items() ;; range(5) ;; range(1, 9, 2) ;; range(0) ;;
range(5, 0, -2) ;; range(10)[2:8:2] ;; range(10)[-1] ;; namespace(a=1) ;; m.d.keys() | list ;; m.none ;; m.t ;;
m.f ;;
m.s.upper() ;; m.s.lower() ;; m.s.title() ;; m.s.capitalize() ;; m.s.swapcase() ;; "they're bill's".title() ;;
'straße'.upper() ;; 'ΑΣ'.lower() ;; 'ΑΣ ΑΣΑ'.lower() ;; 'ß'.casefold() ;; 'İ'.lower() ;; 'ŉ'.upper() ;;
'ﬁ'.upper() ;; 'ǆ'.title() ;; 'éA'.capitalize() ;;
'xxaxx'.strip('x') ;; ' b '.strip() ~ '|' ;; ' b '.lstrip() ~ '|' ;; ' b '.rstrip() ~ '|' ;; 'abcba'.strip('ab') ;;
'a,b,c'.split(',') ;; 'a,b,c'.split(',', 1) ;; 'a,b,c'.rsplit(',', 1) ;; m.spaces.split() ;;
m.spaces.split(none, 1) ;; m.spaces.rsplit(none, 1) ;; ''.split() ;; ''.split(',') ;; 'a'.split('') ;;
'a b'.split(maxsplit=1) ;; 'a b c'.split(sep=' ', maxsplit=1) ;;
m.lines.splitlines() ;; m.lines.splitlines(true) ;; 'abc'.partition('b') ;; 'abc'.rpartition('x') ;;
'abc'.partition('x') ;; 'abc'.startswith('a') ;; 'abc'.startswith(('x', 'a')) ;; 'abc'.endswith('b', 0, 2) ;;
'abc'.startswith('b', 1) ;; 'abc'.startswith(['a']) ;; 'ééc'.find('c') ;; 'abc'.find('z') ;; 'abab'.rfind('b') ;;
'abc'.index('z') ;; 'abc'.index('c') ;; 'abab'.count('ab') ;; 'abc'.count('') ;; 'aaa'.count('a', 1) ;;
'aXbX'.replace('X', '-') ;; 'aXbX'.replace('X', '-', 1) ;; 'ab'.replace('', '.') ;; 'aa'.replace('a', 'b', -1) ;;
', '.join(['a', 'b']) ;; ', '.join([1]) ;; ', '.join(m.d) ;; '-'.join('abc') ;; '42'.zfill(5) ;; '-42'.zfill(5) ;;
'+'.zfill(3) ;; 'x'.center(4, '*') ;; 'x'.center(5, '*') ;; 'ab'.center(5) ;; 'x'.ljust(3, '.') ;;
'x'.rjust(3, '.') ;; 'a\tb'.expandtabs(4) ;; 'abc'.removeprefix('ab') ;; 'abc'.removesuffix('bc') ;;
'abc'.translate({97: 'x'}) ;; 'a'.encode() ;; 'abc'.isalpha() ;; '²'.isdigit() ;; '²'.isdecimal() ;;
'½'.isnumeric() ;; 'a1'.isalnum() ;; ' '.isspace() ;; ''.isspace() ;; 'a_1'.isidentifier() ;; '1a'.isidentifier() ;;
'Ab'.istitle() ;; 'ab'.islower() ;; 'AB'.isupper() ;; 'é'.isascii() ;; 'a\n'.isprintable() ;; 'ab'.isprintable() ;;
'{} {}'.format(1, 'a') ;; '{0} {1} {0}'.format(1, 2) ;; '{a}'.format(a=1) ;; '{a[b]}'.format(a={'b': 2}) ;;
'{0[1]}'.format([1, 2]) ;; '{:>5}|'.format('a') ;; '{:<5}|'.format('a') ;; '{:^5}|'.format('a') ;;
'{:*^5}'.format(1) ;; '{:05d}'.format(42) ;; '{:+d}'.format(42) ;; '{:,}'.format(1234567) ;;
'{:_}'.format(1234567) ;; '{:.2f}'.format(3.14159) ;; '{:.3}'.format(3.14159) ;; '{:e}'.format(12345.678) ;;
'{:g}'.format(0.00001) ;; '{:%}'.format(0.25) ;; '{:x}'.format(255) ;; '{:#x}'.format(255) ;; '{:b}'.format(5) ;;
'{:c}'.format(65) ;; '{:.2}'.format('abc') ;; '{!r}'.format('a') ;; '{!s:>4}'.format(1) ;; '{:{}}|'.format('a', 4) ;;
'{'.format() ;; '{}'.format() ;; '{a}'.format(b=1) ;; '{{}}'.format() ;; '{:d}'.format('a') ;; '{:d}'.format(1.5) ;;
'{:s}'.format(1) ;; '{:5}|'.format(true) ;; '{}'.format(none) ;; '{:5}'.format(none) ;; '{:.1f}'.format(2) ;;
'{:010.2f}'.format(-3.14159) ;; '{:,.2f}'.format(1234567.891) ;; '{:n}'.format(5) ;; 
'{a.__class__}'.format(a=1) ;;
'%s' % 'a' ;; '%s %s' % (1, 'b') ;; '%d' % 3.7 ;; '%5.1f|' % 2.25 ;; '%-5d|' % 3 ;; '%05d' % 3 ;; '%+d' % 3 ;;
'% d' % 3 ;; '%x' % 255 ;; '%#x' % 255 ;; '%o' % 8 ;; '%e' % 12345.0 ;; '%g' % 1e-5 ;; '%c' % 'a' ;; '%c' % 65 ;;
'%r' % 'a' ;; '%%' % () ;; '%s' % () ;; '%s' % (1, 2) ;; '%(a)s' % {'a': 1} ;; '%(b)s' % {'a': 1} ;; '%d' % 'a' ;;
'%s' % [1, 2] ;; '%s' % none ;; '%.2s' % 'abc' ;; '%*d' % (5, 3) ;; '%q' % 1 ;; '%s %s' % 1 ;; 'a' % 1 ;; 'a' % {} ;;
'%s' % {'a': 1} ;; '%5s|%-5s|' % ('a', 'b') ;; '%i' % 5 ;; '%.3d' % 5 ;; '%a' % 'é' ;;
m.d.get('b') ;; m.d.get('z') ;; m.d.get('z', 5) ;; m.d.get() ;; m.d.copy() ;; m.d.pop('b') ;; m.d.update({}) ;;
m.d.setdefault('x', 1) ;; m.l.append(1) ;; m.l.pop() ;; m.l.index(1) ;; m.l.index(9) ;; m.l.count(1) ;; m.l.copy() ;;
m.l.reverse() ;; (1, 2, 1).count(1) ;; (1, 2).index(2) ;; dict(a=1) ;; dict({'b': 2}, a=1) ;; dict([['a', 1]]) ;;
dict.fromkeys(['a', 'b']) ;; dict.fromkeys('ab', 0) ;; m.d.fromkeys('ab') ;;
m.s.__class__ ;; m.s['__class__'] ;; m.s | attr('upper') is defined ;; m.s | attr('__class__') ;; m.d | attr('b') ;;
m.users | map('attr', 'name') | list ;;
m.s | upper ;; m.s | lower ;; m.s | title ;; m.s | capitalize ;; "it's a test-case (x) [y] <z> {w}" | title ;;
1 | upper ;; none | upper ;; m.nope | upper ;; m.s | length ;; m.l | length ;; m.d | count ;; 5 | length ;;
none | length ;; m.nope | length ;;
m.l | first ;; m.l | last ;; [] | first ;; [] | last ;; '' | first ;; m.s | first ;; m.s | last ;; m.d | first ;;
m.d | last ;; m.l | map('string') | first ;; m.l | map('string') | last ;; 5 | first ;; m.nope | first ;;
m.l | sort ;; m.l | sort(reverse=true) ;; m.words | sort ;; m.words | sort(case_sensitive=true) ;;
m.users | sort(attribute='age') | map(attribute='name') | list ;;
m.users | sort(attribute='age,name') | map(attribute='name') | list ;; m.users | sort(attribute='tags') | list ;;
[1, 'a'] | sort ;; m.d | sort ;; 'bca' | sort ;; 5 | sort ;; m.l | sort(true) ;; [none, none] | sort ;;
[3, 1.5, true] | sort ;; [[2], [1]] | sort ;;
m.words | unique | list ;; m.words | unique(true) | list ;;
m.users | unique(attribute='age') | map(attribute='name') | list ;; [1, 1.0, true] | unique | list ;;
[[1]] | unique | list ;; [[1], [1]] | unique | list ;;
m.l | min ;; m.l | max ;; [] | min ;; m.words | min ;; m.words | max ;; m.words | max(case_sensitive=true) ;;
m.users | max(attribute='age') ;; m.users | min(attribute='name') ;; [1, 'a'] | max ;; m.l | sum ;; [] | sum ;;
m.l | sum(start=10) ;; m.users | sum(attribute='age') ;; ['a'] | sum ;; [[1], [2]] | sum(start=[]) ;;
[1.5, 2] | sum ;;
m.users | groupby('age') | list | length ;; m.users | groupby('age') | map('first') | list ;;
m.users | groupby('age') | map(attribute='grouper') | list ;;
m.users | groupby('age') | map(attribute='list') | map('length') | list ;; (m.users | groupby('age'))[0].grouper ;;
(m.users | groupby('age'))[0].list | length ;; m.users | groupby('nope') | list ;;
m.users | groupby('nope', default='z') | map('first') | list ;; m.words | groupby(0) | map('first') | list ;;
(m.users | groupby('age'))[0][1][0].name ;; m.users | groupby('age') | map(attribute='0') | list ;;
m.l | join ;; m.l | join(', ') ;; m.users | join('-', attribute='name') ;; m.s | join('.') ;; m.d | join(',') ;;
[] | join ;; [none, m.nope, 1] | join('|') ;; m.nope | join ;; 5 | join ;; m.l | join(d=' ') ;;
m.l | batch(2) | list ;; m.l | batch(2, '-') | list ;; range(7) | slice(3) | list ;;
range(7) | slice(3, 'x') | list ;; m.l | batch(0) | list ;; m.l | slice(0) | list ;; range(3) | batch(5) | list ;;
[] | batch(2) | list ;; [] | slice(2) | list ;; m.s | batch(5) | list ;;
m.nope | default('x') ;; '' | default('x') ;; '' | default('x', true) ;; none | default('x') ;; m.nope | d ;;
m.nope | default(1) ;; 0 | default(5, boolean=true) ;; m.nope.x | default('y') ;;
'42' | int ;; '42.7' | int ;; 'abc' | int ;; 'abc' | int(5) ;; 'ff' | int(0, 16) ;; '0x1F' | int(0, 16) ;;
'0b11' | int(0, 2) ;; ' 1_0 ' | int ;; 2.9 | int ;; -2.9 | int ;; none | int ;; true | int ;; [] | int ;; '' | int ;;
'١٢' | int ;; '1e3' | int ;; 'nan' | int ;; m.nope | int ;; '2.5' | float ;; 'x' | float ;; 'x' | float(1.5) ;;
none | float ;; 'inf' | float ;; 'nan' | float ;; '1_0.5' | float ;; 3 | float ;; true | float ;; '1e400' | float ;;
'-' | int ;; '1__0' | int ;;
2.5 | round ;; 3.5 | round ;; 2.675 | round(2) ;; 42.55 | round(1, 'floor') ;; 42.55 | round(1, 'ceil') ;;
42 | round ;; -2.5 | round ;; 1234.5 | round(-2) ;; 1234 | round(-2) ;; 'a' | round ;; 2.5 | round(0, 'x') ;;
1e300 | round(2) ;; true | round ;;
-5 | abs ;; 5.5 | abs ;; -5.5 | abs ;; (-5) | abs ;; 'a' | abs ;; true | abs ;; m.neg | abs ;;
'a' | replace('a', 'b') ;; 12321 | replace(2, 'x') ;; 'aaa' | replace('a', 'b', 2) ;; none | replace('o', '0') ;;
m.nope | replace('a', 'b') ;; 'aaa' | replace('', '-') ;; 'abc' | trim ;; '  abc ' | trim ;; 'xabcx' | trim('x') ;;
12 | trim ;; none | trim ;;
'foo bar baz qux' | truncate(9) ;; 'foo bar baz qux' | truncate(9, true) ;; 'foo bar baz qux' | truncate(11) ;;
'foo bar baz qux' | truncate(11, false, '...', 0) ;; 'foo bar' | truncate(5, true, '') ;;
'foobarbaz' | truncate(5) ;; 'abc' | truncate(2) ;; 'x' * 300 | truncate ;; m.nope | truncate ;;
'日本語日本語' | truncate(4, true, '…', 0) ;; m.l | truncate(2) ;; 'foo bar baz qux' | truncate(length=8, end='!') ;;
'abcdef' | truncate(2, leeway=0, end='....') ;;
'a\nb\n\nc' | indent ;; 'a\nb\n\nc' | indent(2) ;; 'a\nb\n\nc' | indent(2, true) ;;
'a\nb\n\nc' | indent(2, true, true) ;; 'a\nb' | indent('> ') ;; 'a\nb\n' | indent(width=3, first=true) ;;
'' | indent(2, true) ;; 5 | indent ;; 'a\r\nb' | indent(2) ;; '\na' | indent(2) ;;
'a b c' | wordcount ;; "it's é_x 日本" | wordcount ;; '' | wordcount ;; 5 | wordcount ;; m.html | wordcount ;;
m.s | reverse ;; m.l | reverse | list ;; 5 | reverse ;; m.d | reverse | list ;; m.l | list ;; m.s | list ;;
m.d | list ;; 5 | list ;; m.nope | list ;; m.none | list ;; m.d | dictsort ;; m.d | dictsort(true) ;;
m.users[0] | dictsort(by='value') ;; {'b': 1, 'A': 2} | dictsort(reverse=true) ;;
{'b': 1, 'a': 0} | dictsort(false, 'value') ;; {'a': 1} | dictsort(by='x') ;; m.l | dictsort ;;
{1: 2, 'a': 1} | dictsort ;;
m.d | items | list ;; m.nope | items | list ;; m.l | items | list ;; none | items | list ;; m.d | string ;;
m.l | string ;; none | string ;; 1.0 | string ;;
m.users | map(attribute='name') | list ;; m.users | map(attribute='tags.0') | list ;;
m.users | map(attribute='nope') | list ;; m.users | map(attribute='nope', default='z') | list ;;
m.words | map('upper') | list ;; m.words | map('replace', 'p', 'q') | list ;; m.words | map('length') | sum ;;
m.l | map | list ;; m.l | map('nope') | list ;; m.words | map('truncate', 2, true, '') | list ;;
m.users | map(attribute='age') | map('string') | join ;; m.nested | map('sum') | list ;;
m.nested | map(attribute=0) | list ;; m.l | map(attribute='x', nope=1) | list ;;
m.l | select | list ;; m.l | select('odd') | list ;; m.l | select('>', 1) | list ;; m.l | select('gt', 1) | list ;;
m.l | reject('odd') | list ;; m.l | reject | list ;;
m.users | selectattr('age', 'equalto', 3) | map(attribute='name') | list ;;
m.users | selectattr('tags') | map(attribute='name') | list ;;
m.users | selectattr('tags', 'defined') | map(attribute='name') | list ;;
m.users | rejectattr('age', '==', 3) | map(attribute='name') | list ;;
m.users | selectattr('age', 'in', [1]) | list | length ;; m.users | selectattr | list ;;
m.l | select('nope') | list ;; m.users | selectattr('name', 'string') | list | length ;; m.nope | select | list ;;
m.words | select('in', ['fig']) | list ;; m.words | select('startswith', 'a') | list ;;
m.html | e ;; m.html | escape ;; m.html | forceescape ;; m.html | e | e ;; m.html | safe ;; m.html | safe | e ;;
(m.html | e) ~ '<' ;; '<' ~ (m.html | e) ;; (m.html | e) + '<' ;; '<' + (m.html | e) ;; m.html | e | upper ;;
m.html | e | length ;; [m.html ;; e] ;; m.html | e | replace('a', '<') ;; ('<' | e) is escaped ;; '<' is escaped ;;
('<%s>' | safe) % '<' ;; ('{}' | safe).format('<') ;; ('a' | safe) * 2 ~ '<' ;; ['<', '>' ;; safe] | join ;;
['<', '>' ;; safe] | join('&') ;; ('<' | e).join(['<', 'a']) ;; '<b>x</b>' | safe | striptags ;;
('<' | e).upper() + '<' ;; ('a,<b' | safe).split(',') ;; ('<' | e | string) | e ;; ('<' | e)[0] ;;
('<' | e)[0] ~ '<' ;; ('<' | e) == '&lt;' ;; '&amp;' | safe | forceescape ;; 5 | e ;; none | e ;;
('<' | safe) | trim ~ '<' ;; ('<' | e) | tojson ;; ('<b>' | safe) | indent ;; ('a' | safe) | default('x') ~ '<' ;;
('<' | safe) | first ~ '<' ;; ('a' | e) in 'abc' ;; ('<' | e) | list ;;
'<b>a</b>  <!-- c -->b &amp; &lt;' | striptags ;; 'a < b > c' | striptags ;; '<p\n>x\n y</p>' | striptags ;;
'<!-- a --> b <!-- c' | striptags ;; '&eacute;&#233;&#xe9;&nope;&amp' | striptags ;; 5 | striptags ;;
'< b >' | striptags ;;
'a b/c?d=é&f' | urlencode ;; {'a b': 'c/d', 'é': 1} | urlencode ;; [('a', 1), ('b', 'x y')] | urlencode ;;
5 | urlencode ;; none | urlencode ;; '~-_.*' | urlencode ;; m.nope | urlencode ;; [1] | urlencode ;;
'' | urlencode ;;
{'a': 1, 'b': none, 'c': '<"'} | xmlattr ;; {'a': 1} | xmlattr(false) ;; {} | xmlattr ;; {'a b': 1} | xmlattr ;;
{'a': m.nope, 'b': ''} | xmlattr ;; [1] | xmlattr ;; {'a>': 1} | xmlattr ;; {'a': '<' ;; safe} | xmlattr ;;
1 | filesizeformat ;; 0 | filesizeformat ;; 999 | filesizeformat ;; 1000 | filesizeformat ;;
1024 | filesizeformat(true) ;; 123456789 | filesizeformat ;; 1e30 | filesizeformat ;; '1500' | filesizeformat ;;
'x' | filesizeformat ;; -5 | filesizeformat ;; 1.5 | filesizeformat ;; 1048575 | filesizeformat(binary=true) ;;
true | filesizeformat ;;
'The quick brown fox jumps' | wordwrap(10) ;; 'aaaaaaaaaaaaaaa bb' | wordwrap(5) ;;
'aaaaaaaaaa bb' | wordwrap(5, false) ;; 'well-known-thing' | wordwrap(6) ;;
'well-known-thing' | wordwrap(6, true, none, false) ;; 'a b c d' | wordwrap(3, wrapstring='|') ;;
'a\n\nb c' | wordwrap(1) ;; '' | wordwrap(5) ;; '   a   b' | wordwrap(4) ;; 'a' | wordwrap(0) ;; 'x y' | wordwrap ;;
'ab--cd e-mail co-op x-1 -a a- -- ---' | wordwrap(4) ;; 'hello, world! foo.' | wordwrap(7) ;;
'a  b  ' | wordwrap(3) ;; 'é日本語 x' | wordwrap(3) ;; 'a\tb c' | wordwrap(3) ;; "don't-stop it's" | wordwrap(5) ;;
5 | wordwrap(5) ;; 'abc-def-123-x' | wordwrap(5) ;;
'x http://example.com/a?b=c, y' | urlize ;; '(www.example.com)' | urlize ;; 'me@example.com' | urlize ;;
'mailto:me@example.com.' | urlize ;; 'https://example.com/long/path' | urlize(10) ;; 'example.org' | urlize ;;
'http://example.com' | urlize(nofollow=true, target='_blank') ;; 'http://a.com' | urlize(rel='x') ;;
'ftp://a.com' | urlize ;; 'ftp://a.com x' | urlize(extra_schemes=['ftp:']) ;; '<http://example.com>' | urlize ;;
'no links' | urlize ;; 'http://example.com/(a)' | urlize ;;
'localhost http://localhost/x http://localhost' | urlize ;; 'http://1.2.3.4:80/x https://[::1]/' | urlize ;;
'foo.com foo.net/x foo.xyz @a@b a@b' | urlize ;; '' | urlize ;; 5 | urlize ;; 'a@b.c:d' | urlize ;;
"http://é.com/ü 'http://a.org'" | urlize ;; 'WWW.EXAMPLE.COM HTTP://x.org' | urlize ;;
'http://example.com).,' | urlize ;; '&lt;http://e.com&gt;' | urlize ;;
'xn--a.com www.xn--abc http://xn--p1ai.xn--p1ai/' | urlize ;;
'http://example.com x' | urlize(extra_schemes=['bad']) ;; 'www.a.museum a-b.org -a.org' | urlize ;;
m.l | pprint ;; m.d | pprint ;; m.s | pprint ;; m.tree | pprint ;; m.users | pprint ;; range(40) | list | pprint ;;
none | pprint ;; ('word ' * 30) | pprint ;; {'k' * 30: 'v' * 30, 'l' * 30: 'w' * 30} | pprint ;;
[1.0, true] | pprint ;; (1, 2) | pprint ;; ['x' * 50, 'y' * 50] | pprint ;; {'b': 1, 'a': 2} | pprint ;;
[] | pprint ;; {} | pprint ;; [['a' * 40], ['b' * 40, 'c' * 40]] | pprint ;; ('a' * 60, 'b' * 60) | pprint ;;
('a' * 90,) | pprint ;; {'a': [1, 2, 3] * 20} | pprint ;; 'a\nb' * 30 | pprint ;;
['line one\nline two ' * 5] | pprint ;;
'%s, %s!' | format('a', 'b') ;; '%(x)s' | format(x=1) ;; '%s' | format ;; '%s' | format(1, x=2) ;; 5 | format(1) ;;
'%d' | format('x') ;;
m.d | tojson ;; m.emoji | tojson ;; m.emoji | tojson(ensure_ascii=true) ;; [1.0, 1e22, true, none] | tojson ;;
m.d | tojson(indent=2) ;; m.d | tojson(indent=0) ;; m.d | tojson(sort_keys=true) ;;
m.l | tojson(separators=(',', ':')) ;; m.d | tojson(indent='\t') ;; '<>&\'"/\\\x7f\u2028' | tojson ;;
{1: 2, none: 3, true: 4, 1.5: 5} | tojson ;; m.nope | tojson ;; (1, 2) | tojson ;; range(3) | tojson ;;
m.l | map('string') | tojson ;; {'a': {}} | tojson(indent=2) ;; [] | tojson(indent=2) ;; 'nan' | float | tojson ;;
'inf' | float | tojson ;; {(1, 2): 3} | tojson ;; m.d | tojson(2) ;; m.d | tojson(none, 2) ;;
namespace(a=1) | tojson ;; -0.0 | tojson ;; {'b': 1, 1: 2} | tojson(sort_keys=true) ;;
1 is number ;; true is number ;; 'a' is string ;; none is none ;; m.nope is undefined ;; m.nope is defined ;;
m.d is mapping ;; m.l is sequence ;; m.s is sequence ;; m.d is sequence ;; 5 is sequence ;;
m.d.items() is sequence ;; m.l is iterable ;; 5 is iterable ;; m.s is iterable ;; m.nope is iterable ;;
none is iterable ;; m.s.upper is callable ;; m.s is callable ;; 3 is odd ;; 3 is even ;; 2.5 is odd ;; 'a' is odd ;;
9 is divisibleby 3 ;; 9 is divisibleby(2) ;; 9 is divisibleby 0 ;; 1 is integer ;; true is integer ;; 1.0 is float ;;
1 is float ;; true is boolean ;; 1 is boolean ;; true is true ;; 1 is true ;; false is false ;; 0 is false ;;
'a' is lower ;; 'A' is upper ;; '1' is lower ;; 1 is upper ;; 1 is eq 1 ;; 1 is equalto 1 ;; 1 is ne 2 ;;
1 is lt 2 ;; 1 is lessthan 2 ;; 2 is gt 1 ;; 2 is greaterthan 1 ;; 1 is le 1 ;; 1 is ge 1 ;; 1 is in [1] ;;
1 is in 5 ;; none is sameas none ;; true is sameas true ;; 1 is sameas 1 ;; 1 is sameas true ;; m.l is sameas m.l ;;
'upper' is filter ;; 'nope' is filter ;; 'odd' is test ;; 'nope' is test ;; 1 is not odd ;; not 1 is odd ;;
1 is odd and 2 is even ;; 1 is nope ;; 'a' is in 'abc' ;; 1 is number is true ;; 'a' is string == true ;;
3 is odd ~ 'x' ;; [] is in [[]] ;; m.nope is none ;; m.nope is string ;; m.nope is mapping ;; range(3) is sequence ;;
(1,) is sequence ;; namespace() is mapping ;; m.l is mapping ;; 1 is ==(1) ;; 1.0 is divisibleby 1 ;;
range(3) | list ;; range(1, 2, 0) ;; range('a') ;; range(100001) ;; range(100000) | length ;; range(-5) | list ;;
range(2.0) ;; cycler('a', 'b').next() ;; cycler().next() ;; joiner(',')() ;; namespace(a=1).a ;;
namespace({'a': 1}, b=2).b ;; namespace(a=1).b ;; namespace(_a=1) ;; namespace(__class__=1) ;; dict(a=1).a ;;
lipsum(0) ;; lipsum is defined ;; range is callable ;; raise_exception('x') ;; raise_exception() ;;
strftime_now is callable | nope() ;; m.s() ;; 5() ;; m.nope() ;; self is defined ;; caller is defined ;;
loop is defined ;; varargs is defined ;; environment is defined ;;
loop.index ;; m.users[0]['name'].upper()[::-1] ;; (m.l | sort)[0] ;; m.l | sort | first ;; (1, 2, 3)[1:] ;;
[1, 2, 3][-2:][0] ;; {'a': [1, {'b': 2}]}['a'][1].b ;; -m.n ;; +m.n ;; -m.f ;; -'a' ;; +none ;; - -3 ;; 1 - -1 ;;
-3 | abs ;; -(3 | abs) ;; 2 + 3 * 4 - 1 ;; (2 + 3) * 4 ;; 10 - 2 - 3 ;; 2 * 3 % 4 ;; 1 + 2 ~ 3 + 4 ;;
'a' ~ 'b' * 2 ;; not 1 == 2 ;; 1 if 1 else 2 ~ 3 ;; m.n == 3 and m.f > 2 ;; 'a' in 'abc' == true ;;
m.l | length > 2 ;; m.l | length * 2 ;; 1, 2 ;; (1, 2), 3 ;; m.l.__len__() ;; m.users | length == 3 and 'y' or 'n' ;;
[x for x in m.l] ;; {} | length ;; 1 if ;; if 1 ;; 'a ;; 'a' | nope ;; 'a' | upper() ;; 'a' | upper(1) ;;
'a' | replace ;; 'a' | replace('a') ;; 'a'.upper(1) ;; 'a'.nope() ;; m..s ;; m.s. ;; .5 ;; 5. ;; 1.e5 ;; 1__0 ;;
0x ;; 01 ;; 1a ;; @ ;; $ ;; ? ;; a ? b : c ;; a && b ;; !a ;; a = 1 ;; {{ 1 }} ;; lambda: 1 ;; 1; 2 ;;
'\N{DIGIT ONE}' ;; '\q' ;; '\8' ;; '\xZZ' ;; "\u12" ;; 'é' ;; é ;; 日本 ;; _x ;; __x__ ;; m.s.__len__ ;; true.x ;;
True ;; TRUE ;; None ;; none.x ;; nil ;; 9223372036854775807 ;; 2 ** 64 ;; 9223372036854775807 + 1 ;; none[1:] ;; m.d.keys() - ['b'] ;; -9223372036854775808 ;; 'a'|upper|lower ;;
('a', 'b')|join ;; m.d|length|string|length ;; [1,2,] ;; {'a':1,} ;; (1,2,) ;; [,] ;; {,} ;; f(x=1, 2) ;;
dict(a=1, a=2) ;; dict(*[[['a', 1]]], **{'b': 2}) ;; range(*[1, 3]) | list ;; dict(**{'a': 1}) ;; dict(**5) ;;
range(*5) ;; '%s' % m.nope ;; m.nope + 1 ;; m.nope == 1 ;; m.nope < 1 ;; m.nope in [1] ;; 1 in m.nope ;; m.nope[0] ;;
m.nope | string ;; [m.nope] | list ;; m.nope and 1 ;; not m.nope ;; m.nope is true ;; -m.nope ;; m.nope * 2 ;;
"""

TEMPLATES = [
    "{% for x in m.l %}{{ x }}{% endfor %}",
    "{% for x in m.l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}",
    "{% for x in [] %}a{% else %}none{% endfor %}", "{% for x in m.nope %}a{% else %}none{% endfor %}",
    "{% for x in none %}a{% endfor %}", "{% for x in 5 %}a{% endfor %}",
    "{% for x in m.l if x > 1 %}{{ x }}{{ loop.length }}{% endfor %}",
    "{% for x in m.l if x > 9 %}a{% else %}none{% endfor %}",
    "{% for k, v in m.d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in m.d | dictsort %}{{ k }};{% endfor %}", "{% for k in m.d %}{{ k }}{% endfor %}",
    "{% for a, b in [[1, 2], [3]] %}{{ a }}{% endfor %}",
    "{% for (a, b), c in [[[1, 2], 3]] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for x in m.l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in m.l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% break %}", "{% continue %}",
    "{% for x in m.l recursive %}{{ x }}{% endfor %}",
    "{% for n in m.tree recursive %}{{ n.v }}{{ loop.depth }}[{{ loop(n.kids) }}]{% endfor %}",
    "{% for n in m.tree %}{{ loop(n.kids) }}{% endfor %}",
    "{% for x in [1, 1, 2, 2, 1] %}{% if loop.changed(x) %}{{ x }}{% endif %}{% endfor %}",
    "{% for x in m.l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in m.l %}{{ loop.cycle() }}{% endfor %}",
    "{% for x in m.l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{% endfor %}",
    "{% for x in m.l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }};{% endfor %}",
    "{% for x in m.l %}{% set y = x %}{% endfor %}{{ y is defined }}",
    "{% set y = 1 %}{% for x in m.l %}{% set y = x %}{% endfor %}{{ y }}",
    "{% set ns = namespace(y=1) %}{% for x in m.l %}{% set ns.y = x %}{% endfor %}{{ ns.y }}",
    "{% set ns = {'y': 1} %}{% set ns.y = 2 %}", "{% set ns = namespace() %}{% set ns._x = 2 %}",
    "{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a, b = [1, 2, 3] %}", "{% set a = 1, 2 %}{{ a }}", "{% set a, = [5] %}{{ a }}",
    "{% set (a, b) = (1, 2) %}{{ b }}", "{% set a %}x{{ 1 }}{% endset %}{{ a }}{{ a | length }}",
    "{% set a | upper %}x{% endset %}{{ a }}", "{% set a | upper | replace('X', 'y') %}x{% endset %}{{ a }}",
    "{% set a %}<{% endset %}{{ a | e }}", "{% set true = 1 %}", "{% set 1 = 2 %}", "{% set a.b.c = 1 %}",
    "{% set a[0] = 1 %}", "{% set a = 1 if false %}{{ a is defined }}", "{% set loop = 1 %}{{ loop }}",
    "{% if 1 %}a{% elif 2 %}b{% else %}c{% endif %}", "{% if 0 %}a{% elif 0 %}b{% else %}c{% endif %}",
    "{% if m.nope %}a{% endif %}", "{% if m.nope.x %}a{% endif %}", "{% if 1 %}{% set a = 2 %}{% endif %}{{ a }}",
    "{% if 1 %}", "{% endif %}", "{% if 1 %}{% endfor %}", "{% else %}", "{% if %}{% endif %}",
    "{% if 1, 2 %}a{% endif %}", "{% elif 1 %}", "{% if 1 %}{% else %}{% elif 1 %}{% endif %}",
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=4, a=5) }}{{ f() }}",
    "{% macro f(a, b=a) %}{{ b }}{% endmacro %}{{ f(1) }}", "{% macro f(a=1, b) %}{% endmacro %}",
    "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{% endmacro %}{{ f(b=2) }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}",
    "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}x{% endcall %}",
    "{% macro f() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) f() %}{{ a }}-{{ b }}{% endcall %}",
    "{% macro f() %}x{% endmacro %}{% call f() %}y{% endcall %}", "{% call m.s.upper() %}y{% endcall %}",
    "{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}",
    "{% macro f(x) %}{% if x > 0 %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro f() %}a{% endmacro %}{{ f }}",
    "{% macro f(a, b=1) %}{{ f.name }}{{ f.arguments }}{{ f.catch_kwargs }}{{ f.catch_varargs }}{{ f.caller }}{% endmacro %}{{ f(1) }}",
    "{{ f() }}{% macro f() %}a{% endmacro %}", "{% if 1 %}{% macro f() %}a{% endmacro %}{% endif %}{{ f() }}",
    "{% for x in [1] %}{% macro f() %}{{ x }}{% endmacro %}{{ f() }}{% endfor %}",
    "{% macro f() %}<{% endmacro %}{{ f() | e }}",
    "{% macro f() %}{{ m.n }}{{ y }}{% endmacro %}{% set y = 2 %}{{ f() }}",
    "{% macro f(x) %}{{ x | default('d') }}{{ x is defined }}{% endmacro %}{{ f() }}",
    "{% macro f(caller) %}{{ caller }}{% endmacro %}{{ f(1) }}", "{% macro f(a, a) %}{% endmacro %}",
    "{% macro 1f() %}{% endmacro %}", "{% filter upper %}a{{ 'b' }}{% endfilter %}",
    "{% filter replace('a', 'b') | upper %}aa{% endfilter %}", "{% filter nope %}{% endfilter %}",
    "{% filter e %}<{% endfilter %}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{% with %}{% set x = 1 %}{{ x }}{% endwith %}{{ x is defined }}",
    "{% set a = 1 %}{% with a = 2, b = a %}{{ b }}{% endwith %}", "{% with a, b = [1, 2] %}{{ a }}{% endwith %}",
    "{% generation %}x{{ m.n }}{% endgeneration %}",
    "{% generation %}{% set g = 1 %}{% endgeneration %}{{ g is defined }}",
    "{% for x in m.l %}{% generation %}{{ x }}{{ loop.index }}{% endgeneration %}{% endfor %}",
    "{% raw %}{{ x }}{% endraw %}", "{% raw %}{% if %}{% endraw %}", "{%- raw -%} {{ x }} {%- endraw -%} y",
    "{% raw %}", "a {%- raw %} b {% endraw -%} c", "{% raw %}\n x\n{% endraw %}\ny", "{# c #}a{# {{ #}", "{# c",
    "a {#- c -#} b", "a\n  {# c #}\nb", "a {# c #} b", "{# a #}{# b #}x", "{#+ c +#}x", "{{ 1 }}\n{{ 2 }}\n",
    "{% if 1 %}\na\n{% endif %}\nb\n", "  {% if 1 %}\n  a\n  {% endif %}\n", "x  {% if 1 %}a{% endif %}  y",
    "  {%+ if 1 %}a{% endif %}", "{% if 1 +%}\na{% endif %}", "{% if 1 -%}\n  a  \n{%- endif %}",
    "a \n {{- 1 -}} \n b", "a\n\n", "a\r\nb\rc\r\n", "\n\na", "  {{ 1 }}", "\t{% set a = 1 %}\n\tb",
    "{% set a = 1 %}\n\n\nb", "{% set a = 1 -%}\n\n\nb", "{%- set a = 1 %} b", "  {%- if 1 %} a {%- endif %} ",
    "x{{ 1 -}}\n y", "{{- 1 }}", "{{ 1 -}}", "{{-1}}", "{{ -1 }}", "{{- -1 -}}", "{{ '}}' }}", "{{ '%}' }}",
    "{{ {'a': {'b': 1}} }}", "{{ {'a': 1}}}", "{{ {} }}", "{{ }}", "{{ ", "{{ 1", "{% ", "{% if", "}}", "%}", "#}",
    "{ {", "{", "{}", "{{{}}}", "{{{'a': 1}.a}}", "{{ [1, 2] [0] }}", "{{ (1 }}", "{{ 1) }}", "{{ [1 }}", "{{ {1: }}",
    "{%%}", "{% nope %}", "{% do m.l.append(1) %}", "{% do 1 %}", "{% include 'x' %}", "{% import 'x' as y %}",
    "{% from 'x' import y %}", "{% extends 'x' %}", "{% include 'x' ignore missing %}a", "{% trans %}a{% endtrans %}",
    "{% autoescape true %}{{ '<' }}{% endautoescape %}", "{% autoescape false %}{{ '<' }}{% endautoescape %}",
    "{% debug %}", "{% block a %}x{% endblock %}", "{% block a %}x{% endblock a %}",
    "{% block a %}{{ m.n }}{% endblock %}", "{% set z = 5 %}{% block a %}{{ z }}{% endblock %}",
    "{% for x in [1] %}{% block a %}{{ x }}{% endblock %}{% endfor %}",
    "{% block a %}{% endblock %}{% block a %}{% endblock %}", "{% block a scoped %}x{% endblock %}",
    "{% block a %}x{% endblock %}{{ self.a() }}", "{% block a required %}{% endblock %}",
    "# for x in m.l\nx\n# endfor", "## comment\nx", "-- x", "{% for x in m.l -%} {{ x }} {%- endfor %}",
    "{% for x in m.l %}\n{{ x }}\n{% endfor %}\n", "{% for x in m.l: %}{% endfor %}",
    "{% for x, in [[1]] %}{{ x }}{% endfor %}", "{% for loop in m.l %}{% endfor %}",
    "{% for m.x in m.l %}{% endfor %}", "{% for x in m.l, %}{{ x }}{% endfor %}",
    "{% for x in 1, 2 %}{{ x }}{% endfor %}",
    "{% for x in m.l %}{% for y in m.l %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% for x in m.l %}{% set outer = loop %}{% for y in [1] %}{{ outer.index }}{% endfor %}{% endfor %}",
    "{% for x in m.l %}{{ loop }}{% endfor %}",
    "{% for x in m.users | map(attribute='name') %}{{ loop.last }}{{ loop.length }}{% endfor %}",
    "{% set g = m.l | map('string') %}{{ g | list }}{{ g | list }}", "{% for x in m.s %}{{ x }}.{% endfor %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}",
    "{% set j = joiner('|') %}{% for x in m.l %}{{ j() }}{{ x }}{% endfor %}",
    "{% set x = 1 %}{% set x = x + 1 %}{{ x }}",
    "{% macro f() %}{% set x = 5 %}{% endmacro %}{{ f() }}{{ x is defined }}", "{% set f = m.s.upper %}{{ f() }}",
    "{% set x = range %}{{ x(3) | list }}", "{{ m.l.append(4) }}", "{% set l = [] %}{{ l.append(1) }}",
    "{% set l = [1] %}{% set l = l + [2] %}{{ l }}", "{{ raise_exception('boom') }}",
    "{% if true %}{{ raise_exception('a' ~ 1) }}{% endif %}", "{{ ''.__class__.__mro__ }}",
    "{{ m.s.format.__globals__ }}", "{{ (1).__class__ }}",
    "{% for x in m.l %}{% if loop.index is divisibleby 2 %}{{ x }}{% endif %}{% endfor %}",
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}",
    "{% macro outer() %}{% macro inner() %}I{% endmacro %}{{ inner() }}{% endmacro %}{{ outer() }}",
    "{% macro f(x) %}{{ caller(x) if caller else 'no' }}{% endmacro %}{{ f(1) }}{% call(y) f(2) %}{{ y }}!{% endcall %}",
    "{% set x %}{% for i in m.l %}{{ i }}{% endfor %}{% endset %}[{{ x }}]", "{% set x %}\n  a\n{% endset %}[{{ x }}]",
    "{% if m.s is string and m.s | length > 3 %}y{% endif %}", "{% if not m.nope is defined %}y{% endif %}",
    "{% if m.l is not none and m.l[0] == 3 %}y{% endif %}",
    "{% for x in range(3) %}{{ x }}{{ ', ' if not loop.last }}{% endfor %}",
    "{% for x in m.l | sort(reverse=true) %}{{ x }}{% else %}e{% endfor %}",
    "{% for u in m.users | selectattr('tags', 'defined') | rejectattr('tags') %}{{ u.name }}{% endfor %}",
    "{% for age, us in m.users | groupby('age') %}{{ age }}:{{ us | map(attribute='name') | join(',') }};{% endfor %}",
    "{% for row in range(7) | batch(3, 'x') %}{{ row | join }};{% endfor %}",
    "{% for x in m.l if loop.index > 1 %}{% endfor %}",
    "{% for x in m.l if x in m.l[:2] %}{{ x }}{{ loop.last }}{% endfor %}", "{{ m.l | length }}{% set m = 5 %}{{ m }}",
    "{% set x = 5 %}{% macro f(x) %}{{ x }}{% endmacro %}{{ f(1) }}{{ x }}",
    "{% set ns = namespace(l=[]) %}{% for x in m.l %}{% set ns.l = ns.l + [x * 2] %}{% endfor %}{{ ns.l }}",
    "{%- for x in m.l -%}\n{{- x -}}\n{%- endfor -%}\n", "{%if 1%}a{%endif%}", "{%  if   1  %}a{%  endif  %}",
    "{%\nif 1\n%}a{%\nendif\n%}", "{{\n1\n}}", "{{ m\n.\nn }}", "{{ m.s|upper|lower|title }}",
    "{% set a = {\n'x': 1,\n'y': [1,\n2]\n} %}{{ a }}", "{{ 'a\nb' }}", "{{ 'a\\\nb' }}",
    "{% for x in m.l %}{% if x == 3 %}{% continue %}{% elif x == 2 %}{% break %}{% endif %}{{ x }}{% else %}E{% endfor %}",
    "{% for x in m.l %}{% set _ = x %}{% endfor %}{{ _ is defined }}",
    "{% set x = namespace(a=namespace(b=1)) %}{{ x.a.b }}",
    "{% set x = namespace(a=1) %}{% set x.a = x.a + 1 %}{{ x.a }}{{ x['a'] }}", "{% macro f(**kw) %}{% endmacro %}",
    "{% macro f(*a) %}{% endmacro %}", "{{ dict(a=1, **{'b': 2}) }}", "{{ range(*[0, 3]) | list }}",
    "{% call f %}{% endcall %}", "{% print 1 %}", "{% print 1, 2 %}",
]

# What lays out pages, and is refused by name: no published template uses it. Filters, methods of str, and others.
PAGES = {
    r"\|\s*{}\b|map\(\s*'{}'": ["batch", "center", "e", "escape", "filesizeformat", "forceescape", "groupby", "pprint", "slice",
                             "striptags", "truncate", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr"],
    r"\.{}\(": ["center", "expandtabs", "isidentifier", "isprintable", "istitle", "ljust", "rjust", "swapcase", "translate",
               "zfill"],
    r"\b{}\(": ["cycler", "loop.cycle", "loop.changed"],
    r"filter {}\b": ["e"],
}

# What differs, and why: nothing here is used by a published template.
DIFFERENCES = {
    "{{ 'ŉ'.upper() }}": "of Unicode's SpecialCasing.txt only what unicode.h names is mapped",
    "{{ 'a'.encode() }}": "there are no bytes",
    "{{ '١٢' | int }}": "digits are ASCII",
    "{{ lipsum(0) }}": "there is no random text",
    "{{ lipsum is defined }}": "the same",
    "{{ self is defined }}": "blocks are not called",
    "{% block a %}x{% endblock %}{{ self.a() }}": "the same",
    r"{{ '\N{DIGIT ONE}' }}": "an error that says so",
    "{{ -9223372036854775808 }}": "integers have 64 bits; what grows beyond is an error",
    "{{ 2 ** 64 }}": "the same",
    "{{ 9223372036854775807 + 1 }}": "the same",
    "{{ m.d.keys() - ['b'] }}": "there are no sets",
    "{{ none[1:] }}": "the reference folds constants, and what fails then is undefined",
    "{% autoescape true %}{{ '<' }}{% endautoescape %}": "prompts are not HTML",
    "{{ ('<%s>' | safe) % '<' }}": "the same: nothing is escaped",
    "{{ ('{}' | safe).format('<') }}": "the same",
    "{{ ('a,<b' | safe).split(',') }}": "the same",
}

PIECES = {
    "text": ["m.s", "m.emoji", "m.empty", "'a b'", "'<b>'", "'x,y'", "m.words[1]", "m.lines", "'42'", "'%s'", "m.html"],
    "number": ["m.n", "m.f", "m.neg", "0", "2", "10", "1.5", "true", "m.zero", "-1"],
    "list": ["m.l", "m.words", "m.nested", "[]", "[1, 'a', none]", "range(4)", "m.users", "(1, 2)", "m.emoji",
             "(m.d.keys() | list)"],
    "any": ["m.d", "none", "m.nope", "m.users[0]", "m.none", "{'k': [1]}"],
}
FILTERS = [
    "upper", "lower", "title", "capitalize", "trim", "length", "first", "last", "list", "sort", "unique | list",
    "join", "join(', ')", "string", "int", "float", "abs", "round", "round(1)", "tojson", "e", "reverse",
    "reverse | list", "default('z')", "default('z', true)", "max", "min", "sum", "replace('a', 'Q')",
    "batch(2) | list", "slice(2) | list", "indent(2)", "truncate(4, true, '..', 0)", "wordcount",
    "map('string') | list", "select | list", "reject('none') | list", "map('upper') | list", "items | list",
    "dictsort", "safe", "striptags", "urlencode", "center(9)", "pprint", "wordwrap(4)", "count", "forceescape",
]
METHODS = [
    "upper()", "strip()", "split()", "split(',')", "splitlines()", "title()", "find('a')", "replace('l', 'L')",
    "startswith('H')", "zfill(6)", "swapcase()", "isalpha()", "partition(' ')", "keys() | list", "get('b')",
    "index(1)", "count(1)", "rsplit(none, 1)", "center(7, '-')", "format(1)", "join(['a', 'b'])", "capitalize()",
    "rstrip('d')",
]
OPERATORS = [
    "+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", "and", "or", "in", "not in",
]
TESTS = [
    "defined", "none", "string", "number", "mapping", "sequence", "iterable", "odd", "even", "boolean", "integer",
    "in m.l", "divisibleby 2", "eq 3", "gt 1", "lower", "sameas none", "true",
]


def generate(rng, depth):
    kind = rng.choice(["text", "number", "list", "any"])
    if depth == 0:
        return rng.choice(PIECES[kind])
    inner = generate(rng, depth - 1)
    match rng.randrange(9):
        case 0 | 1:
            return f"({inner}) | {rng.choice(FILTERS)}"
        case 2:
            return f"({inner}).{rng.choice(METHODS)}"
        case 3 | 4:
            return f"({inner}) {rng.choice(OPERATORS)} ({generate(rng, depth - 1)})"
        case 5:
            return f"({inner}) is {rng.choice(['', 'not '])}{rng.choice(TESTS)}"
        case 6:
            bounds = [str(rng.choice(["", "", 0, 1, -1, 2, 5])) for _ in range(rng.choice([2, 3]))]
            sliced = rng.choice(["m.s", "m.l", "m.emoji", "m.words", f"(m.s ~ {inner})"])  # constants: see DIFFERENCES
            return f"{sliced}[{':'.join(bounds)}]" if rng.random() < 0.6 else f"({inner})[{rng.choice([0, -1, 7])}]"
        case 7:
            return f"({inner}) if ({generate(rng, depth - 1)}) else ({generate(rng, depth - 1)})"
        case _:
            forms = f"[{inner}, {generate(rng, depth - 1)}]", f"{{'k': {inner}}}", f"({inner},)", f"-({inner})", f"not ({inner})"
            return rng.choice(forms)


def is_refused(template, error):
    """Whether an error names something of PAGES that the template uses."""
    return any(re.search(form.replace("{}", re.escape(name)), template) and f"'{name}' is not supported" in (error or "")
               for form, names in PAGES.items() for name in names)


def by_hand():
    return [expression.strip() for expression in EXPRESSIONS.split(";;") if expression.strip()]


class Lathe:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        (folder / "messages.json").write_text(json.dumps(MESSAGES))

    def render(self, template):
        (self.folder / "t.jinja").write_bytes(template.encode())
        result = subprocess.run([self.program, "render-chat", "--template", self.folder / "t.jinja", "--messages",
                                 self.folder / "messages.json"], capture_output=True, timeout=20)
        if result.returncode not in (0, 1):
            return f"exit code {result.returncode}", None
        return (result.stdout.decode(), None) if result.returncode == 0 else (None, result.stderr.decode().strip())


class Reference:
    def __init__(self):
        from transformers.utils.chat_template_utils import _compile_jinja_template
        self.compile = _compile_jinja_template

    def render(self, template):
        try:
            return self.compile(template).render(messages=copy.deepcopy(MESSAGES), tools=None, documents=None,
                                                 add_generation_prompt=True), None  # a copy: some filters change lists
        except RecursionError:
            raise
        except Exception as error:  # whatever a template can raise
            return None, f"{type(error).__name__}: {error}"


def compare(templates, lathe, reference, packed):
    """Yields (template, expected, got) where they differ. Those that render are packed into few runs."""
    prefix, separator = "{% set m = messages[0].data %}", "\n\x1e\n"
    expected = {t: reference.render(prefix + t) for t in templates}
    good = [t for t in templates if expected[t][1] is None] if packed else []
    done = set()
    for begin in range(0, len(good), 50):
        part = good[begin:begin + 50]
        text, error = lathe.render(prefix + "".join(t + separator for t in part))
        if error is None and text == "".join(expected[t][0] + separator for t in part)[:-1]:
            done.update(part)
    for t in templates:
        if t not in done:
            got = lathe.render(prefix + t)
            if got[0] != expected[t][0]:
                yield t, expected[t], got


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--lathe", default="build/lathe")
    ap.add_argument("--generated", type=int, default=400)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--only", default="")
    a = ap.parse_args()
    rng = random.Random(a.seed)
    expressions = by_hand() + [generate(rng, rng.choice([1, 2, 2, 3])) for _ in range(a.generated)]
    expressions = list(dict.fromkeys("{{ " + e + " }}" for e in expressions))
    with tempfile.TemporaryDirectory() as folder:
        lathe, reference = Lathe(a.lathe, pathlib.Path(folder)), Reference()
        only = lambda templates: [t for t in templates if a.only in t]
        differing = [*compare(only(expressions), lathe, reference, True),
                     *compare(only(TEMPLATES), lathe, reference, False)]
    unexpected = refused = 0
    for template, expected, got in differing:
        if is_refused(template, got[1]):
            refused += 1
        elif template not in DIFFERENCES:
            unexpected += 1
            print(f"DIFFERS {template!r}\n  expected {expected[0]!r} {expected[1] or ''}")
            print(f"  found    {got[0]!r} {got[1] or ''}")
    stale = [t for t in DIFFERENCES if a.only in t and t not in {d[0] for d in differing}]
    for template in stale:
        print(f"no longer differs: {template!r}")
    count = len(only(expressions)) + len(only(TEMPLATES))
    known = len(differing) - unexpected - refused
    print(f"{count} templates, of which {refused} are refused by the name of what lays out pages and {known} differ as known")
    failed = unexpected + len(stale)
    print(f"{count - unexpected} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
