#include "text/grammar/json_schema.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "formats/quote.h"
#include "formats/strict_json.h"
#include "text/grammar/json_grammar.h"
#include "text/grammar/pattern_grammar.h"
#include "text/grammar/schema_merge.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMostNestedSchemas = 100;

// Of dates: every day from year 1 on that is in the calendar.
constexpr const char* kDate =
    "((000[1-9]|00[1-9]\\d|0[1-9]\\d\\d|[1-9]\\d{3})-"
    "((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))|"
    "(\\d\\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29)";
constexpr const char* kTime = "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)";
constexpr const char* kByte = "(\\d|[1-9]\\d|1\\d\\d|2[0-4]\\d|25[0-5])";

// A pattern whose texts all have the format; empty: none is known.
std::string pattern_of_format(const std::string& format) {
  if (format == "date") return fmt::format("^{}$", kDate);
  if (format == "time") return fmt::format("^{}$", kTime);
  if (format == "date-time") return fmt::format("^{}T{}$", kDate, kTime);
  if (format == "uuid") return "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$";
  if (format == "ipv4") return fmt::format("^{0}(\\.{0}){{3}}$", kByte);
  // Words of RFC 5321 without quotation, at most 64 characters, at a name of at most four labels.
  if (format == "email")
    return "^[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,31})?@([A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?\\.){1,3}"
           "[A-Za-z]{2,24}$";
  return {};
}

class SchemaReader {
 public:
  SchemaReader(GrammarBuilder& builder, const Json& root, std::string where)
      : g_(builder), json_(builder), schemas_(root, std::move(where)) {}

  // The values of any schema. Equal schemas are one rule, which is how recursive ones come to an end.
  GrammarPart value(const Json& schema, const std::string& path) {
    if (schema.is_boolean()) return schema.get<bool>() ? json_.value() : g_.any_of({});
    if (!schema.is_object()) schemas_.fail(path, "expected an object, true or false");
    const std::string text = schema.dump();
    schemas_.work(text.size(), path);
    const auto found = rules_.find(text);
    if (found != rules_.end()) return found->second;
    const GrammarPart rule = rules_[text] = g_.rule();
    if (++nested_ > kMostNestedSchemas)
      schemas_.fail(path, fmt::format("schemas are nested deeper than {} levels", kMostNestedSchemas));
    try {
      g_.define(rule, meaning(schema, path));
    } catch (const SchemaError&) {
      throw;
    } catch (const Error& e) {
      schemas_.fail(path, e.what());
    }
    --nested_;
    return rule;
  }

 private:
  GrammarPart meaning(const Json& given, const std::string& path) {
    schemas_.check_keywords(given, path);
    if (given.contains("$ref") && Schemas::assertions(given) == 1) {
      const auto [target, target_path] = schemas_.resolve(given["$ref"], path);
      return value(*target, target_path);
    }
    Json schema = schemas_.merged(given, path);
    for (const char* keyword : {"anyOf", "oneOf"})
      if (schema.contains(keyword)) return alternatives(schema, keyword, path);
    if (schema.contains("nullable")) {
      const Json nullable = schema["nullable"];
      if (!nullable.is_boolean()) schemas_.fail(path + "/nullable", "expected true or false");
      schema.erase("nullable");
      if (nullable.get<bool>()) return g_.any_of({value(schema, path), json_.null()});
    }
    if (schema.contains("const")) return listed(std::vector<Json>(1, schema["const"]), schema, path, "const");
    if (schema.contains("enum")) {
      if (!schema["enum"].is_array()) schemas_.fail(path + "/enum", "expected an array");
      return listed(schema["enum"].get<std::vector<Json>>(), schema, path, "enum");
    }
    std::vector<GrammarPart> parts;
    for (const std::string& type : schemas_.types(schema, path)) parts.push_back(of_type(type, schema, path));
    return g_.any_of(std::move(parts));
  }

