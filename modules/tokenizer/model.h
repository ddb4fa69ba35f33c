// What turns one piece of pre-tokenised text into ids.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace lathe {

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  // Appends the ids of `piece` (valid UTF-8, not empty). Thread-safe.
  virtual void tokenize(std::string_view piece, std::vector<int32_t>& ids) const = 0;
};

}  // namespace lathe
