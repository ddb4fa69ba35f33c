// Shapes, views and copies of tensors.
#include "tensor/tensor.h"

#include <algorithm>
#include <charconv>

#include "tensor/device_memory.h"

namespace lathe {

std::string to_string(Device device) {
  if (device.kind == Device::Kind::cuda) return fmt::format("cuda:{}", device.index);
  return device.kind == Device::Kind::cpu ? "cpu" : "plan";
}

Device parse_device(const std::string& text) {
  if (text == "cpu") return {};
  if (text == "cuda") return {Device::Kind::cuda};
  Device device{Device::Kind::cuda};
  const char *begin = text.data() + 5, *end = text.data() + text.size();
  if (text.starts_with("cuda:") && text.size() > 5)
    if (const auto [rest, error] = std::from_chars(begin, end, device.index);
        rest == end && error == std::errc() && device.index >= 0)
      return device;
  throw UsageError(fmt::format("device: expected cpu, cuda or cuda:N, found \"{}\"", text));
}

Shape::Shape(std::initializer_list<int64_t> dims) : Shape(dims.begin(), dims.end()) {}

void Shape::append(int64_t dim) {
  check(rank_ < kMaxRank, "shape", "more than {} dimensions", kMaxRank);
  check(dim >= 0, "shape", "dimension {} is {}", rank_, dim);
  check(!__builtin_mul_overflow(elements_, dim, &elements_), "shape",
        "the number of elements overflows 64 bits at "
        "dimension {}, which is {}",
        rank_, dim);
  dims_[rank_++] = dim;
}

bool Shape::operator==(const Shape& other) const {
  return rank_ == other.rank_ && std::equal(begin(), end(), other.begin());
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (int i = 0; i < shape.rank(); ++i) text += fmt::format("{}{}", i ? ", " : "", shape[i]);
  return text + (shape.rank() == 1 ? ",)" : ")");
}

namespace {

// Elements of one index of the leading dimension. Unsigned, because a tensor of no rows may have any others.
int64_t row_elements(const Shape& shape) {
  uint64_t n = 1;
  for (int i = 1; i < shape.rank(); ++i) n *= static_cast<uint64_t>(shape[i]);
  return static_cast<int64_t>(n);
}

// Throws unless rows end at block borders and the bytes can be counted.
void check_layout(const Shape& shape, DType dtype) {
  const DTypeInfo& format = info(dtype);
  check(format.block_size == 1 || (shape.rank() > 0 && shape[-1] % format.block_size == 0), "tensor",
        "rows of {} elements are not a multiple of the {} elements of a {} block", shape.rank() ? shape[-1] : 1,
        format.block_size, format.name);
  check(shape.elements() < (int64_t{1} << 59), "tensor", "{} elements are more than memory can hold", shape.elements());
}

}  // namespace

Tensor Tensor::empty(Shape shape, DType dtype, Device device) {
  check_layout(shape, dtype);
  Storage storage = allocate_storage(device, bytes_of(dtype, shape.elements()));
  Tensor t;
  t.storage_ = std::move(storage.owner);
  t.data_ = storage.data;
  t.shape_ = shape;
  t.stride_ = row_elements(shape);
  t.dtype_ = dtype;
  t.device_ = device;
  return t;
}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  zero_bytes(device, t.raw(), t.bytes());
  return t;
}

Tensor Tensor::wrap(const void* data, Shape shape, DType dtype, std::shared_ptr<const void> owner) {
  check(data != nullptr || shape.elements() == 0, "tensor", "no memory behind {} elements", shape.elements());
  check_layout(shape, dtype);
  static const char nothing = 0;
  Tensor t;
  t.storage_ = std::move(owner);
  t.data_ = const_cast<void*>(data ? data : &nothing);
  t.shape_ = shape;
  t.stride_ = row_elements(shape);
  t.dtype_ = dtype;
  return t;
}

int64_t Tensor::rows() const {
  int64_t n = 1;
  for (int i = 0; i + 1 < rank(); ++i) n *= dim(i);
  return n;
}

bool Tensor::contiguous() const {
  return rank() == 0 || dim(0) <= 1 || stride_ == row_elements(shape_) || elements() == 0;
}

Tensor Tensor::view(Shape shape) const {
  check(shape.elements() == elements(), "view", "{} elements cannot be seen as {}, tensor {}", elements(), shape,
        *this);
  const bool regrouped_rows = rank() == 0 || shape.rank() == 0 || shape[0] != dim(0);
  check(!regrouped_rows || contiguous(), "view",
        "the rows lie {} elements apart, so the leading dimension must stay: asked {}, tensor {}", stride_, shape,
        *this);
  check_layout(shape, dtype_);
  Tensor t = *this;
  t.shape_ = shape;
  if (contiguous()) t.stride_ = row_elements(shape);
  return t;
}

Tensor Tensor::row_range(int64_t begin, int64_t end) const {
  check(rank() > 0 && 0 <= begin && begin <= end && end <= dim(0), "row_range", "rows [{}, {}) of {}", begin, end,
        *this);
  check(rank() > 1 || !is_quantised(dtype_), "row_range", "a single row of blocks cannot be cut, tensor {}", *this);
  Tensor t = *this;
  Shape shape{end - begin};
  for (int i = 1; i < rank(); ++i) shape.append(dim(i));
  t.shape_ = shape;
  t.data_ = static_cast<char*>(data_) + bytes_of(dtype_, begin * stride_);
  t.tape_id = 0;
  return t;
}

Tensor Tensor::column_range(int64_t begin, int64_t end) const {
  check(rank() == 2 && 0 <= begin && begin <= end && end <= dim(1), "column_range", "columns [{}, {}) of {}", begin,
        end, *this);
  const int block = info(dtype_).block_size;
  check(begin % block == 0 && end % block == 0, "column_range",
        "columns [{}, {}) do not lie on the borders of {}-element blocks, tensor {}", begin, end, block, *this);
  Tensor t = *this;
  t.shape_ = {dim(0), end - begin};
  t.data_ = static_cast<char*>(data_) + bytes_of(dtype_, begin);
  t.tape_id = 0;
  return t;
}

void Tensor::copy_from(const Tensor& source) const {
  check(source.shape_ == shape_ && source.dtype_ == dtype_, "tensor", "cannot be set to {}, {}", source, *this);
  const bool whole = contiguous() && source.contiguous();
  const size_t row_bytes = whole ? bytes() : bytes_of(dtype_, row_elements(shape_));
  const auto rows_of = [&](const Tensor& t) {
    return ByteRows{t.device_, t.data_, whole || t.contiguous() ? row_bytes : bytes_of(dtype_, t.stride_)};
  };
  copy_rows(rows_of(*this), rows_of(source), row_bytes, whole ? 1 : static_cast<size_t>(dim(0)));
}

Tensor Tensor::to(Device device) const {
  if (device == device_) return *this;
  Tensor t = empty(shape_, dtype_, device);
  t.copy_from(*this);
  return t;
}

Tensor Tensor::clone() const {
  Tensor t = empty(shape_, dtype_, device_);
  t.copy_from(*this);
  return t;
}

Tensor Tensor::without_elements() const {
  Tensor t = *this;
  t.storage_ = nullptr;
  t.data_ = nullptr;
  return t;
}

std::string Tensor::describe() const {
  if (!defined()) return "undefined";
  return fmt::format("{} {} {}", to_string(shape_), name(dtype_), to_string(device_));
}

}  // namespace lathe
