// The two files that a run adds lines to: metrics.jsonl, a line a logged step with all digits of its numbers, and
// samples.jsonl, a line a text.
#pragma once
#include <optional>
#include <string>

#include "train/samples.h"
#include "train/trainer.h"

namespace lathe {

class MetricsLog {
 public:
  explicit MetricsLog(const std::string& folder)
      : metrics_(folder + "/metrics.jsonl"), samples_(folder + "/samples.jsonl") {}
  // Drops the lines of later steps, and one that a killed run left half-written.
  void keep_until(int64_t step) const;
  // `tokens`: seen so far. Throws Error where the line cannot be written.
  void write(const TrainingStep& step, int64_t tokens, double tokens_per_second,
             const std::optional<Evaluation>& evaluation) const;
  void write(int64_t step, const std::vector<Sample>& samples) const;

 private:
  std::string metrics_, samples_;
};

}  // namespace lathe
