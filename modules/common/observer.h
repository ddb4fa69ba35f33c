// Taps: named activations that an observer may look at while a model runs.
//
// `tap("q_rope", q)` does nothing when no observer is active on this thread. Names are the module path that the
// TapScopes have built, then the tap: "model.layers.3.self_attn.q_rope". docs/shapes.md lists them.
#pragma once
#include <string>
#include <string_view>
#include <utility>

#include "tensor/active.h"
#include "tensor/tensor.h"

namespace lathe {

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void observe(const std::string& name, const Tensor& x) = 0;
  // Whether costly extras are asked for under this name (attention probabilities, which are not kept otherwise).
  virtual bool wants(const std::string& name) const = 0;

  static Observer* current() { return Active<Observer>::current(); }

  // Watches this thread while it lives.
  class Scope : public Active<Observer> {
   public:
    explicit Scope(Observer& observer) : Active(&observer) {}
  };
};

// The tap's full name on this thread, as an observer sees it.
std::string tap_path(std::string_view name);
void tap_now(std::string_view name, const Tensor& x);
// Both give x, so that a tap stands where the tensor is made.
inline const Tensor& tap(std::string_view name, const Tensor& x) {
  if (Observer::current() != nullptr) [[unlikely]]
    tap_now(name, x);
  return x;
}
inline Tensor tap(std::string_view name, Tensor&& x) {
  tap(name, x);
  return std::move(x);
}

// Appends a level to the path while it lives; free without an observer.
class TapScope {
 public:
  explicit TapScope(std::string_view name) : active_(Observer::current() != nullptr) {
    if (active_) enter(name);
  }
  TapScope(std::string_view name, int64_t index) : active_(Observer::current() != nullptr) {
    if (active_) enter(std::string(name) + "." + std::to_string(index));
  }
  ~TapScope() {
    if (active_) leave();
  }
  TapScope(const TapScope&) = delete;
  TapScope& operator=(const TapScope&) = delete;

 private:
  void enter(std::string_view name);
  void leave();
  bool active_;
  size_t length_ = 0;  // of the path before this level
};

}  // namespace lathe
