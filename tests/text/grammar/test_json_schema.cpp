// JSON Schema as a grammar: what each keyword lets through and keeps out, and that random texts of a grammar satisfy
// their schema by the word of a validator that shares no line with it.
#include <nlohmann/json.hpp>
#include <regex>

#include "formats/strict_json.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/text/grammar/grammar_texts.h"
#include "text/grammar/json_schema.h"
#include "text/unicode/unicode.h"

using namespace lathe;
using namespace lathe::test;

namespace {

using SchemaValue = nlohmann::ordered_json;

GrammarMatcher schema_matcher(const std::string& schema) {
  return {json_schema_grammar(schema, "schema"), json_vocabulary()};
}

std::string why_refused(const std::string& schema) {
  try {
    json_schema_grammar(schema, "schema");
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

// By the specification, keyword by keyword; of formats by their patterns' sense.
class Validator {
 public:
  explicit Validator(const SchemaValue& root) : root_(root) {}

  bool valid(const SchemaValue& v, const SchemaValue& s) const {
    if (s.is_boolean()) return s.get<bool>();
    if (v.is_null() && s.value("nullable", false)) return true;
    const auto all = [&](const char* key, const auto& holds) { return !s.contains(key) || holds(s[key]); };
    const auto matches = [&](const SchemaValue& one) { return valid(v, one); };
    return all("$ref",
               [&](const auto& r) {
                 return valid(v, root_.at(SchemaValue::json_pointer(r.template get<std::string>().substr(1))));
               }) &&
           all("type",
               [&](const auto& t) {
                 return t.is_array() ? std::any_of(t.begin(), t.end(), [&](const auto& x) { return is(v, x); })
                                     : is(v, t);
               }) &&
           all("enum", [&](const auto& e) { return std::find(e.begin(), e.end(), v) != e.end(); }) &&
           all("const", [&](const auto& c) { return v == c; }) &&
           all("anyOf", [&](const auto& l) { return std::any_of(l.begin(), l.end(), matches); }) &&
           all("oneOf", [&](const auto& l) { return std::count_if(l.begin(), l.end(), matches) == 1; }) &&
           all("allOf", [&](const auto& l) { return std::all_of(l.begin(), l.end(), matches); }) &&
           (!v.is_object() || valid_object(v, s)) && (!v.is_array() || valid_array(v, s)) &&
           (!v.is_string() || valid_string(v.get<std::string>(), s)) &&
           (!v.is_number() || valid_number(v.get<double>(), s));
  }

 private:
  static bool is(const SchemaValue& v, const SchemaValue& type) {
    const auto t = type.get<std::string>();
    if (t == "integer") return v.is_number() && v.get<double>() == std::floor(v.get<double>());
    return t == "null"      ? v.is_null()
           : t == "boolean" ? v.is_boolean()
           : t == "string"  ? v.is_string()
           : t == "number"  ? v.is_number()
           : t == "array"   ? v.is_array()
                            : v.is_object();
  }
  bool valid_object(const SchemaValue& v, const SchemaValue& s) const {
    for (const auto& name : s.value("required", SchemaValue::array()))
      if (!v.contains(name.get<std::string>())) return false;
    for (const auto& [name, member] : v.items()) {
      const SchemaValue properties = s.value("properties", SchemaValue::object());
      if (!valid(member,
                 properties.contains(name) ? properties[name] : s.value("additionalProperties", SchemaValue(true))))
        return false;
    }
    return true;
  }
  bool valid_array(const SchemaValue& v, const SchemaValue& s) const {
    const SchemaValue first = s.value("prefixItems", SchemaValue::array());
    for (size_t i = 0; i < v.size(); ++i)
      if (!valid(v[i], i < first.size() ? first[i] : s.value("items", SchemaValue(true)))) return false;
    return v.size() >= s.value("minItems", size_t{0}) && v.size() <= s.value("maxItems", SIZE_MAX);
  }
  static bool valid_string(const std::string& v, const SchemaValue& s) {
    const size_t length = count_characters(v);
    if (s.contains("pattern") && !std::regex_search(v, std::regex(s["pattern"].get<std::string>()))) return false;
    return length >= s.value("minLength", size_t{0}) && length <= s.value("maxLength", SIZE_MAX);
  }
  static bool valid_number(double v, const SchemaValue& s) {
    return !(s.contains("minimum") && v < s["minimum"].get<double>()) &&
           !(s.contains("maximum") && v > s["maximum"].get<double>()) &&
           !(s.contains("exclusiveMinimum") && v <= s["exclusiveMinimum"].get<double>()) &&
           !(s.contains("exclusiveMaximum") && v >= s["exclusiveMaximum"].get<double>());
  }
  const SchemaValue& root_;
};

struct SchemaCase {
  const char* schema;
  std::vector<const char*> right, wrong;
};

const std::vector<SchemaCase>& cases() {
  static const std::vector<SchemaCase> list = {
      {R"({"type": "null"})", {"null"}, {"nul", "nulll", "0", ""}},
      {R"({"type": "boolean"})", {"true", "false"}, {"True", "1"}},
      {R"({"type": "string"})",
       {R"("")", R"("a b")", R"("\n\"\\\/é")", R"("\u00e9\ud83d\ude00")", R"("\uD7FF")"},
       {R"("a)", "\"\n\"", "\"\xC3\"", "\"\x80\"", "\"\xED\xA0\x80\"", "\"\xC0\x80\"", "\"\xF4\x90\x80\x80\"",
        R"("\x41")", R"("\ud83d")", R"("\ude00")", R"("\ud83d\u0041")", "'a'"}},
      {R"({"type": "string", "minLength": 2, "maxLength": 3})",
       {R"("ab")", R"("éé€")", R"("\n\u0041")", R"("\ud83d\ude00x")"},
       {R"("a")", R"("abcd")", R"("\ud83d\ude00")"}},
      {R"({"minLength": 1})", {R"("a")"}, {R"("")", "1"}},
      {R"({"type": "string", "pattern": "^[A-Z]{2}\\d+$"})",
       {R"("AB1")", R"("XY007")"},
       {R"("AB")", R"("ABC1")", R"("aAB1")"}},
      {R"({"type": "string", "pattern": "^b\"c?$"})", {R"("b\"c")"}, {R"("b")", R"("bc")"}},
      {R"({"type": "string", "format": "date"})",
       {R"("2024-02-29")", R"("1999-12-31")", R"("2000-02-29")", R"("0400-02-29")"},
       {R"("2023-02-29")", R"("1900-02-29")", R"("0000-01-01")", R"("2024-04-31")", R"("2024-13-01")",
        R"("2024-1-01")"}},
      {R"({"type": "string", "format": "date-time"})",
       {R"("2024-02-29T23:59:59Z")", R"("2024-01-01T00:00:00.123+05:30")"},
       {R"("2024-02-29 23:59:59Z")", R"("2024-02-29T24:00:00Z")", R"("2024-02-29T23:59:59")"}},
      {R"({"type": "string", "format": "time"})", {R"("12:30:00Z")"}, {R"("12:60:00Z")", R"("1:30:00Z")"}},
      {R"({"type": "string", "format": "uuid"})",
       {R"("123e4567-e89b-12d3-a456-426614174000")"},
       {R"("123e4567e89b12d3a456426614174000")"}},
      {R"({"type": "string", "format": "ipv4"})",
       {R"("127.0.0.1")", R"("255.250.199.9")"},
       {R"("256.0.0.1")", R"("01.0.0.1")", R"("1.1.1")"}},
      {R"({"type": "string", "format": "email"})",
       {R"("a.b@example.org")"},
       {R"("a@b")", R"("@b.org")", R"("a..b@c.org")"}},
      {R"({"type": "integer"})",
       {"0", "-1", "999999999999999999"},
       {"-0", "01", "1.0", "1e3", "+1", "1000000000000000000", "-"}},
      {R"({"type": "integer", "minimum": -12, "exclusiveMaximum": 105})",
       {"-12", "-9", "0", "99", "104"},
       {"-13", "105", "-20", "1040", "200"}},
      {R"({"type": "integer", "minimum": 0.5, "maximum": 1e2})", {"1", "100"}, {"0", "101", "-1"}},
      {R"({"type": "integer", "exclusiveMinimum": 7, "maximum": 1000})", {"8", "999", "1000"}, {"7", "1001"}},
      {R"({"type": "number"})",
       {"0", "-0.5", "1e3", "2.5E-07", "123456789.125"},
       {".5", "1.", "01", "1e", "1e400", "NaN", "Infinity"}},
      {R"({"type": "number", "minimum": 0, "maximum": 1})",
       {"0", "0.5", "1", "1.00", "0.99999"},
       {"-0.1", "1.01", "2", "1e0", "-0"}},
      {R"({"type": "number", "exclusiveMinimum": -3, "exclusiveMaximum": 2})",
       {"-2.999", "-0.5", "0", "1.999"},
       {"-3", "-3.0", "2", "2.0", "-3.1"}},
      {R"({"type": "number", "exclusiveMinimum": 0})", {"0.001", "17", "3.5"}, {"0", "0.0", "0.00", "-1"}},
      {R"({"type": "number", "maximum": -5})", {"-5", "-5.5", "-700"}, {"-4.9", "5", "0"}},
      {R"({"enum": ["red", "re", 3, null, {"a": [1]}, 1.5]})",
       {R"("red")", R"("re")", "3", "null", R"({"a":[1]})", "1.5"},
       {R"("r")", "30", R"("reds")", "4"}},
      {R"({"type": "string", "enum": ["a", 1]})", {R"("a")"}, {"1"}},
      {R"({"const": "x\n\"é"})", {R"("x\n\"é")"}, {R"("x")"}},
      {R"({"type": ["string", "null"], "maxLength": 1})", {R"("a")", "null"}, {R"("ab")", "1"}},
      {R"({"type": "integer", "nullable": true})", {"null", "5"}, {"\"5\"", "nil"}},
      {R"({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}}, "required": ["b"]})",
       {R"({"a":1,"b":true})", R"({"b": false})", "{\n  \"a\": 1,\n  \"b\": true\n}", R"({ "b": true })"},
       {"{}", R"({"a":1})", R"({"b":true,"a":1})", R"({"b":true,"c":1})", R"({"a":1 ,"b":true})", R"({"b":true,})",
        R"({"a":1"b":true})"}},
      {R"({"type": "object", "properties": {"a": {}, "b": {}}, "additionalProperties": false})",
       {"{}", "{\"a\":[1,{}]}", R"({"b":1})", R"({"a":1,"b":2})"},
       {R"({"c":1})", "{ \n}"}},
      {R"({"type": "object", "properties": {"name": {"type": "integer"}}, "additionalProperties": {"type": "boolean"}})",
       {R"({"name":1,"nam":true,"names":false,"x":true})", R"({"other":true})", R"({"":true})", R"({"nb":true})"},
       {R"({"x":1})", R"({"name":true})", R"({"x":true,"name":1})", R"({"n\u0061me":true})"}},
      {R"({"type": "object", "additionalProperties": {"type": "integer"}})",
       {"{}", R"({"a":1,"b":2})"},
       {R"({"a":true})"}},
      {R"({"type": "object", "required": ["k"]})", {R"({"k":[]})", R"({"k":1,"l":2})"}, {"{}", R"({"l":2})"}},
      {R"({"type": "object"})", {"{}", R"({"a": {"b": [1, "c", null]}, "d": -1.5e2})"}, {"[]", "1", R"({a:1})", "{"}},
      {"true", {"1", "\"a\"", "[{}]", "null"}, {"", "nul"}},
      {R"({"type": "array", "items": {"type": "integer"}})",
       {"[]", "[1]", "[1, 2,3]", "[\n  1,\n  2\n]"},
       {"[1,]", "[,1]", "[\"a\"]", "[1 ,2]"}},
      {R"({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3})",
       {"[1,2]", "[1,2,3]"},
       {"[]", "[1]", "[1,2,3,4]"}},
      {R"({"type": "array", "maxItems": 0})", {"[]"}, {"[1]"}},
      {R"({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]})",
       {"[]", "[1]", R"([1,"a"])"},
       {R"(["a"])", R"([1,"a",2])"}},
      {R"({"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3})",
       {"[1]", "[1,true]", "[1,true,false]"},
       {"[]", "[true]", "[1,2]", "[1,true,true,true]"}},
      {R"({"type": "array", "prefixItems": [{"type": "integer"}], "minItems": 3})",
       {R"([1,"x",{}])"},
       {"[1,2]", R"(["x",1,1])"}},
      {R"({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 1}]})",
       {"12", R"("a")"},
       {R"("ab")", "true"}},
      {R"({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "anyOf": [{"properties": {"b": {"const": 1}}, "required": ["b"]}, {"properties": {"c": {"const": 2}}}]})",
       {R"({"a":5,"b":1})", R"({"a":5})", R"({"a":5,"c":2})"},
       {R"({"b":1})", R"({"a":5,"c":3})"}},
      {R"({"oneOf": [{"type": "integer"}, {"type": "string"}]})", {"1", R"("a")"}, {"1.5"}},
      {R"({"oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}], "discriminator": {"propertyName": "kind"},
           "$defs": {"cat": {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["kind"]},
                     "dog": {"type": "object", "properties": {"kind": {"enum": ["dog", "wolf"]}}, "required": ["kind"]}}})",
       {R"({"kind":"cat","lives":9})", R"({"kind":"wolf"})"},
       {R"({"kind":"dog","lives":9})", R"({"kind":"cow"})", "{}"}},
      {R"({"allOf": [{"$ref": "#/definitions/a"}, {"properties": {"y": {"type": "boolean"}}, "required": ["y"]}], "title": "t",
           "definitions": {"a": {"type": "object", "properties": {"x": {"type": "integer", "minimum": 3}}, "required": ["x"]}}})",
       {R"({"x":3,"y":true})", R"({"x":4,"y":false})"},
       {R"({"x":3})", R"({"y":true})", R"({"x":2,"y":true})", R"({"y":true,"x":3})"}},
      {R"({"allOf": [{"type": "integer", "minimum": 3, "maximum": 10}, {"type": "number", "minimum": 5, "maximum": 20}]})",
       {"5", "10"},
       {"4", "11", "5.5"}},
      {R"({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": false}, {"properties": {"b": {}}}]})",
       {"{}", R"({"a":1})"},
       {R"({"b":1})"}},
      {R"({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["v", "next"]}}})",
       {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"},
       {R"({"v":1})", R"({"v":1,"next":{}})"}},
      {R"({"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}})",
       {"{}", R"({"children":[{},{"children":[]}]})"},
       {R"({"children":[1]})"}},
      {R"({"type": "object", "properties": {"a~/b": {"$ref": "#/$defs/x~1y"}}, "$defs": {"x/y": {"const": 1}}})",
       {R"({"a~/b":1})"},
       {R"({"a~/b":2})"}},
      {R"({"type": "object", "properties": {"a": false, "b": {"type": "null"}}})",
       {"{}", R"({"b":null})"},
       {R"({"a":1})"}},
  };
  return list;
}

}  // namespace

