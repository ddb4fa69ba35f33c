#include "tokenizer/vocabulary.h"

#include <functional>
#include <limits>

#include "tensor/errors.h"

namespace lathe {

void Vocabulary::reserve(size_t tokens, size_t bytes) {
  bytes_.reserve(bytes);
  spans_.reserve(tokens);
  while (slots_.size() < 2 * tokens) grow();
}

size_t Vocabulary::slot_of(std::string_view text) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>{}(text)&mask;
  while (slots_[slot] != kNone && this->text(slots_[slot]) != text) slot = (slot + 1) & mask;
  return slot;
}

void Vocabulary::grow() {
  std::vector<int32_t> old(slots_.empty() ? 1024 : 2 * slots_.size(), kNone);
  old.swap(slots_);
  for (int32_t id : old)
    if (id != kNone) slots_[slot_of(text(id))] = id;
}

void Vocabulary::add(std::string_view text, int64_t id) {
  check(id >= 0 && id < kMaxSize, "vocabulary", "the id of token '{}' is {}, expected 0 to {}", text, id, kMaxSize - 1);
  check(!contains(id), "vocabulary", "id {} is given twice, to '{}' and to '{}'", id, this->text(id), text);
  check(bytes_.size() + text.size() <= std::numeric_limits<uint32_t>::max() && text.size() < (size_t{1} << 31),
        "vocabulary", "the tokens' texts are longer than 4 GiB together");
  if (id >= size()) spans_.resize(static_cast<size_t>(id) + 1);
  spans_[static_cast<size_t>(id)] = {static_cast<uint32_t>(bytes_.size()),
                                     static_cast<uint32_t>(text.size()) & 0x7FFFFFFF, 1};
  bytes_.append(text);
  if (2 * (used_ + 1) > slots_.size()) grow();
  const size_t slot = slot_of(text);
  if (slots_[slot] == kNone) ++used_;
  slots_[slot] = static_cast<int32_t>(id);
}

int32_t Vocabulary::find(std::string_view text) const { return slots_.empty() ? kNone : slots_[slot_of(text)]; }

std::string_view Vocabulary::text(int64_t id) const {
  if (!contains(id)) return {};
  const Span& span = spans_[static_cast<size_t>(id)];
  return std::string_view(bytes_).substr(span.begin, span.length);
}

}  // namespace lathe
