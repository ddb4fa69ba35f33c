#include "cli/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

namespace lathe {
namespace {

volatile std::sig_atomic_t interrupts = 0;

}  // namespace

Progress::Progress() : terminal_(isatty(STDERR_FILENO) != 0) {
  interrupts = 0;
  previous_ = std::signal(SIGINT, [](int) {
    interrupts = 1;
    std::signal(SIGINT, SIG_DFL);
  });
}

Progress::~Progress() {
  std::signal(SIGINT, previous_);
  if (shown_) std::fputc('\n', stderr);
}

void Progress::show(const std::string& text) {
  const auto now = std::chrono::steady_clock::now();
  if (terminal_) {
    fmt::print(stderr, "\r\x1b[K{}", text);
    shown_ = true;
  } else if (now - last_ >= std::chrono::seconds(10)) {
    fmt::print(stderr, "lathe: {}\n", text);
    last_ = now;
  }
}

bool Progress::interrupted() { return interrupts != 0; }

}  // namespace lathe
