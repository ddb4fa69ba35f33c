// The filters for HTML, URLs and wrapped text; find_filter (builtins.h) knows them too.
#pragma once
#include <string_view>

#include "text/chat_template/builtins.h"

namespace lathe::jinja {

// Null where there is none of that name.
const Builtin* find_text_filter(std::string_view name);

}  // namespace lathe::jinja
