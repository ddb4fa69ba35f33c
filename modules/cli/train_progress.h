// What a training run shows on standard error: on a terminal a bar on one line that is rewritten, elsewhere a line of
// text now and then.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace lathe {

struct StepLine {
  int64_t step = 0;  // from 1
  double loss = 0, gradient_norm = 0, learning_rate = 0, tokens_per_second = 0;
};

class TrainProgress {
 public:
  // `steps`: of the whole run; `done`: those that a run which goes on has behind it.
  explicit TrainProgress(int64_t steps, int64_t done = 0);
  // Ends the line that is shown.
  ~TrainProgress();
  TrainProgress(const TrainProgress&) = delete;
  TrainProgress& operator=(const TrainProgress&) = delete;

  // After any step. The bar is drawn at most ten times a second, a line appears at most every five; the last step is
  // shown in either case. The loss shown is a running mean.
  void update(const StepLine& line);
  // A line of its own that stays, above the bar.
  void note(const std::string& text);

 private:
  using Clock = std::chrono::steady_clock;
  bool terminal_;
  int64_t steps_, done_;
  double loss_sum_ = 0, loss_weight_ = 0;
  Clock::time_point begin_ = Clock::now(), shown_{};
  std::string bar_;  // on the terminal now
};

// The bar for a terminal so many columns wide: what has no room is left out, the least important first.
std::string training_bar(const StepLine& line, int64_t steps, double seconds_left, int columns);
// "step 40 of 2000: loss 3.1416, gradient norm 0.52, learning rate 1.2e-3, 31k tokens/s, 5 min 3 s left"
std::string training_line(const StepLine& line, int64_t steps, double seconds_left);

}  // namespace lathe
