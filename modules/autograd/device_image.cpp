#include "kernels/device_image.h"

#include "autograd/device_image.h"
#include "autograd/dispatch.h"

namespace lathe {

std::string describe_device(Device device) {
  DeviceImage image;
  dispatch_device("device", Tensor::empty({1}, DType::i32, device), [&](auto on) {
    if constexpr (std::is_same_v<decltype(on), Cuda>) image = kernel::device_image(on);
  });
  if (image.compiled_for == 0)
    throw Error(fmt::format("cuda: this program has no kernels for {}, {}, which is sm_{}", to_string(device),
                            Stream::device_name(device), image.architecture),
                fmt::format("make build CUDA=1 LATHE_CUDA_ARCHITECTURES={}-real builds them", image.architecture));
  return fmt::format("{}, {}, sm_{}{}", to_string(device), Stream::device_name(device), image.architecture,
                     image.was_compiled_by_driver()
                         ? fmt::format(", kernels compiled by the driver from PTX for sm_{}", image.ptx)
                         : "");
}

}  // namespace lathe
