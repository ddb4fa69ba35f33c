#include "text/tokenizer/vocabulary.h"

#include <functional>
#include <limits>

#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

uint32_t hash_of(std::string_view text) { return static_cast<uint32_t>(std::hash<std::string_view>{}(text)); }

}  // namespace

void Vocabulary::reserve(size_t tokens, size_t bytes) {
  bytes_.reserve(bytes);
  spans_.reserve(tokens);
  while (slots_.size() < 2 * tokens) grow();
}

size_t Vocabulary::slot_of(std::string_view text, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = hash & mask;
  while (slots_[slot].id != kNone && (slots_[slot].hash != hash || this->text(slots_[slot].id) != text))
    slot = (slot + 1) & mask;
  return slot;
}

void Vocabulary::grow() {
  std::vector<Slot> old(slots_.empty() ? 1024 : 2 * slots_.size());
  old.swap(slots_);
  const size_t mask = slots_.size() - 1;
  for (const Slot& entry : old) {  // all different, so the texts need not be compared again
    if (entry.id == kNone) continue;
    size_t slot = entry.hash & mask;
    while (slots_[slot].id != kNone) slot = (slot + 1) & mask;
    slots_[slot] = entry;
  }
}

void Vocabulary::add(std::string_view text, int64_t id) {
  check(id >= 0 && id < kMaxSize, "vocabulary", "the id of token {} is {}, expected 0 to {}", quote(text), id,
        kMaxSize - 1);
  check(!contains(id), "vocabulary", "id {} is given twice, to {} and to {}", id, quote(this->text(id)), quote(text));
  check(bytes_.size() + text.size() <= std::numeric_limits<uint32_t>::max() && text.size() < (size_t{1} << 31),
        "vocabulary", "the tokens' texts are longer than 4 GiB together");
  if (id >= size()) spans_.resize(static_cast<size_t>(id) + 1);
  spans_[static_cast<size_t>(id)] = {static_cast<uint32_t>(bytes_.size()),
                                     static_cast<uint32_t>(text.size()) & 0x7FFFFFFF, 1};
  bytes_.append(text);
  if (2 * (used_ + 1) > slots_.size()) grow();
  const uint32_t hash = hash_of(text);
  const size_t slot = slot_of(text, hash);
  if (slots_[slot].id == kNone) ++used_;
  slots_[slot] = {static_cast<int32_t>(id), hash};
}

int32_t Vocabulary::find(std::string_view text) const {
  return slots_.empty() ? kNone : slots_[slot_of(text, hash_of(text))].id;
}

}  // namespace lathe
