// JSON Schema (draft 2020-12, and what earlier drafts and OpenAPI 3.0 spell otherwise) as a grammar.
//
// Every text of the grammar is a value that satisfies the schema; not every such value is a text of it:
//   - members come in the order of `properties`, as OpenAI's do; those that are not required may be left out. Where
//     `properties` is given and `additionalProperties` is not, there are no others; likewise `items` after prefixItems
//   - numbers, blanks: text/grammar/json_grammar.h; numbers with bounds (which must be integers) have no exponent
//   - a schema that names keywords of one type and no `type` means that type
//
// A keyword is enforced, or refused by name and place: never passed over. Enforced are type, enum, const, properties,
// required, additionalProperties, items, prefixItems, minItems, maxItems, minLength, maxLength, pattern, format (date,
// time, date-time, uuid, ipv4, email), minimum, maximum, exclusiveMinimum, exclusiveMaximum, anyOf, oneOf (where no two
// can hold at once), allOf and what stands beside $ref (where they can be merged), $ref within the document, nullable.
// What describes (title, description, default, examples, ...) changes nothing.
#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "text/grammar/grammar.h"

namespace lathe {

// The values that satisfy `schema`, from their first byte to their last. `where` names it in messages. Throws Error
// naming the keyword and its JSON pointer (RFC 6901) where the schema is none, asks for what is not supported, or is
// larger than limits that a hostile one would break.
GrammarPart json_schema(GrammarBuilder& builder, const nlohmann::ordered_json& schema, const std::string& where);

// The same from its text, whole: one value and nothing else. {"type": "object"}: any JSON object.
std::shared_ptr<const Grammar> json_schema_grammar(std::string_view schema, const std::string& where);

}  // namespace lathe
