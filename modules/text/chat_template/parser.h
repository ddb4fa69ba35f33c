// Template text -> syntax tree, by recursive descent over the grammar of Jinja2 3.1 (jinja2/parser.py), with loop
// controls and `{% generation %}`. Throws Error("line N: ...") on a syntax error, on nesting deeper than
// `maximum_parse_depth`, and on a filter or test that does not exist, unless an `if` decides whether it is used (then
// the error comes when it is, as in the reference).
#pragma once
#include <string_view>

#include "text/chat_template/ast.h"

namespace lathe::jinja {

ast::Body parse_template(std::string_view source);

}  // namespace lathe::jinja
