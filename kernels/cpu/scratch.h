// Memory that a kernel of training needs while it runs: each thread keeps its own for the next one.
#pragma once
#include <cstdint>

namespace lathe::cpu {

// At least so many floats, 64-byte aligned, until the thread's next call with the same `place`.
enum class ScratchOf { product, rows };
float* scratch(ScratchOf place, int64_t floats);

}  // namespace lathe::cpu
