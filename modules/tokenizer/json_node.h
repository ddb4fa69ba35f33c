// A place in a JSON document that knows its path, so that every complaint names file, component and field.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {

class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, std::string where) : value_(value), where_(std::move(where)) {}

  const nlohmann::json& value() const { return value_; }
  const std::string& where() const { return where_; }
  [[noreturn]] void fail(const std::string& message, std::string hint = {}) const {
    throw Error(where_ + ": " + message, std::move(hint));
  }

  // The member `name`, which must be there.
  JsonNode at(const std::string& name) const {
    if (!value_.is_object()) fail(fmt::format("expected an object, found {}", value_.type_name()));
    auto found = value_.find(name);
    if (found == value_.end()) fail(fmt::format("{} is missing", quote(name)));
    return {*found, where_ + "." + plain_or_quoted(name)};
  }
  // Whether the member is there and not null.
  bool has(const std::string& name) const {
    if (!value_.is_object()) return false;
    auto found = value_.find(name);
    return found != value_.end() && !found->is_null();
  }
  // Element `i` of an array.
  JsonNode at(size_t i) const { return {value_.at(i), fmt::format("{}[{}]", where_, i)}; }
  size_t size() const {
    if (!value_.is_array()) fail(fmt::format("expected an array, found {}", value_.type_name()));
    return value_.size();
  }

  std::string string() const {
    if (!value_.is_string()) fail(fmt::format("expected a string, found {}", value_.type_name()));
    return value_.get<std::string>();
  }
  bool boolean() const {
    if (!value_.is_boolean()) fail(fmt::format("expected true or false, found {}", value_.type_name()));
    return value_.get<bool>();
  }
  int64_t integer() const {
    if (!value_.is_number_integer() || (value_.is_number_unsigned() && value_.get<uint64_t>() > INT64_MAX))
      fail(fmt::format("expected an integer, found {}", value_.type_name()));
    return value_.get<int64_t>();
  }

  // Members that may be absent or null.
  std::string string_or(const char* name, std::string otherwise) const {
    return has(name) ? at(name).string() : std::move(otherwise);
  }
  bool boolean_or(const char* name, bool otherwise) const { return has(name) ? at(name).boolean() : otherwise; }

 private:
  // Most names are ours; some come from the file.
  static std::string plain_or_quoted(std::string_view name) {
    constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyz_0123456789";
    return name.find_first_not_of(kPlain) == name.npos ? std::string(name) : quote(name);
  }

  const nlohmann::json& value_;
  std::string where_;
};

}  // namespace lathe
