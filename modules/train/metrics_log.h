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
  struct Clock {
    int64_t tokens = 0;    // seen so far
    double seconds = 0.0;  // of the run so far, evaluation and what came before a resumption included
    double tokens_per_second = 0.0;
  };
  // Throws Error where the line cannot be written.
  void write(const TrainingStep& step, const Clock& clock, const std::optional<Evaluation>& evaluation) const;
  void write(int64_t step, const std::vector<Sample>& samples) const;

 private:
  std::string metrics_, samples_;
};

}  // namespace lathe
