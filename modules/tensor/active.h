// What is active on a thread while a scope is open: a tape, an observer, an interruption, a storage forecast, the
// budget of a chat template.
#pragma once
#include <utility>

namespace lathe {

// Makes `value` (which may be null: nothing) the active T of this thread until its end; scopes nest.
template <class T>
class Active {
 public:
  explicit Active(T* value) : outer_(std::exchange(slot(), value)) {}
  ~Active() { slot() = outer_; }
  Active(const Active&) = delete;
  Active& operator=(const Active&) = delete;

  static T* current() { return slot(); }

 private:
  // Defined once for each T, in T's source file: a thread-local variable of a header would exist once in every library.
  static T*& slot();
  T* outer_;
};

}  // namespace lathe
