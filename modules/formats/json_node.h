// A place in a JSON document that knows its path, so that every complaint names file, component and field; and the one
// strict reader of JSON's numbers: integers are never cut, a float or a boolean is no integer, a boolean no number.
#pragma once
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {

template <class Json>
class BasicJsonNode {
 public:
  // `where` names the document. `separator` stands between it and a member's name: "file.json.key", "file: line 2:
  // key".
  BasicJsonNode(const Json& value, std::string where, const char* separator = ".")
      : value_(value), where_(std::move(where)), separator_(separator) {}

  const Json& value() const { return value_; }
  const std::string& where() const { return where_; }
  [[noreturn]] void fail(const std::string& message, std::string hint = {}) const {
    throw Error(where_ + ": " + message, std::move(hint));
  }
  [[noreturn]] void expected(const std::string& what) const { fail("expected " + what + ", found " + shown()); }

  // The member `name`, which must be there.
  BasicJsonNode at(const std::string& name) const {
    if (!value_.is_object()) expected("an object");
    auto found = value_.find(name);
    if (found == value_.end()) fail(fmt::format("{} is missing", quote(name)));
    return {*found, where_ + separator_ + plain_or_quoted(name)};
  }
  // Whether the member is there and not null.
  bool has(const std::string& name) const {
    if (!value_.is_object()) return false;
    auto found = value_.find(name);
    return found != value_.end() && !found->is_null();
  }
  // Element `i` of an array.
  BasicJsonNode at(size_t i) const { return {value_.at(i), fmt::format("{}[{}]", where_, i)}; }
  size_t size() const {
    if (!value_.is_array()) expected("an array");
    return value_.size();
  }

  const std::string& string() const {
    if (!value_.is_string()) expected("a string");
    return value_.template get_ref<const std::string&>();
  }
  bool boolean() const {
    if (!value_.is_boolean()) expected("true or false");
    return value_.template get<bool>();
  }
  double number() const {
    if (!value_.is_number()) expected("a number");
    return value_.template get<double>();
  }
  int64_t integer(int64_t low = std::numeric_limits<int64_t>::min(),
                  int64_t high = std::numeric_limits<int64_t>::max()) const {
    const bool fits =
        value_.is_number_unsigned() ? value_.template get<uint64_t>() <= INT64_MAX : value_.is_number_integer();
    if (!fits || value_.template get<int64_t>() < low || value_.template get<int64_t>() > high)
      expected(low == INT64_MIN && high == INT64_MAX ? "an integer"
               : high == INT64_MAX                   ? fmt::format("an integer from {}", low)
                                                     : fmt::format("an integer from {} to {}", low, high));
    return value_.template get<int64_t>();
  }
  uint64_t unsigned_integer() const {
    if (!value_.is_number_integer() || (!value_.is_number_unsigned() && value_.template get<int64_t>() < 0))
      expected("an integer from 0 to 2^64 - 1");
    return value_.template get<uint64_t>();
  }

  // Members that may be absent or null.
  std::string string_or(const char* name, std::string otherwise) const {
    return has(name) ? at(name).string() : std::move(otherwise);
  }
  bool boolean_or(const char* name, bool otherwise) const { return has(name) ? at(name).boolean() : otherwise; }

 private:
  // A scalar as it is, the kind of anything else.
  std::string shown() const {
    if (value_.is_string()) return quote(value_.template get_ref<const std::string&>());
    return value_.is_object() ? "an object" : value_.is_array() ? "an array" : value_.dump();
  }
  // Most names are ours; some come from the file.
  static std::string plain_or_quoted(std::string_view name) {
    constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyz_0123456789";
    return name.find_first_not_of(kPlain) == name.npos ? std::string(name) : quote(name);
  }

  const Json& value_;
  std::string where_;
  const char* separator_;
};

using JsonNode = BasicJsonNode<nlohmann::json>;
using OrderedJsonNode = BasicJsonNode<nlohmann::ordered_json>;  // keys in the order of the file

}  // namespace lathe