  // The rest of the schema holds for each of them.
  GrammarPart alternatives(Json schema, const char* keyword, const std::string& path) {
    const Json list = schema[keyword];
    const std::string place = path + "/" + keyword;
    if (!list.is_array() || list.empty()) schemas_.fail(place, "expected an array of schemas");
    schema.erase(keyword);
    std::vector<GrammarPart> parts;
    std::vector<Json> whole;
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string at = fmt::format("{}/{}", place, i);
      whole.push_back(Schemas::assertions(schema) == 0 ? list[i]
                                                       : schemas_.both(schema, schemas_.merged(list[i], at), at));
      parts.push_back(value(whole.back(), at));
    }
    if (std::string_view(keyword) == "oneOf")
      for (size_t i = 0; i < whole.size(); ++i)
        for (size_t j = 0; j < i; ++j)
          if (!schemas_.are_disjoint(whole[j], whole[i], place))
            schemas_.fail(place, fmt::format("one value could satisfy both {} and {}: not supported but where types, "
                                             "enums or a required member tell them apart; anyOf is",
                                             j, i));
    return g_.any_of(std::move(parts));
  }

  GrammarPart listed(const std::vector<Json>& values, const Json& schema, const std::string& path,
                     const char* keyword) {
    for (const auto& [key, rule] : schema.items())
      if (key != keyword && key != "type" && Schemas::is_assertion(key))
        schemas_.fail(path + "/" + key, fmt::format("it is not supported beside {}", keyword));
    std::vector<std::string> texts;
    for (const Json& v : values)
      if (!schema.contains("type") || schemas_.has_type(v, schemas_.types(schema, path))) texts.push_back(v.dump());
    return g_.one_of(std::move(texts));
  }

  GrammarPart of_type(const std::string& type, const Json& schema, const std::string& path) {
    if (type == "null") return json_.null();
    if (type == "boolean") return json_.boolean();
    if (type == "string") return string(schema, path);
    if (type == "array") return array(schema, path);
    if (type == "object") return object(schema, path);
    return number(schema, path, type == "integer");
  }

  GrammarPart string(const Json& schema, const std::string& path) {
    const bool counted = schema.contains("minLength") || schema.contains("maxLength");
    if (counted + schema.contains("pattern") + schema.contains("format") > 1)
      schemas_.fail(path, "pattern, format and bounds of the length are not supported beside each other");
    if (counted) {
      const auto [least, most] = counts(schema, "minLength", "maxLength", path);
      return least <= most ? json_.string(least, most) : g_.any_of({});
    }
    if (schema.contains("pattern")) {
      if (!schema["pattern"].is_string()) schemas_.fail(path + "/pattern", "expected a string");
      try {
        return json_.quoted(pattern_grammar(g_, schema["pattern"].get<std::string>()));
      } catch (const Error& e) {
        schemas_.fail(path + "/pattern", e.what());
      }
    }
    if (schema.contains("format")) {
      const Json& format = schema["format"];
      const std::string pattern = format.is_string() ? pattern_of_format(format.get<std::string>()) : "";
      if (pattern.empty())
        schemas_.fail(path + "/format",
                      format.dump() + " is not supported: date, time, date-time, uuid, ipv4, email are");
      return json_.quoted(pattern_grammar(g_, pattern));
    }
    return json_.string();
  }

  // A number of things from `lowest` to `highest`.
  std::pair<uint32_t, uint32_t> counts(const Json& schema, const char* lowest, const char* highest,
                                       const std::string& path) {
    const auto count = [&](const char* name, uint32_t otherwise) {
      if (!schema.contains(name)) return otherwise;
      const std::optional<int64_t> n = schemas_.whole_number(schema[name]);
      if (!n || *n < 0) schemas_.fail(path + "/" + name, "expected an integer from 0 on, found " + schema[name].dump());
      return static_cast<uint32_t>(std::min<int64_t>(*n, Grammar::kUnbounded - 1));
    };
    return {count(lowest, 0), count(highest, Grammar::kUnbounded)};
  }

  GrammarPart array(const Json& schema, const std::string& path) {
    const auto [least, most] = counts(schema, "minItems", "maxItems", path);
    std::vector<GrammarPart> first;
    if (schema.contains("prefixItems")) {
      const Json& list = schema["prefixItems"];
      if (!list.is_array()) schemas_.fail(path + "/prefixItems", "expected an array of schemas");
      for (size_t i = 0; i < list.size(); ++i)
        first.push_back(value(list[i], fmt::format("{}/prefixItems/{}", path, i)));
    }
    if (schema.contains("items")) return json_.list(first, value(schema["items"], path + "/items"), least, most);
    const bool no_others = !first.empty() && least <= first.size();
    return json_.list(first, no_others ? g_.any_of({}) : json_.value(), least, most);
  }

  GrammarPart object(const Json& schema, const std::string& path) {
    const Json empty = Json::object();
    const Json& properties = schema.contains("properties") ? schema["properties"] : empty;
    if (!properties.is_object()) schemas_.fail(path + "/properties", "expected an object");
    const std::vector<std::string> required = schemas_.required(schema, path);
    const Json others = schema.contains("additionalProperties") ? schema["additionalProperties"] : Json(true);
    const bool has_others = schema.contains("additionalProperties") || !schema.contains("properties");
    std::vector<std::pair<std::string, Json>> members;
    for (const auto& [name, of] : properties.items()) members.emplace_back(name, of);
    for (const std::string& name : required)
      if (!properties.contains(name)) members.emplace_back(name, others);
    std::vector<std::string> names;
    for (const auto& [name, of] : members) names.push_back(name);

    const GrammarPart comma = g_.sequence({g_.text(","), json_.gap()});
    GrammarPart started = g_.sequence({json_.gap(), g_.text("}")}), fresh = g_.text("}");  // what follows, from behind
    if (has_others && others != Json(false)) {
      if (names.empty() && others == Json(true)) return json_.object();
      const GrammarPart other = json_.other_member(names, value(others, path + "/additionalProperties"));
      const GrammarPart more = g_.sequence({g_.repeat(g_.sequence({comma, other}), 0), started});
      fresh = g_.any_of({fresh, g_.sequence({json_.gap(), other, more})});
      started = more;
    }
    for (size_t i = members.size(); i-- > 0;) {
      const auto& [name, of] = members[i];
      const bool needed = std::find(required.begin(), required.end(), name) != required.end();
      const std::string at =
          properties.contains(name) ? path + "/properties/" + Schemas::escaped(name) : path + "/additionalProperties";
      const GrammarPart member = json_.member(name, value(of, at));
      const GrammarPart then = g_.sequence({comma, member, started}),
                        first = g_.sequence({json_.gap(), member, started});
      fresh = needed ? first : g_.any_of({first, fresh});
      started = needed ? then : g_.any_of({then, started});
    }
    return g_.sequence({g_.text("{"), fresh});
  }

  GrammarPart number(const Json& schema, const std::string& path, bool integer) {
    NumberBounds bounds;
    for (const auto& [name, exclusive, is_lowest] :
         {std::tuple{"minimum", false, true}, std::tuple{"maximum", false, false},
          std::tuple{"exclusiveMinimum", true, true}, std::tuple{"exclusiveMaximum", true, false}}) {
      if (!schema.contains(name)) continue;
      const Json& given = schema[name];
      const std::string at = path + "/" + name;
      if (!given.is_number()) schemas_.fail(at, "expected a number, found " + given.dump());
      const std::optional<int64_t> exact = schemas_.whole_number(given);
      const double x = given.get<double>();
      int64_t bound = 0;
      if (integer) {
        const auto most = static_cast<double>(NumberBounds::kMostInteger);
        bound = exact ? *exact
                      : static_cast<int64_t>(std::clamp(is_lowest ? std::ceil(x) : std::floor(x), -2 * most, 2 * most));
        if (exclusive && exact) bound += is_lowest ? 1 : -1;
      } else {
        if (!exact || std::abs(*exact) > NumberBounds::kMostBound)
          schemas_.fail(at,
                        fmt::format("of numbers that are no integers only bounds that are, up to {}, are supported, "
                                    "found {}",
                                    NumberBounds::kMostBound, given.dump()));
        bound = *exact;
      }
      std::optional<int64_t>& side = is_lowest ? bounds.lowest : bounds.highest;
      bool& open = is_lowest ? bounds.above_lowest : bounds.below_highest;
      const bool tighter = !side || (is_lowest ? bound > *side : bound < *side);
      if (tighter || bound == *side) open = !integer && (exclusive || (!tighter && open));
      if (tighter) side = bound;
    }
    return integer ? json_.integer(bounds) : json_.number(bounds);
  }

  GrammarBuilder& g_;
  JsonGrammar json_;
  Schemas schemas_;
  std::map<std::string, GrammarPart> rules_;  // by the schema's text
  int nested_ = 0;
};

}  // namespace

GrammarPart json_schema(GrammarBuilder& builder, const Json& schema, const std::string& where) {
  return SchemaReader(builder, schema, where).value(schema, "");
}

std::shared_ptr<const Grammar> json_schema_grammar(std::string_view schema, const std::string& where) {
  GrammarBuilder builder;
  const Json parsed = parse_ordered_json(schema, where, 2 * kMostNestedSchemas);
  const GrammarPart part = json_schema(builder, parsed, where);
  try {
    return builder.finish(part);
  } catch (const Error& e) {
    throw Error(fmt::format("{}: {}", where, e.what()));
  }
}

}  // namespace lathe
