// The template language: what expressions and statements give, white space, errors with their lines, and the bounds.
// Expected values were checked against Jinja2 3.1.6 (ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks).
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tensor/errors.h"
#include "tests/catch.h"
#include "text/chat_template/chat_template.h"

using lathe::ChatTemplate;
using lathe::Error;

namespace {

// `m` in the templates below.
const char* const data = R"({
  "s": "Hello, Wörld", "n": 3, "f": 2.5, "l": [3, 1, 2], "d": {"b": 1, "a": [1, {"x": null}], "items": "it"},
  "users": [{"name": "Bob", "age": 3, "t": {"k": 1}}, {"name": "alice", "age": 1}], "emoji": "a😀é", "none": null,
  "lines": "a\nb\r\nc"})";

std::string render(const std::string& source) {
  ChatTemplate::Inputs inputs;
  inputs.messages = nlohmann::ordered_json::parse(data);
  inputs.now = "2024-07-26T09:05:03";
  return ChatTemplate::parse("{% set m = messages %}" + source, "test").render(inputs);
}

// The message of the Error that rendering ends with.
std::string error_of(const std::string& source) {
  try {
    return "no error, but: " + render(source);
  } catch (const Error& error) {
    return error.what();
  }
}

struct Case {
  const char* expression;
  const char* expected;
};

void check_expressions(const std::vector<Case>& cases) {
  for (const auto& [expression, expected] : cases) {
    INFO(expression);
    std::string result;
    try {
      result = render("{{ " + std::string(expression) + " }}");
    } catch (const Error& error) {
      result = std::string("Error: ") + error.what();
    }
    CHECK(result == expected);
  }
}

void check_templates(const std::vector<Case>& cases) {
  for (const auto& [source, expected] : cases) {
    INFO(source);
    CHECK(render(source) == expected);
  }
}

void check_errors(const std::vector<Case>& cases) {
  for (const auto& [source, part] : cases) {
    INFO(source);
    CHECK_THAT(error_of(source), Catch::Matchers::ContainsSubstring(part));
  }
}

}  // namespace

TEST_CASE("arithmetic follows Python") {
  check_expressions({{"7 / 2", "3.5"},
                     {"10 / 5", "2.0"},
                     {"-7 // 2", "-4"},
                     {"-7 % 3", "2"},
                     {"7.5 % -2", "-0.5"},
                     {"2 ** 3 ** 2", "64"},
                     {"2 ** -1", "0.5"},
                     {"-2 ** 2", "4"},
                     {"1 + true", "2"},
                     {"1e16", "1e+16"},
                     {"1e15", "1000000000000000.0"},
                     {"1e-5", "1e-05"},
                     {"0.1 + 0.2", "0.30000000000000004"},
                     {"-0.0", "-0.0"},
                     {"0x1F + 0b101 + 1_000", "1036"},
                     {"m.s[:5] + 'x' * 3", "Helloxxx"},
                     {"[1] + [2] * 2", "[1, 2, 2]"},
                     {"'a' ~ 1 ~ none ~ 2.0", "a1None2.0"},
                     {"'%s-%05d|%5.2f|%-3s|%x|%%|%r' % ('a', 42, 2.5, 'b', 255, 'c')", "a-00042| 2.50|b  |ff|%|'c'"},
                     {"'%(a)s' % {'a': 1}", "1"},
                     {"'%a|{:c}'.format(65) % 'é' ~ dict.fromkeys('ab', 0)", "'\\xe9'|A{'a': 0, 'b': 0}"}});
}

TEST_CASE("comparison, membership and logic follow Python") {
  check_expressions({{"1 == 1.0 == true", "True"},
                     {"1 < 2 < 3 > 2", "True"},
                     {"'a' < 'b' and [1, 2] < [1, 3]", "True"},
                     {"[1] == (1,)", "False"},
                     {"{'a': 1} == {'a': 1.0}", "True"},
                     {"'b' in m.d and 'z' not in m.d", "True"},
                     {"'' or none or 'x'", "x"},
                     {"0 and 1 / 0", "0"},
                     {"not true or true", "True"},
                     {"'y' if m.nope else 'n'", "n"},
                     {"1 if false", ""},
                     {"(1 if false) is defined", "False"},
                     {"m.nope == m.nope2", "True"},
                     {"m.nope == none", "False"}});
}

