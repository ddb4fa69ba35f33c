// Where a long computation may be ended from outside, by Ctrl-C for instance.
//
// While an Interruption is in force on a thread, what the thread computes asks it between layers, between the
// operations of a backward pass and between the tensors of an export. What `ask` throws ends it and reaches its caller.
#pragma once
#include <functional>

namespace lathe {

class Interruption {
 public:
  // `ask` must outlive this.
  explicit Interruption(const std::function<void()>& ask);
  ~Interruption();
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  // Asks the one in force; nothing where there is none.
  static void point();

 private:
  const std::function<void()>* outer_;
};

}  // namespace lathe
