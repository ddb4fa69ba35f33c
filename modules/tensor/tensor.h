// Tensor: a value handle on shared storage.
//
// Up to 4 dimensions in PyTorch order, contiguous but for the leading stride: rows may lie apart (a column slice of a
// packed projection), what is inside a row may not. There are no transposed views; products take flags.
// Copying a Tensor shares its elements.
#pragma once
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "tensor/dtype.h"
#include "tensor/errors.h"

namespace lathe {

// Where a tensor lives. `index` counts devices of a kind. On `plan` there are no elements: a pass runs there to count
// the memory that it would take on the CPU (tensor/storage_forecast.h), and to show that it reads no element.
struct Device {
  enum class Kind : uint8_t { cpu, cuda, plan };
  Kind kind = Kind::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};
std::string to_string(Device device);  // "cpu", "cuda:0", "plan"
// The other way: "cpu", "cuda", "cuda:1". Throws UsageError.
Device parse_device(const std::string& text);

class Shape {
 public:
  static constexpr int kMaxRank = 4;
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  // Throws Error on more than 4 dimensions, a negative one, or a product that overflows int64.
  template <class Iterator>
  Shape(Iterator begin, Iterator end) {
    for (; begin != end; ++begin) append(*begin);
  }
  void append(int64_t dim);
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[i < 0 ? i + rank_ : i]; }  // negative: from the end
  int64_t elements() const { return elements_; }
  bool operator==(const Shape& other) const;
  const int64_t* begin() const { return dims_; }
  const int64_t* end() const { return dims_ + rank_; }

 private:
  int64_t dims_[kMaxRank] = {};
  int64_t elements_ = 1;
  int rank_ = 0;
};
std::string to_string(const Shape& shape);  // "(37, 64)", "(5,)", "()"

class Tensor {
 public:
  Tensor() = default;  // no storage; `defined()` is false

  // 64-byte aligned, contents undefined. Blocks are kept in a pool and reused, so that a decoding step does not
  // allocate.
  static Tensor empty(Shape shape, DType dtype = DType::f32, Device device = {});
  static Tensor zeros(Shape shape, DType dtype = DType::f32, Device device = {});
  // Over memory that `owner` keeps alive (a mapped file). The bytes must not be written.
  static Tensor wrap(const void* data, Shape shape, DType dtype, std::shared_ptr<const void> owner);
  template <class T>
  static Tensor of(Shape shape, const T* values) {
    Tensor t = empty(shape, DTypeOf<T>::value);
    if (t.elements() > 0) std::memcpy(t.raw(), values, t.bytes());  // values may be null where there are none
    return t;
  }

  bool defined() const { return data_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t elements() const { return shape_.elements(); }
  int64_t rows() const;  // product of all dimensions but the last
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  size_t bytes() const { return bytes_of(dtype_, elements()); }
  // Elements between consecutive indices of the leading dimension.
  int64_t stride() const { return stride_; }
  bool contiguous() const;

  // Pointer to the first element; throws Error when T is not the dtype's type. `data` is what kernels are given; `host`
  // is what a loop over elements outside of a kernel takes, and throws where the elements are not in the host's memory.
  template <class T>
  T* data() const;
  template <class T>
  T* host() const;
  void* raw() const { return data_; }
  const std::shared_ptr<const void>& storage() const { return storage_; }

  // The same elements under another shape. A strided tensor keeps its leading dimension; only what is inside a row may
  // be regrouped. Keeps the tape id: a view's gradient is its source's.
  Tensor view(Shape shape) const;
  // Rows [begin, end) of the leading dimension; columns [begin, end) of a rank-2 tensor. Not recorded on the tape
  // (autograd/ops.h has the recorded forms), so the tape id is dropped.
  Tensor row_range(int64_t begin, int64_t end) const;
  Tensor column_range(int64_t begin, int64_t end) const;
  // The tensor itself where it lies on `device` already, else a contiguous copy there; the plan device copies nothing.
  Tensor to(Device device) const;
  // Sets the elements to those of `source`, of the same shape and dtype, wherever either lies.
  void copy_from(const Tensor& source) const;
  // A contiguous copy without tape id. (autograd/convert.h changes the dtype.)
  Tensor clone() const;
  // Shape, dtype, device and tape id alone: what a backward keeps of an input whose values it does not need.
  Tensor without_elements() const;

  // Position on the tape; 0 when no gradient is wanted. Set by Tape::record only.
  int64_t tape_id = 0;

  std::string describe() const;  // "(37, 64) bf16 cpu"

 private:
  std::shared_ptr<const void> storage_;
  void* data_ = nullptr;
  Shape shape_;
  int64_t stride_ = 0;
  DType dtype_ = DType::f32;
  Device device_;
};

}  // namespace lathe

// `check` formats its arguments only when it throws, so shapes and tensors are passed as they are.
// Their text is copied: fmt::format_to would need all of fmt, which stays out of headers.
template <>
struct fmt::formatter<lathe::Shape> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }
  template <class Context>
  auto format(const lathe::Shape& shape, Context& context) const {
    const std::string text = lathe::to_string(shape);
    return std::copy(text.begin(), text.end(), context.out());
  }
};
template <>
struct fmt::formatter<lathe::Tensor> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }
  template <class Context>
  auto format(const lathe::Tensor& tensor, Context& context) const {
    const std::string text = tensor.describe();
    return std::copy(text.begin(), text.end(), context.out());
  }
};

namespace lathe {

template <class T>
T* Tensor::data() const {
  check(DTypeOf<T>::value == dtype_, "tensor", "asked for {} elements of {}", name(DTypeOf<T>::value), *this);
  return static_cast<T*>(raw());
}

template <class T>
T* Tensor::host() const {
  check(device_.kind == Device::Kind::cpu, "tensor", "elements read on the host lie on {}, {}", to_string(device_),
        *this);
  return data<T>();
}

// Calls f with the elements of x in the host's memory, and leaves in x what f makes of them: how ranks, which speak
// through that memory, reach what lies on a device. x is contiguous and f32.
template <class F>
void in_host_memory(const Tensor& x, F&& f) {
  const Tensor on_host = x.to(Device{});
  f(on_host.host<float>());
  if (on_host.device() != x.device()) x.copy_from(on_host);
}

// An uninitialised contiguous tensor of the shape, dtype and device of x.
inline Tensor like(const Tensor& x) { return Tensor::empty(x.shape(), x.dtype(), x.device()); }

}  // namespace lathe
