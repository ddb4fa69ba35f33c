// metrics.jsonl: a line a logged step, all digits of its numbers.
#pragma once
#include <optional>
#include <string>

#include "train/trainer.h"

namespace lathe {

class MetricsLog {
 public:
  explicit MetricsLog(std::string path) : path_(std::move(path)) {}
  // Drops the lines of later steps, and one that a killed run left half-written.
  void keep_until(int64_t step) const;
  // `tokens`: seen so far. Throws Error where the line cannot be written.
  void write(const TrainingStep& step, int64_t tokens, double tokens_per_second,
             const std::optional<Evaluation>& evaluation) const;

 private:
  std::string path_;
};

}  // namespace lathe
