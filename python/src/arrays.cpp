#include "python/src/arrays.h"

#include <nanobind/stl/string.h>

#include <utility>

#include "python/src/bindings.h"

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

std::string kind_of(nb::handle object) { return nb::cast<std::string>(object.type().attr("__name__")); }

namespace {

std::string text_of(nb::handle object) { return nb::cast<std::string>(nb::steal(PyObject_Str(object.ptr()))); }

// Whether its elements are sequences of their own: not a text, and not an array of no dimension, which is a number.
bool is_nested(nb::handle object) {
  if (nb::isinstance<nb::str>(object) || nb::isinstance<nb::bytes>(object)) return false;
  if (PySequence_Check(object.ptr()) == 0) return false;
  const bool has_length = PyObject_Length(object.ptr()) >= 0;
  PyErr_Clear();
  return has_length;
}

// Whether it is bytes under another name, which would otherwise be read as ids below 256.
bool is_bytes(nb::handle object) {
  if (nb::isinstance<nb::bytes>(object) || PyByteArray_Check(object.ptr())) return true;
  return PyMemoryView_Check(object.ptr()) && nb::cast<std::string>(object.attr("format")) == "B";
}

bool is_masked(nb::handle object) {
  if (!nb::hasattr(object, "mask")) return false;
  return nb::cast<bool>(nb::module_::import_("numpy.ma").attr("is_masked")(object));
}

// As NumPy calls it: an array from elsewhere (array.array, memoryview) has no such name of its own.
std::string dtype_name(nb::dlpack::dtype dtype) {
  using Code = nb::dlpack::dtype_code;
  const auto code = static_cast<Code>(dtype.code);
  if (code == Code::Bool) return "bool";
  const char* kind = code == Code::Float     ? "float"
                     : code == Code::Bfloat  ? "bfloat"
                     : code == Code::Complex ? "complex"
                                             : "opaque";
  return fmt::format("{}{}", kind, dtype.bits);
}

[[noreturn]] void refuse(const std::string& found) {
  throw nb::type_error(fmt::format("tokens: expected integers, found {}", found).c_str());
}

[[noreturn]] void refuse_number(const std::string& number, size_t at) {
  throw nb::type_error(
      fmt::format("tokens: number {} is {}, which no id can be: ids have 32 bits", at, number).c_str());
}

template <class T>
int32_t checked(T value, size_t at) {
  if (!std::in_range<int32_t>(value)) refuse_number(fmt::format("{}", value), at);
  return static_cast<int32_t>(value);
}

}  // namespace

Ids::Ids(nb::object tokens) : tokens_(std::move(tokens)) {
  const Callback calling;
  if (nb::isinstance<nb::str>(tokens_)) refuse("text (model.tokenizer.encode makes ids of it)");
  if (is_bytes(tokens_) || nb::isinstance<nb::dict>(tokens_)) refuse("a " + kind_of(tokens_));
  if (is_masked(tokens_)) refuse("an array with masked items");
  if (nb::try_cast(tokens_, array_))
    read_array(array_);
  else
    read_sequence();
}

template <class T>
void Ids::convert(const nb::ndarray<nb::ro, nb::device::cpu>& array) {
  const auto* data = static_cast<const T*>(array.data());
  for (size_t i = 0; i < array.shape(0); ++i)
    converted_.push_back(checked(data[static_cast<int64_t>(i) * array.stride(0)], i));
  view_ = converted_;
}

void Ids::read_array(const nb::ndarray<nb::ro, nb::device::cpu>& array) {
  const auto code = static_cast<nb::dlpack::dtype_code>(array.dtype().code);
  const bool is_signed = code == nb::dlpack::dtype_code::Int;
  if ((!is_signed && code != nb::dlpack::dtype_code::UInt) || array.dtype().lanes != 1)
    refuse("an array of " + dtype_name(array.dtype()));
  if (array.ndim() != 1) {
    nb::list shape;
    for (size_t i = 0; i < array.ndim(); ++i) shape.append(array.shape(i));
    throw Error(
        fmt::format("tokens: expected an array of one dimension, found the shape {}", text_of(nb::tuple(shape))),
        "one sequence at a time; generate takes a list of sequences as a batch");
  }
  switch (array.dtype().bits) {
    case 8: return is_signed ? convert<int8_t>(array) : convert<uint8_t>(array);
    case 16: return is_signed ? convert<int16_t>(array) : convert<uint16_t>(array);
    case 64: return is_signed ? convert<int64_t>(array) : convert<uint64_t>(array);
    default: break;
  }
  if (!is_signed) return convert<uint32_t>(array);
  if (array.shape(0) > 1 && array.stride(0) != 1) return convert<int32_t>(array);
  view_ = {static_cast<const int32_t*>(array.data()), array.shape(0)};
}

void Ids::read_sequence() {
  if (!PySequence_Check(tokens_.ptr())) refuse("a " + kind_of(tokens_));
  for (const nb::handle item : tokens_) {
    const size_t at = converted_.size();
    if (is_nested(item))
      refuse(fmt::format("a {} at place {}: one dimension is meant, a sequence of ids", kind_of(item), at));
    if (nb::isinstance<nb::bool_>(item) || !PyIndex_Check(item.ptr()))
      refuse(fmt::format("a {} at place {}", kind_of(item), at));
    const nb::object number = nb::steal(PyNumber_Index(item.ptr()));
    if (!number.is_valid()) throw nb::python_error();
    int64_t value = 0;
    if (!nb::try_cast(number, value)) refuse_number(text_of(number), at);
    converted_.push_back(checked(value, at));
  }
  view_ = converted_;
}

nb::object to_numpy(const Tensor& tensor) {
  const Callback calling;
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
