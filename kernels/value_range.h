// Whether values have a place in a storage dtype.
#pragma once
#include <cstdint>

#include "tensor/dtype.h"

namespace lathe::cpu {

// Whether `row`, made of the finite or other values `x` by quantise_row (packed_linear.h), holds them: no finite value
// became infinite, and in a block format, which has no infinities of its own, neither a value nor a scale or minimum
// is anything but finite.
bool row_holds(const void* row, const float* x, DType dtype, int64_t columns);

}  // namespace lathe::cpu
