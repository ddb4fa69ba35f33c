#include "serve/response_format.h"

#include <nlohmann/json.hpp>
#include <set>

#include "text/grammar/json_schema.h"

namespace lathe {

void read_response_format(RequestFields& fields, const std::string& name, RequestOptions& options) {
  fields.read(name, [&](const OrderedJsonNode& node) {
    const std::string type = node.at("type").string();
    if (type == "text") return;
    if (type == "json_object") {
      options.json_schema = R"({"type": "object"})";
    } else if (type == "json_schema") {
      const OrderedJsonNode format = node.has("json_schema") ? node.at("json_schema") : node;
      const std::set<std::string> known = {"type", "name", "description", "strict", "schema"};
      for (const auto& [key, value] : format.value().items())
        if (!known.contains(key)) format.fail("unknown key " + quote(key));
      format.boolean_or("strict", false);
      options.json_schema = format.at("schema").value().dump();
    } else {
      node.at("type").expected("\"text\", \"json_object\" or \"json_schema\"");
    }
    json_schema_grammar(*options.json_schema, name);  // a schema that is at fault is the field's fault
  });
}

}  // namespace lathe
