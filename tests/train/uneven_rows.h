// Data of rows with uneven numbers of targets.
#pragma once
#include <string>

#include "train/dataset.h"

namespace lathe::test {

// Rows of random ids: of every four, one has a single target, one none, and two have 25. The two ranks of a batch of
// four have 1 and 50.
class UnevenRows : public Dataset {
 public:
  explicit UnevenRows(int64_t vocabulary) : vocabulary_(static_cast<uint64_t>(vocabulary)) {}
  TrainingRows rows(int64_t first, int64_t count) const override {
    constexpr int64_t kContext = 30, kTargets[] = {1, 0, 25, 25};
    TrainingRows rows;
    for (int64_t r = first; r < first + count; ++r) {
      rows.seq_start.push_back(static_cast<int32_t>(rows.tokens.size()));
      for (int64_t i = 0; i < kContext; ++i) {
        rows.tokens.push_back(id(r, i));
        rows.targets.push_back(i < kTargets[r % 4] ? id(r, i + 1) : kIgnoredTarget);
      }
      rows.target_count += kTargets[r % 4];
    }
    rows.seq_start.push_back(static_cast<int32_t>(rows.tokens.size()));
    return rows;
  }
  int64_t rows_per_epoch() const override { return 38; }
  Counts counts() const override { return {38 * 30, 485}; }
  const std::string& key() const override { return key_; }

 private:
  int32_t id(int64_t r, int64_t i) const {
    return static_cast<int32_t>((static_cast<uint64_t>(r * 1009 + i) * 2654435761u >> 7) % vocabulary_);
  }
  uint64_t vocabulary_;
  std::string key_ = "uneven";
};

}  // namespace lathe::test
