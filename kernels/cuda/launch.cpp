// Why a kernel was not started. Host code of its own, so that nvcc need not read the library's errors.
#include "tensor/errors.h"

namespace lathe::kernel {

[[noreturn]] void launch_failed(const char* kernel, const char* error) {
  throw Error(fmt::format("cuda: the kernel {} was not started: {}", kernel, error));
}

}  // namespace lathe::kernel