TEST_CASE("each keyword of JSON Schema lets through what satisfies it and nothing else") {
  for (const SchemaCase& c : cases()) {
    GrammarMatcher m = schema_matcher(c.schema);
    INFO(c.schema);
    check_texts(m, c.right, c.wrong);
  }
}

TEST_CASE("random texts of a schema's grammar satisfy it, and every mask is what its tokens' bytes say") {
  std::mt19937 random(16);
  for (const SchemaCase& c : cases()) {
    const SchemaValue schema = parse_ordered_json(c.schema, "schema");
    GrammarMatcher m = schema_matcher(c.schema);
    for (int i = 0; i < 30; ++i) {
      const std::string text = random_text(m, random, i < 3);
      INFO(c.schema << "\nand " << text);
      SchemaValue value;
      REQUIRE_NOTHROW(value = nlohmann::ordered_json::parse(text));
      CHECK(Validator(schema).valid(value, schema));
    }
  }
}

TEST_CASE("whatever tokens a text is cut into, they lead to the same state, and all are allowed") {
  std::mt19937 random(3);
  const VocabularyTrie& vocabulary = *json_vocabulary();
  for (const SchemaCase& c : cases())
    for (const char* text : c.right) {
      GrammarMatcher m = schema_matcher(c.schema);
      for (int i = 0; i < 4; ++i) {
        auto state = m.begin();
        for (std::string_view rest = text; !rest.empty();) {
          std::vector<int32_t> fitting;
          for (int32_t t = 0; t < static_cast<int32_t>(vocabulary.size()); ++t)
            if (!vocabulary.bytes(t).empty() && rest.starts_with(vocabulary.bytes(t))) fitting.push_back(t);
          const int32_t token = fitting[random() % fitting.size()];
          const std::vector<uint32_t> bits = m.allowed(state);
          CHECK((bits[static_cast<size_t>(token) / 32] >> token % 32 & 1) == 1);
          state = m.after(state, token);
          rest.remove_prefix(vocabulary.bytes(token).size());
        }
        CHECK(state == m.after(m.begin(), text));
      }
    }
}

