// What an OpenAI answer must be: `response_format` of chat completions and `text.format` of responses.
#pragma once
#include <string>

#include "serve/request_fields.h"

namespace lathe {

// Reads the field `name`: {"type": "text"}, {"type": "json_object"}, or {"type": "json_schema"} with its schema, in
// "json_schema" or beside the type, into `options`. `strict` may be said: every answer is held to the whole schema
// anyway.
void read_response_format(RequestFields& fields, const std::string& name, RequestOptions& options);

}  // namespace lathe