TEST_CASE("indexing and slicing count code points") {
  check_expressions({{"m.emoji | length", "3"},
                     {"m.emoji[1]", "😀"},
                     {"m.emoji[-1:]", "é"},
                     {"m.emoji[::-1]", "é😀a"},
                     {"m.s[-3:]", "rld"},
                     {"m.l[-100:2]", "[3, 1]"},
                     {"m.l[::-2]", "[2, 3]"},
                     {"m.l[7] is defined", "False"},
                     {"m.l.0", "3"},
                     {"m.d.items is callable", "True"},
                     {"m.d['items']", "it"},
                     {"m['d'].a[1]['x']", "None"},
                     {"range(10)[2:8:2]", "range(2, 8, 2)"},
                     {"(1, 2, 3)[1:]", "(2, 3)"},
                     {"{1: 2}[true]", "2"}});
}

TEST_CASE("values print as in Python") {
  check_expressions({{"m.d", "{'b': 1, 'a': [1, {'x': None}], 'items': 'it'}"},
                     {"(1,)", "(1,)"},
                     {"['it\\'s', '\"', 'é\\n\\u200b']", "[\"it's\", '\"', 'é\\n\\u200b']"},
                     {"[1.0, true, none, 1e22]", "[1.0, True, None, 1e+22]"},
                     {"range(1, 9, 2)", "range(1, 9, 2)"},
                     {"m.d.keys()", "dict_keys(['b', 'a', 'items'])"},
                     {"namespace(a=1)", "<Namespace {'a': 1}>"},
                     {"m.nope", ""},
                     {"[m.nope]", "[Undefined]"},
                     {"'a\\x41\\u00e9\\101' 'b'", "aAéAb"}});
}

TEST_CASE("string methods") {
  check_expressions(
      {{"m.s.upper() ~ m.s.lower()", "HELLO, WÖRLDhello, wörld"},
       {"'straße'.upper() ~ 'ΑΣ'.lower()", "STRASSEας"},
       {"\"they're\".title() ~ 'éA'.capitalize()", "They'ReÉa"},
       {"'xxaxx'.strip('x') ~ ' b '.rstrip() ~ '|'", "a b|"},
       {"'a,b,c'.split(',', 1)", "['a', 'b,c']"},
       {"'a,b,c'.rsplit(',', 1)", "['a,b', 'c']"},
       {"'  a  b c '.split()", "['a', 'b', 'c']"},
       {"'  a  b c '.split(none, 1)", "['a', 'b c ']"},
       {"'  a  b c '.rsplit(none, 1)", "['  a  b', 'c']"},
       {"m.lines.splitlines()", "['a', 'b', 'c']"},
       {"'abc'.startswith(('x', 'a'))", "True"},
       {"'abc'.endswith('b', 0, 2)", "True"},
       {"'ééc'.find('c') ~ 'abc'.find('z') ~ 'abab'.rfind('b')", "2-13"},
       {"'aXbX'.replace('X', '-', 1) ~ 'ab'.replace('', '.')", "a-bX.a.b."},
       {"', '.join(m.d)", "b, a, items"},
       {"'abc'.partition('b')", "('a', 'b', 'c')"},
       {"'²'.isdigit() ~ '²'.isdecimal() ~ 'aé'.isalpha()", "TrueFalseTrue"},
       {"'Straße'.casefold() ~ 'ß'.title() ~ 'ﬁn'.capitalize() ~ 'ΑΣ ΣΑ'.title()", "strasseSsFinΑς Σα"},
       {"'{} {0}'[:2].format(1) ~ '{a:>4}{b!r}'.format(a=1, b='x')", "1   1'x'"},
       {"'{:,.2f} {:05d} {:x} {:.1%}'.format(1234567.891, 42, 255, 0.256)", "1,234,567.89 00042 ff 25.6%"}});
}

