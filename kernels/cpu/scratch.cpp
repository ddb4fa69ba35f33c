#include "kernels/cpu/scratch.h"

#include <cstdlib>
#include <memory>
#include <new>

namespace lathe::cpu {
namespace {

struct Free {
  void operator()(float* p) const { std::free(p); }
};
struct Kept {
  std::unique_ptr<float, Free> memory;
  int64_t floats = 0;
};

}  // namespace

float* scratch(ScratchOf place, int64_t floats) {
  static thread_local Kept kept[2];
  Kept& own = kept[static_cast<int>(place)];
  if (own.floats < floats) {
    own.memory.reset();
    own.memory.reset(static_cast<float*>(std::aligned_alloc(64, (static_cast<size_t>(floats) * 4 + 63) / 64 * 64)));
    if (!own.memory) throw std::bad_alloc();
    own.floats = floats;
  }
  return own.memory.get();
}

}  // namespace lathe::cpu