TEST_CASE("what is not enforced is refused by name and place") {
  const std::pair<const char*, const char*> refused[] = {
      {R"({"properties": {"a/b": {"multipleOf": 2}}})", "'#/properties/a~1b/multipleOf'"},
      {R"({"type": "array", "uniqueItems": true})", "'#/uniqueItems'"},
      {R"({"not": {}})", "'#/not'"},
      {R"({"if": {}, "then": {}})", "'#/if'"},
      {R"({"patternProperties": {}})", "'#/patternProperties'"},
      {R"({"type": "array", "items": {"contains": {}}})", "'#/items/contains'"},
      {R"({"anyOf": [{}, {"minProperties": 1}]})", "'#/anyOf/1/minProperties'"},
      {R"({"format": "hostname"})", "'#/format'"},
      {R"({"pattern": "a\\1"})", "'#/pattern'"},
      {R"({"pattern": "a", "minLength": 3})", "beside each other"},
      {R"({"type": "number", "minimum": 0.5})", "'#/minimum'"},
      {R"({"type": "integer", "exclusiveMinimum": true})", "'#/exclusiveMinimum'"},
      {R"({"type": "int"})", "'#/type'"},
      {R"({"type": "string", "minLength": -1})", "'#/minLength'"},
      {R"({"enum": [1], "minimum": 0})", "'#/minimum'"},
      {R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})", "'#/oneOf'"},
      {R"({"oneOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"a": {"const": 2}}}]})", "'#/oneOf'"},
      {R"({"$ref": "other.json"})", "'#/$ref'"},
      {R"({"$ref": "#/$defs/none"})", "'#/$ref'"},
      {R"({"$ref": "#/$defs/~2"})", "'#/$ref'"},
      {R"({"allOf": [{"pattern": "a"}, {"pattern": "b"}]})", "'#/allOf/1/pattern'"},
      {R"({"properties": 3})", "'#/properties'"},
      {R"({"required": "a"})", "'#/required'"},
      {R"({"properties": {"a": 3}})", "'#/properties/a'"},
      {R"({"items": [{}]})", "'#/items'"},
      {R"({"type": "integer", "minimum": 5, "maximum": 4})", "no finite text"},
      {R"({"type": "array", "minItems": 3, "maxItems": 2})", "no finite text"},
      {R"({"$ref": "#"})", "no finite text"},
      {R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})", "no finite text"},
      {R"({"allOf": [{"const": 1}, {"const": 2}]})", "no finite text"},
      {R"({"allOf": [{"const": 1}, {"const": 2, "type": "integer"}]})", "no finite text"},
      {R"({"const": "a", "anyOf": [{"const": "b", "type": "string"}]})", "no finite text"},
      {"false", "no finite text"},
      {"3", "expected an object, true or false"},
      {"{", "parse error"},
  };
  for (const auto& [schema, part] : refused) {
    INFO(schema << ": " << why_refused(schema));
    CHECK(why_refused(schema).find(part) != std::string::npos);
    CHECK(why_refused(schema).find('\n') == std::string::npos);
  }
}

