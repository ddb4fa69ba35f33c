// What a long load or measurement shows on standard error while it runs, and Ctrl-C meanwhile.
#pragma once
#include <chrono>
#include <string>

namespace lathe {

class Progress {
 public:
  // From here on the first Ctrl-C is remembered; the second ends the program.
  Progress();
  // Ends the line that is shown; Ctrl-C is again what it was before.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // On a terminal one line is rewritten; elsewhere a line appears every ten seconds.
  void show(const std::string& text);
  static bool interrupted();

 private:
  void (*previous_)(int) = nullptr;
  bool terminal_, shown_ = false;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace lathe
