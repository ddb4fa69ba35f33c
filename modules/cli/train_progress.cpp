// See train_progress.h.
#include "cli/train_progress.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "train/shown_numbers.h"

namespace lathe {
namespace {

int terminal_columns() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string training_bar(const StepLine& line, int64_t steps, double seconds_left, int columns) {
  constexpr size_t kLeastBar = 10, kMostBar = 30;
  const size_t room = static_cast<size_t>(std::max(columns - 1, 0));  // a full last column would wrap
  // Each field has its widest form's width, so that the bar does not jump.
  const std::string total = fmt::format("{}", steps),
                    begin = fmt::format("{:>{}}/{} [", line.step, total.size(), total);
  if (begin.size() + kLeastBar + 1 > room) return begin.substr(0, std::min(begin.size() - 2, room));
  std::string fields = "]";
  for (const std::string& field :
       {fmt::format("loss {:.4f}", line.loss), fmt::format("{:>11} left", shown_time(seconds_left)),
        fmt::format("{:>6} tokens/s", short_number(line.tokens_per_second)),
        fmt::format("lr {:<7}", short_number(line.learning_rate)),
        fmt::format("gradient {:<6}", short_number(line.gradient_norm))})
    if (begin.size() + kLeastBar + fields.size() + 2 + field.size() <= room) fields += "  " + field;
  const size_t width = std::min(kMostBar, room - begin.size() - fields.size());
  const size_t full = width * static_cast<size_t>(std::clamp<int64_t>(line.step, 0, steps)) /
                      static_cast<size_t>(std::max<int64_t>(steps, 1));
  return begin + std::string(full, '=') + std::string(width - full, ' ') + fields;
}

std::string training_line(const StepLine& line, int64_t steps, double seconds_left) {
  return fmt::format("step {} of {}: loss {:.4f}, gradient norm {}, learning rate {}, {} tokens/s, {} left", line.step,
                     steps, line.loss, short_number(line.gradient_norm), short_number(line.learning_rate),
                     short_number(line.tokens_per_second), shown_time(seconds_left));
}

TrainProgress::TrainProgress(int64_t steps, int64_t done)
    : terminal_(isatty(STDERR_FILENO) != 0), steps_(steps), done_(done) {}

TrainProgress::~TrainProgress() {
  if (!bar_.empty()) std::fputc('\n', stderr);
}

void TrainProgress::update(const StepLine& line) {
  constexpr double kKept = 0.95;
  if (std::isfinite(line.loss)) {
    loss_sum_ = kKept * loss_sum_ + (1 - kKept) * line.loss;
    loss_weight_ = kKept * loss_weight_ + (1 - kKept);
  }
  const Clock::time_point now = Clock::now();
  if (now - shown_ < (terminal_ ? std::chrono::milliseconds(100) : std::chrono::seconds(5)) && line.step < steps_)
    return;
  shown_ = now;
  StepLine smooth = line;
  smooth.loss = loss_sum_ / loss_weight_;
  const double a_step = std::chrono::duration<double>(now - begin_).count() /
                        static_cast<double>(std::max<int64_t>(line.step - done_, 1));
  const double left = a_step * static_cast<double>(std::max<int64_t>(steps_ - line.step, 0));
  if (terminal_) {
    bar_ = training_bar(smooth, steps_, left, terminal_columns());
    fmt::print(stderr, "\r\x1b[K{}", bar_);
  } else {
    fmt::print(stderr, "lathe: {}\n", training_line(smooth, steps_, left));
  }
}

void TrainProgress::note(const std::string& text) {
  if (bar_.empty())
    fmt::print(stderr, "lathe: {}\n", text);
  else
    fmt::print(stderr, "\r\x1b[Klathe: {}\n{}", text, bar_);
}

}  // namespace lathe
