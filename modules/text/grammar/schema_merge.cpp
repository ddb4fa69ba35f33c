#include "text/grammar/schema_merge.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "formats/quote.h"

namespace lathe {
namespace {

using SchemaJson = Schemas::Json;

const std::set<std::string_view> kAnnotations = {
    "title",    "description",  "default",       "examples",         "example",         "deprecated",
    "readOnly", "writeOnly",    "$schema",       "$comment",         "$defs",           "definitions",
    "xml",      "externalDocs", "discriminator", "contentMediaType", "contentEncoding", "contentSchema"};
// Keywords with the type of the values that they are about; "": all.
const std::map<std::string_view, std::string_view> kAssertions = {
    {"type", ""},
    {"enum", ""},
    {"const", ""},
    {"anyOf", ""},
    {"oneOf", ""},
    {"allOf", ""},
    {"$ref", ""},
    {"nullable", ""},
    {"properties", "object"},
    {"required", "object"},
    {"additionalProperties", "object"},
    {"items", "array"},
    {"prefixItems", "array"},
    {"minItems", "array"},
    {"maxItems", "array"},
    {"minLength", "string"},
    {"maxLength", "string"},
    {"pattern", "string"},
    {"format", "string"},
    {"minimum", "number"},
    {"maximum", "number"},
    {"exclusiveMinimum", "number"},
    {"exclusiveMaximum", "number"},
};
const std::vector<std::string> kTypes = {"null", "boolean", "string", "integer", "number", "array", "object"};

bool contains(const auto& list, const auto& value) { return std::find(list.begin(), list.end(), value) != list.end(); }

std::vector<std::string> types_of(const SchemaJson& value) {
  if (value.is_null()) return {"null"};
  if (value.is_boolean()) return {"boolean"};
  if (value.is_string()) return {"string"};
  if (value.is_array()) return {"array"};
  if (value.is_object()) return {"object"};
  const double x = value.get<double>();
  return x == std::floor(x) ? std::vector<std::string>{"integer", "number"} : std::vector<std::string>{"number"};
}

SchemaJson nothing() { return {{"enum", SchemaJson::array()}}; }

}  // namespace

void Schemas::fail(const std::string& path, const std::string& message) const {
  throw SchemaError(fmt::format("{}: {}: {}", where_, quote("#" + path), message));
}

void Schemas::work(size_t bytes, const std::string& path) {
  work_ += bytes + 64;
  if (work_ > kMostBytes)
    fail(path, fmt::format("the schema is too large: with what it refers to, more than {} MiB", kMostBytes >> 20));
}

bool Schemas::is_assertion(std::string_view keyword) { return kAssertions.contains(keyword); }

int64_t Schemas::assertions(const Json& schema) {
  int64_t count = 0;
  for (const auto& [key, value] : schema.items()) count += is_assertion(key);
  return count;
}

void Schemas::check_keywords(const Json& schema, const std::string& path) const {
  for (const auto& [key, value] : schema.items()) {
    if (is_assertion(key) || kAnnotations.contains(key) || key.starts_with("x-")) continue;
    if (key == "uniqueItems" && value == Json(false)) continue;
    if (key == "$id" && path.empty()) continue;
    fail(path + "/" + escaped(key), "it is not supported");
  }
}

std::string Schemas::escaped(std::string_view name) {
  std::string result;
  for (const char c : name) result += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return result;
}

std::pair<const Schemas::Json*, std::string> Schemas::resolve(const Json& reference, const std::string& path) const {
  const std::string text = reference.is_string() ? reference.get<std::string>() : "";
  if (text != "#" && !text.starts_with("#/"))
    fail(path + "/$ref", "expected a place in this document such as #/$defs/name, found " + reference.dump());
  const std::string pointer = text.substr(1);
  try {
    return {&root_.at(Json::json_pointer(pointer)), pointer};
  } catch (const Json::exception&) {
    fail(path + "/$ref", "there is no " + quote(text));
  }
}

Schemas::Json Schemas::merged(const Json& schema, const std::string& path) {
  if (schema.is_boolean()) return schema.get<bool>() ? Json::object() : nothing();
  if (!schema.is_object()) fail(path, "expected an object, true or false");
  check_keywords(schema, path);
  work(schema.dump().size(), path);
  if (++nested_ > 64) fail(path, "references to references without end");
  Json result = schema;
  result.erase("$ref");
  result.erase("allOf");
  if (schema.contains("$ref")) {
    const auto [target, target_path] = resolve(schema["$ref"], path);
    result = both(result, merged(*target, target_path), path);
  }
  if (schema.contains("allOf")) {
    const Json& parts = schema["allOf"];
    if (!parts.is_array()) fail(path + "/allOf", "expected an array of schemas");
    for (size_t i = 0; i < parts.size(); ++i) {
      const std::string at = fmt::format("{}/allOf/{}", path, i);
      result = both(result, merged(parts[i], at), at);
    }
  }
  --nested_;
  return result;
}

Schemas::Json Schemas::both(const Json& a, const Json& b, const std::string& path) {
  if (a.contains("const") && b.contains("const") && a["const"] != b["const"]) return nothing();
  if (assertions(b) == 0) return a;
  if (assertions(a) == 0) return b;
  const auto of = [](const Json& schema, const char* key) { return schema.contains(key) ? schema[key] : Json(); };
  if (of(a, "prefixItems") != of(b, "prefixItems") &&
      (a.contains("items") || b.contains("items") || (a.contains("prefixItems") && b.contains("prefixItems"))))
    fail(path + "/prefixItems", "it stands beside other items in schemas that all hold: not supported");
  if (of(a, "nullable") != of(b, "nullable"))
    fail(path + "/nullable", "it stands in one of several schemas that all hold: not supported");
  Json result = a;
  for (const auto& [key, value] : b.items()) {
    if (!a.contains(key))
      result[key] = value;
    else if (is_assertion(key) && a[key] != value)
      merge(result, key, value, path);
  }
  // What one says of other properties holds for those that the other names.
  for (const auto& [strict, named] : {std::pair{&a, &b}, std::pair{&b, &a}})
    if (strict->contains("additionalProperties") && named->contains("properties"))
      for (const auto& [name, property] : (*named)["properties"].items())
        if (!strict->contains("properties") || !(*strict)["properties"].contains(name))
          result["properties"][name] = {{"allOf", {property, (*strict)["additionalProperties"]}}};
  work(result.dump().size(), path);
  return result;
}

// `other` is what the second schema says, and not what result[keyword] does.
void Schemas::merge(Json& result, const std::string& keyword, const Json& other, const std::string& path) const {
  Json& own = result[keyword];
  const bool numbers = own.is_number() && other.is_number();
  if (keyword == "type") {
    const std::vector<std::string> mine = types({{"type", own}}, path), theirs = types({{"type", other}}, path);
    Json common = Json::array();
    for (const std::string& type : mine)
      if (contains(theirs, type) || (type == "integer" && contains(theirs, "number"))) common.push_back(type);
    if (contains(mine, "number") && contains(theirs, "integer")) common.push_back("integer");
    own = common;
  } else if (keyword == "required" || keyword == "enum") {
    if (!own.is_array() || !other.is_array()) fail(path + "/" + keyword, "expected an array");
    Json list = keyword == "required" ? own : Json::array();
    for (const Json& value : other)
      if (contains(own, value) == (keyword == "enum")) list.push_back(value);
    own = list;
  } else if (numbers && (keyword.starts_with("min") || keyword == "exclusiveMinimum")) {
    own = own < other ? other : own;
  } else if (numbers && (keyword.starts_with("max") || keyword == "exclusiveMaximum")) {
    own = own < other ? own : other;
  } else if (keyword == "properties" && own.is_object() && other.is_object()) {
    for (const auto& [name, value] : other.items())
      own[name] = own.contains(name) && own[name] != value ? Json{{"allOf", {own[name], value}}} : value;
  } else if (keyword == "items" || keyword == "additionalProperties") {
    own = Json{{"allOf", {own, other}}};
  } else {
    fail(path + "/" + keyword, "it stands in several schemas that all hold: not supported");
  }
}

std::vector<std::string> Schemas::types(const Json& schema, const std::string& path) const {
  std::vector<std::string> found;
  if (schema.contains("type")) {
    const Json& given = schema["type"];
    for (const Json& type : given.is_array() ? given : Json::array({given})) {
      if (!type.is_string() || !contains(kTypes, type.get<std::string>()))
        fail(path + "/type", "expected null, boolean, string, integer, number, array or object, found " + type.dump());
      if (!contains(found, type.get<std::string>())) found.push_back(type.get<std::string>());
    }
  } else {
    for (const auto& [key, value] : schema.items()) {
      const auto keyword = kAssertions.find(key);
      if (keyword != kAssertions.end() && !keyword->second.empty() && !contains(found, keyword->second))
        found.emplace_back(keyword->second);
    }
    if (found.empty()) found = kTypes;
  }
  if (contains(found, "number")) std::erase(found, "integer");
  return found;
}

bool Schemas::has_type(const Json& value, const std::vector<std::string>& types) {
  const std::vector<std::string> own = types_of(value);
  return std::any_of(own.begin(), own.end(), [&](const std::string& type) { return contains(types, type); });
}

std::vector<std::string> Schemas::required(const Json& schema, const std::string& path) const {
  std::vector<std::string> names;
  if (!schema.contains("required")) return names;
  const Json& list = schema["required"];
  if (!list.is_array()) fail(path + "/required", "expected an array of names");
  for (const Json& name : list) {
    if (!name.is_string()) fail(path + "/required", "expected an array of names");
    if (!contains(names, name.get<std::string>())) names.push_back(name.get<std::string>());
  }
  return names;
}

std::optional<int64_t> Schemas::whole_number(const Json& number) {
  constexpr int64_t kMost = int64_t{1} << 62;
  if (number.is_number_unsigned() && number.get<uint64_t>() > static_cast<uint64_t>(kMost)) return std::nullopt;
  if (number.is_number_integer()) return std::clamp(number.get<int64_t>(), -kMost, kMost);
  if (!number.is_number_float()) return std::nullopt;
  const auto x = number.get<double>();
  if (x != std::floor(x) || std::abs(x) > static_cast<double>(kMost)) return std::nullopt;
  return static_cast<int64_t>(x);
}

// The only values that satisfy it, where it lists them.
std::vector<Schemas::Json> Schemas::listed(const Json& schema) const {
  if (schema.contains("const")) return std::vector<Json>(1, schema["const"]);
  return schema["enum"].is_array() ? schema["enum"].get<std::vector<Json>>() : std::vector<Json>();
}

bool Schemas::are_disjoint(const Json& a, const Json& b, const std::string& path, int nested) {
  if (nested > 8) return false;
  const Json one = merged(a, path), two = merged(b, path);
  for (const auto& [with, other] : {std::pair{&one, &two}, std::pair{&two, &one}})
    for (const char* keyword : {"anyOf", "oneOf"})
      if (with->contains(keyword) && (*with)[keyword].is_array()) {
        const Json& list = (*with)[keyword];
        return std::all_of(list.begin(), list.end(),
                           [&, other = other](const Json& s) { return are_disjoint(s, *other, path, nested + 1); });
      }
  const auto is_listed = [](const Json& s) { return s.contains("const") || s.contains("enum"); };
  const auto typed = [&](const Json& s) {
    std::vector<std::string> found = s.contains("type") ? types(s, path) : kTypes;
    if (contains(found, "number") && !contains(found, "integer")) found.emplace_back("integer");
    if (s.contains("nullable") && s["nullable"] == Json(true)) found.emplace_back("null");
    return found;
  };
  const std::vector<std::string> types_one = typed(one), types_two = typed(two);
  if (std::none_of(types_one.begin(), types_one.end(), [&](const auto& t) { return contains(types_two, t); }))
    return true;
  if (one.contains("nullable") || two.contains("nullable")) return false;
  for (const auto& [with, other, others_types] :
       {std::tuple{&one, &two, &types_two}, std::tuple{&two, &one, &types_one}})
    if (is_listed(*with)) {
      const std::vector<Json> values = listed(*with);
      return std::none_of(values.begin(), values.end(), [&, other = other, types = others_types](const Json& v) {
        return has_type(v, *types) && (!is_listed(*other) || contains(listed(*other), v));
      });
    }
  const std::vector<std::string> object = {"object"};
  if ((types_one != object && types_two != object) || !one.contains("properties") || !two.contains("properties"))
    return false;
  const std::vector<std::string> needed = required(two, path);
  for (const std::string& name : required(one, path))
    if (contains(needed, name) && one["properties"].contains(name) && two["properties"].contains(name) &&
        are_disjoint(one["properties"][name], two["properties"][name], path, nested + 1))
      return true;
  return false;
}

}  // namespace lathe