TEST_CASE("filters") {
  check_expressions({{"m.users | map(attribute='name') | join('/')", "Bob/alice"},
                     {"m.users | map(attribute='t.k', default=0) | list", "[1, 0]"},
                     {"m.users | selectattr('t', 'defined') | list | length", "1"},
                     {"m.users | rejectattr('age', '>', 1) | map(attribute='name') | first", "alice"},
                     {"m.l | select('odd') | list", "[3, 1]"},
                     {"m.l | sort ~ m.l | sort(reverse=true)", "[1, 2, 3][3, 2, 1]"},
                     {"m.users | sort(attribute='age,name') | map(attribute='name') | list", "['alice', 'Bob']"},
                     {"{'b': 1, 'A': 2} | dictsort", "[('A', 2), ('b', 1)]"},
                     {"[1, 1.0, 'a', 'A'] | unique | list", "[1, 'a']"},
                     {"m.nope | default('x') ~ '' | default('y', true)", "xy"},
                     {"'42.7' | int + ' 1_0 ' | int + 'ff' | int(0, 16)", "307"},
                     {"'abc' | int(5) ~ none | float ~ '1e3' | float", "50.01000.0"},
                     {"2.5 | round ~ 2.675 | round(2) ~ 42.55 | round(1, 'floor') ~ 42 | round", "2.02.6742.542"},
                     {"m.l | sum ~ m.l | max ~ m.l | min ~ m.l | last ~ m.s | first", "6312H"},
                     {"'a\\nb\\n\\nc' | indent(2)", "a\n  b\n\n  c"},
                     {"\"it's a test-case\" | title", "It's A Test-Case"},
                     {"'%s!' | format('a') ~ 12321 | replace(2, 'x')", "a!1x3x1"},
                     {"m.l | reverse | list ~ m.emoji | reverse", "[2, 1, 3]é😀a"},
                     {"m.nope | length ~ m.nope | list ~ m.nope | trim ~ m.nope | items | list", "0[][]"}});
}

TEST_CASE("nothing is escaped, and what the reference would escape is an error") {
  check_expressions({{"('<' | safe) ~ '<' ~ ('<' | safe) * 2 ~ ('<' | safe | upper)", "<<<<<"},
                     {"('<' | safe) + 'a' + ('>' | safe)", "<a>"},
                     {"'<' is escaped or ('<' | safe) is not escaped", "False"}});
  check_errors({{"{{ ('a' | safe) + '<' }}", "line 1: '<' is added to a text marked 'safe'"},
                {"{{ '&' + ('a' | safe) + 'b' }}", "'&' is added to a text marked 'safe'"},
                {"{{ ('a' | safe) + 'b' + '\"' }}", "is added to a text marked 'safe'"}});
}

