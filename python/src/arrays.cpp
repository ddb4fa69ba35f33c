#include "python/src/arrays.h"

namespace lathe::python {
namespace {

template <class T>
nb::object as_array(const Tensor& tensor) {
  size_t shape[Shape::kMaxRank] = {};
  int64_t strides[Shape::kMaxRank] = {}, inner = 1;
  const int rank = tensor.rank();
  for (int i = rank - 1; i >= 0; --i) {
    shape[i] = static_cast<size_t>(tensor.dim(i));
    strides[i] = i == 0 ? tensor.stride() : inner;
    inner *= tensor.dim(i);
  }
  const nb::capsule owner(new Tensor(tensor), [](void* p) noexcept { delete static_cast<Tensor*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T>(tensor.raw(), static_cast<size_t>(rank), shape, owner, strides));
}

}  // namespace

std::span<const int32_t> view(const Tokens& tokens) {
  if (const auto* list = std::get_if<std::vector<int32_t>>(&tokens)) return *list;
  const auto& array = std::get<TokenArray>(tokens);
  return {array.data(), array.shape(0)};
}

nb::object to_numpy(const Tensor& tensor) {
  switch (tensor.dtype()) {
    case DType::f32: return as_array<float>(tensor);
    case DType::f64: return as_array<double>(tensor);
    case DType::i32: return as_array<int32_t>(tensor);
    default: throw Error(fmt::format("numpy: {} has no NumPy dtype", tensor));
  }
}

nb::dict to_numpy(const NamedTensors& tensors) {
  nb::dict result;
  for (const auto& [name, tensor] : tensors) result[name.c_str()] = to_numpy(tensor);
  return result;
}

}  // namespace lathe::python
