// What every device refuses to pack or to unpack. Throw Error.
#pragma once
#include "kernels/packed_linear.h"

namespace lathe {

void check_packable(DType dtype, int64_t rows, int64_t columns);
void check_unpacked_rows(const PackedMatrix& w, int64_t first, int64_t count);  // rows [first, first + count)

}  // namespace lathe
