// Whether values have a place in a storage dtype.
#pragma once
#include <cstdint>

#include "tensor/dtype.h"

namespace lathe::cpu {

// Whether `row`, made of the values `x` by quantise_row (packed_linear.h), holds them: in a narrower format than f32
// neither a value nor a scale or minimum is anything but finite.
bool row_holds(const void* row, const float* x, DType dtype, int64_t columns);

}  // namespace lathe::cpu