TEST_CASE("what lays out pages is known, and an error that names it where it is used") {
  for (const char* name :
       {"batch(2)", "center", "e", "escape", "filesizeformat", "forceescape", "groupby('age')", "pprint", "slice(2)",
        "striptags", "truncate(9)", "urlencode", "urlize", "wordcount", "wordwrap(9)", "xmlattr"}) {
    const std::string filter(name), word = filter.substr(0, filter.find('('));
    CHECK(error_of("\n{{ m.users | " + filter + " }}") ==
          "test: line 2: '" + word +
              "' is not supported: it is for pages, not for prompts, and no published template uses it");
    CHECK(render("{% if false %}{{ m.s | " + filter + " }}{% endif %}{{ '" + word + "' is filter }}") == "True");
  }
  for (const char* method : {"center(9)", "expandtabs()", "isidentifier()", "isprintable()", "istitle()", "ljust(9)",
                             "rjust(9)", "swapcase()", "translate({})", "zfill(9)"}) {
    const std::string call(method), word = call.substr(0, call.find('('));
    CHECK_THAT(error_of("{{ m.s." + call + " }}"), Catch::Matchers::ContainsSubstring("'" + word + "' is not supp"));
    CHECK(render("{{ m.s." + word + " is defined }}") == "True");
  }
  check_errors({{"{{ cycler('a', 'b').next() }}", "'cycler' is not supported"},
                {"{% for i in m.l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "'loop.cycle' is not supported"},
                {"{% for i in m.l %}{{ loop.changed(i) }}{% endfor %}", "'loop.changed' is not supported"},
                {"{{ m.users | map('urlize') | list }}", "'urlize' is not supported"},
                {"{% filter wordwrap(9) %}a{% endfilter %}", "'wordwrap' is not supported"},
                {"{{ '%c' % 55296 }}", "55296 is no character"}});
}

TEST_CASE("tojson writes as transformers does") {
  check_expressions({{"m.d | tojson", R"({"b": 1, "a": [1, {"x": null}], "items": "it"})"},
                     {"m.emoji | tojson ~ m.emoji | tojson(ensure_ascii=true)", R"("a😀é""a\ud83d\ude00\u00e9")"},
                     {"[1.0, 1e22, true] | tojson", "[1.0, 1e+22, true]"},
                     {"{'b': 1, 'a': {}} | tojson(sort_keys=true)", R"({"a": {}, "b": 1})"},
                     {"[1, {'a': []}] | tojson(indent=2)", "[\n  1,\n  {\n    \"a\": []\n  }\n]"},
                     {"[1, 2] | tojson(separators=(',', ':'))", "[1,2]"},
                     {"'\\x00\\x1f\\x7f\"\\\\/\\n' | tojson", "\"\\u0000\\u001f\x7f\\\"\\\\/\\n\""},
                     {"{1: 2, none: 3, true: 4} | tojson", R"({"1": 4, "null": 3})"}});
}

TEST_CASE("tests") {
  check_expressions({{"m.l is sequence and m.s is sequence and m.d is sequence", "True"},
                     {"m.d is mapping and m.l is not mapping", "True"},
                     {"m.d.items() is sequence", "False"},
                     {"m.nope is defined or m.nope is none", "False"},
                     {"m.nope is iterable", "True"},
                     {"true is number and true is not integer", "True"},
                     {"1 is true", "False"},
                     {"9 is divisibleby 3 and 3 is odd and 3 is in [3]", "True"},
                     {"'upper' is filter and 'nope' is not filter", "True"},
                     {"m.l.append is defined", "False"},
                     {"'a' is eq 'a' and 3 is gt 2", "True"}});
}

TEST_CASE("white space control") {
  check_templates({{"a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc"},
                   {"{%- if true -%}  x  {%- endif -%} y", "xy"},
                   {"  {%+ if true %}x{% endif +%}\ny", "  x\ny"},
                   {"{# c #}\nx {#- d -#} y", "xy"},
                   {"  {{ 1 }}\n  {# c #}\nz", "  1\nz"},
                   {"{{ 1 }}\n\n", "1\n"},
                   {"a\r\nb\rc\r\n", "a\nb\nc"},
                   {"\n  {% raw -%}\n a {{ b }}\n {%- endraw %}\nq", "a {{ b }}q"},
                   {"{{ {'a': {'b': 1}}}} {{ '}}' }}", "{'a': {'b': 1}} }}"},
                   {"{{- ' a ' -}}  b", " a b"}});
}

TEST_CASE("loops") {
  check_templates(
      {{"{% for i in m.l %}{{ loop.index }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }} {% endfor %}",
        "12TrueFalse 21FalseFalse 30FalseTrue "},
       {"{% for i in m.l %}{{ loop.previtem }}<{{ i }}<{{ loop.nextitem }} {% endfor %}", "<3<1 3<1<2 1<2< "},
       {"{% for i in m.l if i > 1 %}{{ i }}/{{ loop.length }} {% else %}none{% endfor %}", "3/2 2/2 "},
       {"{% for i in [] %}x{% else %}empty{% endfor %}", "empty"},
       {"{% for k, v in m.d.items() %}{{ k }}{% endfor %}", "baitems"},
       {"{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "123"},
       {"{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i == 4 %}{% break %}{% endif %}{{ i }}{% endfor "
        "%}",
        "023"},
       {"{% set x = 1 %}{% for i in m.l %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}", "4 2 3 1"},
       {"{% set ns = namespace(x=1) %}{% for i in m.l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "7"},
       {"{% set ns = namespace(on=true) %}{% for i in [1, 2, 3] if ns.on %}{{ i }}{% set ns.on = i < 2 %}{% endfor %}",
        "12"},
       {"{% for n in [1, [2, [3]]] recursive %}{{ loop.depth }}{% if n is iterable %}({{ loop(n) }}){% endif %}{% "
        "endfor %}",
        "11(22(3))"},
       {"{% set g = m.l | map('string') %}{{ g | list }}{{ g | list }}", "['3', '1', '2'][]"}});
}

TEST_CASE("macros, blocks and scopes") {
  check_templates(
      {{"{% macro f(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }} {{ f(1, c=5) }} {{ f(b=3) }}",
        "121 125 3"},
       {"{% macro f(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, k=4) }}", "1(2,){'k': 4}"},
       {"{% macro f() %}[{{ caller(1, y=2) }}]{% endmacro %}{% call(x, y) f() %}{{ x }}{{ y }}{% endcall %}", "[12]"},
       {"{% macro f(n) %}{{ n }}{% if n > 1 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "321"},
       {"{% macro f() %}{{ y }}{% endmacro %}{% set y = 3 %}{{ f() }}{% set y = 4 %}{{ f() }}", "34"},
       {"{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ f(*[1, 2]) }}{{ f(**{'b': 4, 'a': 3}) }}", "1234"},
       {"{% set x | replace('b', 'z') | upper %}a{{ 'b' }}{% endset %}[{{ x }}]", "[AZ]"},
       {"{% filter upper %}abc{% set q = 1 %}{% endfilter %}{{ q }}", "ABC"},
       {"{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "155"},
       {"{% generation %}x{% set w = 1 %}{% endgeneration %}{{ w }}", "x"},
       {"{% if true %}{% set z = 3 %}{% endif %}{{ z }}", "3"},
       {"{% set a, b = 1, 2 %}{{ a }}{{ b }}", "12"},
       {"{% for i in [1] %}{% block x %}{{ i }}{{ m.n }}{% endblock %}{% endfor %}", "3"},
       {"{% set j = joiner('|') %}{% for i in m.l %}{{ j() }}{{ i }}{% endfor %}", "3|1|2"},
       {"{{ strftime_now('%Y-%m-%d %H:%M:%S %A %-d %b %j %%') }}", "2024-07-26 09:05:03 Friday 26 Jul 208 %"},
       {"{{ dict({'a': 1}, b=2) }}{{ dict([('k', 'v')]) }}", "{'a': 1, 'b': 2}{'k': 'v'}"},
       {"{% if false %}{{ 1 | nope }}{% endif %}{{ 1 | nope if false else 2 }}", "2"}});
}

TEST_CASE("errors of templates name the line") {
  check_errors(
      {{"\n\n{{ 1", "test: line 3: expected end of print statement, got 'end of template'"},
       {"\n{% if true %}\n", "expected 'endif'"},
       {"\n{% foo %}", "line 2: unknown tag 'foo'"},
       {"{{ 'abc }}", "a string has no end"},
       {"\n{# abc", "line 2: missing end of comment tag"},
       {"{{ (1] }}", "unexpected ']', expected ')'"},
       {"{{ $ }}", "unexpected character '$'"},
       {"\n\n{{ 1 | nope }}", "line 3: no filter named 'nope'"},
       {"{{ 1 is nope }}", "no test named 'nope'"},
       {"{% if false %}{% for i in [1] %}{{ 1 | nope }}{% endfor %}{% endif %}", "no filter named 'nope'"},
       {"{% break %}", "'break' outside of a loop"},
       {"{% include 'x' %}", "a chat template has none"},
       {"{% set true = 1 %}", "cannot assign to 'true'"},
       {"\n\n{{ nope.x }}", "test: line 3: 'nope' is undefined"},
       {"{{ m.nope.x }}", "'dict object' has no attribute 'nope'"},
       {"{{ m.s + 1 }}", "can only concatenate str (not \"int\") to str"},
       {"{{ 1 ~ 2 + 3 }}", "can only concatenate str"},  // ~ binds tighter than +
       {"{{ 1 < 'a' }}", "'<' not supported between instances of 'int' and 'str'"},
       {"{% for i in none %}{% endfor %}", "'NoneType' object is not iterable"},
       {"{{ m.l.append(1) }}", "access to attribute 'append' of 'list' object is unsafe"},
       {"{{ m.d.update({}) }}", "unsafe"},
       {"{{ m.s.__class__.x }}", "unsafe"},
       {"{% set x = {} %}{% set x.y = 1 %}", "cannot assign attribute on non-namespace object"},
       {"{{ m.n[1:] }}", "cannot be sliced"},
       {"{{ m.s() }}", "'str' object is not callable"},
       {"{{ 1 // 0 }}", "division or modulo by zero"},
       {"{{ 9223372036854775807 + 1 }}", "more than 64 bits"},
       {"{{ m.nope | tojson }}", "not JSON serializable"},
       {"{{ m.s.split('') }}", "empty separator"},
       {"{{ m.s.strip(chars='x') }}", "takes no keyword arguments"},
       {"{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "takes not more than 1 argument"},
       {"{% set a, b = [1] %}", "1 values cannot be unpacked into 2 names"},
       {"\n{% macro f() %}\n{{ raise_exception('no ' ~ m.n) }}{% endmacro %}{{ f() }}", "test: line 3: no 3"}});
}

TEST_CASE("a template that never ends, nests without end or grows without end is an error") {
  const auto repeated = [](const char* text, int count) {
    std::string result;
    for (int i = 0; i < count; ++i) result += text;
    return result;
  };
  const std::string in_loops = "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(100000) %}";
  const std::vector<std::pair<std::string, const char*>> cases = {
      {in_loops + "{% for j in range(100000) %}{% endfor %}{% endfor %}", "steps"},
      {"{{ " + repeated("(", 200000), "nested"},
      {"{{ " + repeated("[", 200000), "nested"},
      {"{{ " + repeated("not ", 200000) + "1 }}", "nested"},
      {repeated("{% if 1 %}", 50000), "nested"},
      {"{{ 1" + repeated("+1", 200000) + " }}", "operations deep"},
      {"{{ a" + repeated(".b", 200000) + " }}", "operations deep"},
      {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "levels deep"},
      {"{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", "levels deep"},
      {"{{ 'x' * 1000000000 }}", "MiB"},
      {"{{ ([1] * 100000000) | length }}", "MiB"},
      {"{{ 'x' | indent(9223372036854775807) }}", "MiB"},
      {"{{ '%1000000000d' % 1 }}", "width"},
      {"{% set x = 'a' * 1000000 %}{{ x.replace('a', x) }}", "MiB"},
      {in_loops + "{{ 'x' * 100000 }}{% endfor %}", "MiB"},
      {in_loops + "{% set ns.a = [ns.a] %}{% endfor %}", "nested"},
      {in_loops + "{% set ns.a = [ns.a].index %}{% endfor %}", "nested"},
      {in_loops + "{% if i < 60 %}{% set ns.a = [ns.a, ns.a] %}{% endif %}{% endfor %}{{ ns.a }}", "steps"},
      {in_loops + "{% if i < 60 %}{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endif %}{% endfor %}"
                  "{{ ns.a == ns.b }}",
       "steps"},
      {"{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}", "nested in itself"},
      {"{{ range(200000) }}", "Range too big"},
      {std::string(2000000, 'x'), "a template may have"}};
  for (const auto& [source, part] : cases) {
    INFO(source.substr(0, 120));
    CHECK_THAT(error_of(source), Catch::Matchers::ContainsSubstring(part));
  }
}

TEST_CASE("values that refer to themselves are freed") {  // the leak checker of the sanitizers watches
  check_templates(
      {{"{% set ns = namespace() %}{% set ns.self = [ns] %}{{ ns.self[0] == ns }}", "True"},
       {"{% set ns = namespace() %}{% for i in [1] %}{% set ns.x = loop %}{% endfor %}{{ ns.x.index }}", "1"},
       {"{% set ns = namespace() %}{% macro f() %}{{ ns.f is callable }}{% endmacro %}"
        "{% set ns.f = f %}{{ ns.f() }}",
        "True"}});
}