TEST_CASE("hostile schemas are refused in time") {
  std::string deep = "{}", twice = R"({"$defs": {"a0": {"type": "object"})", many = R"({"enum": [0)",
              wide = R"({"properties": {"a": {})";
  for (int i = 0; i < 90; ++i) deep = R"({"items": )" + deep + "}";
  CHECK(why_refused(deep) == "");
  for (int i = 0; i < 500; ++i) deep = R"({"items": )" + deep + "}";
  CHECK(why_refused(deep).find("deeper") != std::string::npos);
  for (int i = 0; i < 25; ++i)
    twice +=
        fmt::format(R"(, "a{}": {{"allOf": [{{"$ref": "#/$defs/a{}"}}, {{"$ref": "#/$defs/a{}"}}]}})", i + 1, i, i);
  CHECK(why_refused(twice + R"(}, "$ref": "#/$defs/a25"})").find("too large") != std::string::npos);
  CHECK(why_refused(R"({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a", "type": "null"})") !=
        "");
  for (int i = 1; i < 20000; ++i) many += fmt::format(", {}", i * 7919);
  GrammarMatcher m = schema_matcher(many + "]}");
  CHECK(accepts(m, "7919"));
  CHECK(!accepts(m, "7920"));
  for (int i = 1; i < 3000; ++i) wide += fmt::format(R"(, "a{}": {{"maxLength": 1000000000}})", i);
  GrammarMatcher w = schema_matcher(wide + "}}");
  CHECK(accepts(w, R"({"a7":"x","a2999":""})"));
  std::string big = R"({"const": ")" + std::string(size_t{17} << 20, 'x') + "\"}";
  CHECK(why_refused(big).find("too large") != std::string::npos);
}
