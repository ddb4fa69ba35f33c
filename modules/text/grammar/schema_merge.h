// What a JSON Schema says, apart from grammars: which keywords there are, what references mean, and one schema for
// several that all hold.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/errors.h"

namespace lathe {

// Names the place in the schema.
class SchemaError : public Error {
 public:
  using Error::Error;
};

class Schemas {
 public:
  using Json = nlohmann::ordered_json;

  // Paths are JSON pointers from the root; `where` names the document. The root must live as long.
  Schemas(const Json& root, std::string where) : root_(root), where_(std::move(where)) {}

  [[noreturn]] void fail(const std::string& path, const std::string& message) const;
  // Counts what is read, however often: throws where a schema refers to more than kMostBytes in all.
  void work(size_t bytes, const std::string& path);

  // Throws where a keyword is not supported. Annotations are keywords that no value depends on.
  void check_keywords(const Json& schema, const std::string& path) const;
  static bool is_assertion(std::string_view keyword);
  static int64_t assertions(const Json& schema);
  static std::string escaped(std::string_view name);  // as a part of a JSON pointer

  // The schema that a $ref means, and its path.
  std::pair<const Json*, std::string> resolve(const Json& reference, const std::string& path) const;
  // The schema with what its $ref and allOf say in it.
  Json merged(const Json& schema, const std::string& path);
  // Values satisfy the result where they satisfy both.
  Json both(const Json& a, const Json& b, const std::string& path);
  // Whether surely no value satisfies both; false where that is not seen.
  bool are_disjoint(const Json& a, const Json& b, const std::string& path, int nested = 0);

  // The types that values have: those that `type` names, else those that the keywords are about, else all.
  std::vector<std::string> types(const Json& schema, const std::string& path) const;
  static bool has_type(const Json& value, const std::vector<std::string>& types);
  std::vector<std::string> required(const Json& schema, const std::string& path) const;
  static std::optional<int64_t> whole_number(const Json& number);  // below 2^62

 private:
  static constexpr size_t kMostBytes = size_t{16} << 20;

  void merge(Json& result, const std::string& keyword, const Json& other, const std::string& path) const;
  std::vector<Json> listed(const Json& schema) const;

  const Json& root_;
  std::string where_;
  size_t work_ = 0;
  int nested_ = 0;
};

}  // namespace lathe
