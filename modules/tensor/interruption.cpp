#include "tensor/interruption.h"

#include <utility>

namespace lathe {
namespace {

thread_local const std::function<void()>* in_force = nullptr;

}  // namespace

Interruption::Interruption(const std::function<void()>& ask) : outer_(std::exchange(in_force, &ask)) {}
Interruption::~Interruption() { in_force = outer_; }

void Interruption::point() {
  if (in_force != nullptr && *in_force) (*in_force)();
}

}  // namespace lathe
