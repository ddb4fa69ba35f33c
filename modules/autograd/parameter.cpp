// Packing for inference, and the gradient made at first use.
#include "autograd/parameter.h"

#include "autograd/dispatch.h"

namespace lathe {

void Parameter::prepare_for_inference(Arithmetic arithmetic) {
  if (packed) return;
  check(value.defined(), "prepare_for_inference", "a parameter of shape {} has no value", shape);
  if (value.dtype() == DType::f64) return;
  if (is_vector()) {
    // Copied even as it is: a vector left in the mapped file would keep its page, and a huge page with it.
    value = value.dtype() == DType::f32 ? value.clone() : convert(value, DType::f32);
    return;
  }
  check(value.rank() == 2 && value.shape() == shape, "prepare_for_inference", "a matrix of shape {} holds {}", shape,
        value);
  const Tensor source = value.contiguous() ? value : value.clone();
  const int64_t rows = source.dim(0), columns = source.dim(1);
  PackedWeight weight;
  const int64_t bytes = dispatch_size("prepare_for_inference", source,
                                      [&](auto on) { return kernel::packed_bytes(on, source.dtype(), rows, columns); });
  weight.storage = Tensor::empty({bytes / 4}, DType::i32, source.device());
  dispatch_device("prepare_for_inference", source, [&](auto on) {
    kernel::pack(on, static_cast<uint8_t*>(weight.storage.raw()), source.raw(), source.dtype(), rows, columns);
  });
  weight.matrix = {source.dtype(), rows, columns, static_cast<const uint8_t*>(weight.storage.raw())};
  weight.arithmetic = kind == Kind::router ? Arithmetic::f32 : arithmetic;
  packed = std::move(weight);
  value = {};
}

Shape Parameter::whole_shape() const {
  if (!is_part()) return shape;
  Shape whole{shard->whole()};
  for (int i = 1; i < shape.rank(); ++i) whole.append(shape[i]);
  return whole;
}

Tensor& Parameter::gradient() const {
  if (!grad.defined())
    grad =
        Tensor::zeros(shape, value.defined() && value.dtype() == DType::f64 ? DType::f64 : DType::f32, value.device());
  return grad;
}

}  // namespace lathe
