// The tokens of a model: id to text and text to id.
//
// Texts lie one behind another in one string and the index is one flat table: a vocabulary of 262,144 tokens loads in
// milliseconds, without an allocation a token.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

class Vocabulary {
 public:
  static constexpr int32_t kNone = -1;
  static constexpr int64_t kMaxSize = int64_t{1} << 24;  // a file that asks for more ids than this is broken

  void reserve(size_t tokens, size_t bytes);
  // Where a text comes twice, `find` gives the id added last. Throws Error for an id outside [0, kMaxSize) or given
  // twice.
  void add(std::string_view text, int64_t id);

  int32_t find(std::string_view text) const;  // kNone when there is none
  bool contains(int64_t id) const { return id >= 0 && id < size() && spans_[static_cast<size_t>(id)].present; }
  // The text of an id that the vocabulary contains; empty for any other.
  std::string_view text(int64_t id) const {
    if (!contains(id)) return {};
    const Span& span = spans_[static_cast<size_t>(id)];
    return {bytes_.data() + span.begin, span.length};
  }
  int64_t size() const { return static_cast<int64_t>(spans_.size()); }  // the largest id + 1

 private:
  struct Span {
    uint32_t begin = 0, length : 31 = 0, present : 1 = 0;
  };
  struct Slot {
    int32_t id = kNone;
    uint32_t hash = 0;  // compared first: most probes then never touch the text
  };
  void grow();
  size_t slot_of(std::string_view text, uint32_t hash) const;

  std::string bytes_;
  std::vector<Span> spans_;  // by id
  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  size_t used_ = 0;
};

}  // namespace lathe
