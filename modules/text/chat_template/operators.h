// The operators of the template language on values, with Python's rules: what is an error there is an Error here.
#pragma once
#include <string_view>

#include "text/chat_template/value.h"

namespace lathe::jinja {

Value add(const Value& a, const Value& b);
Value subtract(const Value& a, const Value& b);
Value multiply(const Value& a, const Value& b);
Value divide(const Value& a, const Value& b);        // always a float
Value floor_divide(const Value& a, const Value& b);  // towards minus infinity
Value modulo(const Value& a, const Value& b);        // the sign of b; on a string, printf-style formatting
Value power(const Value& a, const Value& b);
Value negate(const Value& a);
Value positive(const Value& a);

bool contains(const Value& container, const Value& item);
bool not_equal(const Value& a, const Value& b);
bool less(const Value& a, const Value& b);
bool less_equal(const Value& a, const Value& b);
bool greater(const Value& a, const Value& b);
bool greater_equal(const Value& a, const Value& b);

// object.name: Python's methods first, then the dict's key. Undefined where there is neither; undefined too, and an
// error when used, for what the sandbox forbids: names with an underscore in front, and methods that change a list or
// dict.
Value get_attribute(const Value& object, std::string_view name);
// The methods and attributes alone, as Python's getattr.
std::optional<Value> python_attribute(const Value& object, std::string_view name);
// object[index]: the element first, then the attribute.
Value get_item(const Value& object, const Value& index);
// object[start:stop:step], None for a bound that is not given.
Value get_slice(const Value& object, const Value& start, const Value& stop, const Value& step);

// text.find(part, from) and text.rfind(part), whose cost grows with the text alone: that of std::string grows with the
// product of both lengths, which a template could choose. The second charges the budget for what it compares.
std::size_t find_text(std::string_view text, std::string_view part, std::size_t from = 0);
std::size_t find_last_text(std::string_view text, std::string_view part);

}  // namespace lathe::jinja
