// Values as text in given formats: printf-style (`"%5.1f" % x`), str.format, JSON, dates.
#pragma once
#include <ctime>
#include <string>
#include <string_view>

#include "text/chat_template/value.h"

namespace lathe::jinja {

// format % value, where value is a tuple of arguments, a dict for %(name)s, or the only argument.
std::string format_percent(std::string_view format, const Value& value);

// format.format(*arguments, **keywords), with fields such as {}, {0.name[key]!r:>8}.
std::string format_braces(std::string_view format, const Arguments& arguments);

// As Python's json.dumps: separators ", " and ": ", none but a newline after items where `indent` is given.
struct JsonStyle {
  bool ascii_only = false;
  bool sorts_keys = false;
  std::optional<std::string> indent;
  std::string item_separator = ", ", key_separator = ": ";
};
std::string to_json(const Value& value, const JsonStyle& style);

// chr(code): the character of an int; fails on what is none.
std::string character_text(const Value& code);

// strftime of a moment without a time zone, in English.
std::string format_time(const std::tm& time, std::string_view format);

}  // namespace lathe::jinja
