#include "serve/tool_grammar.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "text/grammar/json_schema.h"

namespace lathe {
namespace {

using SchemaJson = nlohmann::ordered_json;
using How = ToolForm::Arguments;

SchemaJson member_of(const SchemaJson& json, const char* name) {
  return json.is_object() ? json.value(name, SchemaJson()) : SchemaJson();
}

// Arguments of one tool.
class ArgumentGrammar {
 public:
  ArgumentGrammar(GrammarBuilder& g, const ToolForm& form, const SchemaJson& schema, const std::string& tool,
                  const SpelledText& spelled)
      : g_(g), form_(form), schema_(schema), tool_(tool), spelled_(spelled) {}

  GrammarPart whole() {
    switch (form_.arguments) {
      case How::objects:
      case How::named: return json(schema_);
      case How::tagged: return tagged();
      case How::bare: return object(schema_);
    }
    return g_.text("");
  }

 private:
  // What it refers to is found in the whole schema.
  GrammarPart json(SchemaJson schema) {
    for (const char* definitions : {"$defs", "definitions"})
      if (const SchemaJson of = member_of(schema_, definitions); !of.is_null() && schema.is_object())
        schema[definitions] = of;
    return json_schema(g_, schema, tool_);
  }

  static bool is_required(const SchemaJson& schema, const std::string& name) {
    const SchemaJson required = member_of(schema, "required");
    return required.is_array() && std::find(required.begin(), required.end(), name) != required.end();
  }
  static bool is_text(const SchemaJson& schema) {
    const SchemaJson type = member_of(schema, "type");
    return type == "string" || (type.is_array() && std::find(type.begin(), type.end(), "string") != type.end());
  }
  // A text up to a mark, and that.
  GrammarPart text(const SchemaJson& schema, std::string_view mark) {
    const SchemaJson texts = member_of(schema, "enum");
    const auto is_string = [](const SchemaJson& one) { return one.is_string(); };
    if (!texts.is_array() || texts.empty() || !std::all_of(texts.begin(), texts.end(), is_string))
      return g_.up_to(mark);
    return g_.sequence({g_.one_of(texts.get<std::vector<std::string>>()), spelled_(mark)});
  }

  GrammarPart tagged() {
    std::vector<GrammarPart> all;
    const SchemaJson properties = member_of(schema_, "properties");
    for (const auto& [name, schema] : properties.items()) {
      const bool free = is_text(schema) || !schema.is_object() || schema.empty();
      const GrammarPart value =
          free ? text(schema, form_.behind_value) : g_.sequence({json(schema), spelled_(form_.behind_value)});
      const GrammarPart one = g_.sequence(
          {spelled_(form_.before_key), g_.text(name), spelled_(form_.behind_key), spelled_(form_.before_value), value});
      all.push_back(is_required(schema_, name) ? one : g_.optional(one));
    }
    return g_.sequence(std::move(all));
  }

  GrammarPart object(const SchemaJson& schema) {
    // What may follow the members so far, from the last on: where there are none yet, and where there are some.
    GrammarPart first = g_.text("}"), next = first;
    const SchemaJson properties = member_of(schema, "properties");
    for (auto at = properties.rbegin(); at != properties.rend(); ++at) {
      const GrammarPart member = g_.sequence({g_.text(at.key() + ":"), bare(at.value()), next});
      const GrammarPart further = g_.sequence({g_.text(","), member});
      const bool required = is_required(schema, at.key());
      first = required ? member : g_.any_of({member, first});
      next = required ? further : g_.any_of({further, next});
    }
    return g_.sequence({g_.text("{"), first});
  }
  GrammarPart bare(const SchemaJson& schema) {
    const SchemaJson type = member_of(schema, "type");
    if (type == "object") return object(schema);
    if (type == "array") {
      const GrammarPart item = bare(member_of(schema, "items"));
      const GrammarPart items = g_.sequence({item, g_.repeat(g_.sequence({g_.text(","), item}), 0)});
      return g_.sequence({g_.text("["), g_.optional(items), g_.text("]")});
    }
    const GrammarPart marked = g_.sequence({spelled_(form_.before_value), text(schema, form_.behind_value)});
    if (is_text(schema)) return marked;
    if (!type.is_null()) return json(schema);
    return g_.any_of({marked, json({{"type", {"number", "boolean", "null"}}})});
  }

  GrammarBuilder& g_;
  const ToolForm& form_;
  const SchemaJson& schema_;
  const std::string& tool_;
  const SpelledText& spelled_;
};

}  // namespace

GrammarPart call_grammar(GrammarBuilder& g, const ToolForm& form, const SchemaJson& tools, const SpelledText& spelled) {
  std::vector<GrammarPart> calls;
  for (const SchemaJson& tool : tools) {
    const std::string name = tool["function"]["name"];
    SchemaJson parameters = member_of(tool["function"], "parameters");
    if (parameters.is_null() || parameters.empty()) parameters = {{"type", "object"}};
    calls.push_back(g.sequence(
        {g.text(name), spelled(form.behind_name), ArgumentGrammar(g, form, parameters, name, spelled).whole()}));
  }
  return g.sequence({g.optional(spelled(form.may_lead)), spelled(form.begin), spelled(form.before_name),
                     g.any_of(std::move(calls)), spelled(form.behind_call), spelled(form.end)});
}

}  // namespace lathe
