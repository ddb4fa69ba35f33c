#include "common/observer.h"

namespace lathe {
namespace {
thread_local Observer* observer_in_force = nullptr;
thread_local std::string path;
}  // namespace

Observer* Observer::current() { return observer_in_force; }
Observer::Scope::Scope(Observer& observer) : outer_(observer_in_force) { observer_in_force = &observer; }
Observer::Scope::~Scope() { observer_in_force = outer_; }

std::string tap_path(std::string_view name) {
  std::string full = path;
  if (!full.empty()) full += '.';
  return full.append(name);
}
void tap_now(std::string_view name, const Tensor& x) { observer_in_force->observe(tap_path(name), x); }

void TapScope::enter(std::string_view name) {
  length_ = path.size();
  if (!path.empty()) path += '.';
  path += name;
}
void TapScope::leave() { path.resize(length_); }

}  // namespace lathe
