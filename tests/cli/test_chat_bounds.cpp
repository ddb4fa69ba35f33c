// A chat template comes with a model from anywhere: whatever it does, `lathe render-chat` ends, with an error, in
// little memory. What bounds it is counted in steps and bytes (modules/text/chat_template/budget.h), so no clock
// decides here.
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/support.h"

namespace {

// A sanitizer keeps freed memory for a while (256 MB) and shadows all of it: there the bound only finds what is lost.
constexpr size_t allowed_memory = size_t{lathe::test::kSanitized ? 1000 : 100} << 20;

std::string times(size_t count, const std::string& text) {
  std::string result;
  for (size_t i = 0; i < count; ++i) result += text;
  return result;
}

lathe::test::CommandResult render(const std::string& source, const std::string& messages) {
  const lathe::test::TemporaryDirectory folder;
  lathe::test::write_file(folder.path() / "t.jinja", source);
  lathe::test::write_file(folder.path() / "m.json", messages);
  return lathe::test::run_lathe({"render-chat", "--template", (folder.path() / "t.jinja").string(), "--messages",
                                 (folder.path() / "m.json").string()});
}

void check_bounded(const std::string& source, const std::string& messages = R"([{"role": "user", "content": "x"}])") {
  INFO(source.substr(0, 200));
  const auto result = render(source, messages);
  CHECK(result.exit_code == 1);
  CHECK(result.standard_output.empty());
  CHECK(result.standard_error.starts_with("lathe: error: "));
  CHECK(result.standard_error.size() < 2000);
  CHECK(result.peak_memory < allowed_memory);
}

}  // namespace

TEST_CASE("a template that loops without end is an error") {
  for (const char* source : {
           "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
           "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
           "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
           "{% for a in [[1]] recursive %}{{ loop([a]) }}{% endfor %}",
           "{% set n = namespace(x=0) %}{% for a in range(100000) %}{% for b in range(100000) %}"
           "{% set n.x = n.x + 1 %}{% endfor %}{% endfor %}",
           "{% set l = range(100000) | list %}{{ l | map('string') | unique | list | length }}",
           "{% for a in range(100000) %}{{ range(100000) | sum }}{% endfor %}",
       })
    check_bounded(source);
}

TEST_CASE("a megabyte of nesting is an error") {
  for (const char* opening : {"(", "[", "{1:", "-", "not ", "[(", "x[", "f(", "'a'|f(", "x if "})
    check_bounded("{{ " + times((size_t{1} << 20) / std::string(opening).size() - 8, opening));
  for (const char* opening : {"{% if 1 %}", "{% for x in y %}", "{% with %}", "{% filter e %}", "{% set a %}",
                              "{% macro f() %}", "{% call f() %}", "{% generation %}"})
    check_bounded(times((size_t{1} << 20) / std::string(opening).size() - 1, opening));
  for (const char* link : {" + 1", ".x", "[0]", "|e", "()", " is x", " ~ 1", " and 1", " < 1", " if 1"})
    check_bounded("{{ 1" + times((size_t{1} << 20) / std::string(link).size() - 8, link) + " }}{{ x.y.z }}");
  check_bounded(times(size_t{1} << 21, "x"));  // longer than any template
}

TEST_CASE("messages that are nested without end are an error") {
  constexpr size_t depth = 500000;
  check_bounded("{{ messages }}", times(depth, "[") + times(depth, "]"));
  check_bounded("{{ messages | tojson }}", times(depth, R"({"a":)") + "1" + times(depth, "}"));
}

TEST_CASE("a gigabyte of output or of values is an error") {
  for (const char* source : {
           "{{ 'x' * 10 ** 9 }}",
           "{{ [0] * 10 ** 9 }}",
           "{% set x = 'x' * 10000000 %}{% for a in range(1000) %}{{ x }}{% endfor %}",
           "{% set n = namespace(x='x') %}{% for a in range(64) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
           "{% set n = namespace(x=[0]) %}{% for a in range(64) %}{% set n.x = n.x + n.x %}{% endfor %}",
           "{% set n = namespace(x=[]) %}{% for a in range(64) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
           "{% set n = namespace(x='') %}{% for a in range(100000) %}{% set n.x = n.x + 'xxxxxxxxxx' %}{% endfor %}",
           "{{ range(10 ** 9) | list }}",
           "{{ '%1000000000d' % 1 }}",
           "{{ '{:1000000000}'.format(1) }}",
           "{{ 'x' | indent(10 ** 9, true) }}",
           "{{ ('\\n' * 100000) | indent(10000, true, true) }}",
           "{{ ('x' * 10000).replace('', 'y' * 100000) }}",
           "{{ ('x' * 100000).join(range(100000) | map('string')) }}",
           "{{ ([[]] * 100000) | tojson(indent=1000) }}",
           "{{ ('\"' * 10000000) | tojson | tojson | tojson }}",
           "{{ 9 ** 99 }}",
           "{{ 9223372036854775807 + 1 }}",
       })
    check_bounded(source);
}
