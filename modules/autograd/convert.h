// Changing the dtype of a tensor's values. Never recorded on the tape.
#pragma once
#include <string>

#include "tensor/tensor.h"

namespace lathe {

// A contiguous copy of x in `dtype`; x itself (shared, not copied) when it is contiguous and of that dtype already.
// Widening to f32 and f64 is exact. f64, and whatever else is narrowed, is rounded to f32 and then to bf16 or f16 (to
// nearest, ties to even) or to a block format (as ggml rounds it; the last dimension must be a multiple of the block).
// Throws Error for i32, which has no conversions, and, naming `tensor`, for a value that `dtype` cannot hold: one
// that would become infinite, and in f16, bf16 and block formats whatever is not finite.
Tensor convert(const Tensor& x, DType dtype, const std::string& tensor = {});

}  // namespace lathe
