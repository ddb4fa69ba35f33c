// The active observer of each thread, and the path of its taps.
#include "common/observer.h"

namespace lathe {

template <>
Observer*& Active<Observer>::slot() {
  static thread_local Observer* observer = nullptr;
  return observer;
}

namespace {
thread_local std::string path;
}  // namespace

std::string tap_path(std::string_view name) {
  std::string full = path;
  if (!full.empty()) full += '.';
  return full.append(name);
}
void tap_now(std::string_view name, const Tensor& x) { Observer::current()->observe(tap_path(name), x); }

void TapScope::enter(std::string_view name) {
  length_ = path.size();
  if (!path.empty()) path += '.';
  path += name;
}
void TapScope::leave() { path.resize(length_); }

}  // namespace lathe
