// Exceptions of the library, and `check`, which throws them.
//
// Every message says: operation, the fact that is wrong, what was expected, what was found; a hint where the cause is
// known. The program prints them on one line (`lathe: error: ...`), the hint on a second.
#pragma once
#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace lathe {

// The input, the machine or the request is at fault: the program ends with exit code 1.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, std::string hint = {})
      : std::runtime_error(message), hint_(std::move(hint)) {}
  const std::string& hint() const { return hint_; }

 private:
  std::string hint_;
};

// The command line is at fault: exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

// Throws Error("<where>: <message>") unless `condition` holds. Checks stay in every build.
//   check(x.dim(-1) == n, "rms_norm", "weight has {} elements, last dim of x is {}", n, x.dim(-1));
template <class... Args>
void check(bool condition, const char* where, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) [[unlikely]]
    throw Error(std::string(where) + ": " + fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace lathe
