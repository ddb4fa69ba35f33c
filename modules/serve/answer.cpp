#include "serve/answer.h"

#include <atomic>
#include <chrono>

namespace lathe {

const Tokenizer& ServedModel::tokenizer() const {
  if (!chat().has_tokenizer()) throw ApiError(400, fmt::format("the model {} has no tokenizer: it takes ids", id));
  return *chat().tokenizer();
}

std::shared_ptr<const LowRankChanges> ServedModel::adapter() const {
  return base ? chat().loaded().changes_of(id) : nullptr;
}

std::string new_id(const char* prefix) {
  static const auto start = static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  static std::atomic<uint64_t> count = 0;
  return fmt::format("{}-{:016x}{:08x}", prefix, start, ++count);
}

int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace lathe
