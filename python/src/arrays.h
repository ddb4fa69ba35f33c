// Tensors as NumPy arrays and token ids from Python, without copies where the layout allows it.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <span>
#include <string>
#include <vector>

#include "llm/load.h"

namespace lathe::python {

namespace nb = nanobind;

// Token ids from an array of one dimension or a sequence of integers. An int32 array is read where it lies, others are
// converted. Raises TypeError for what holds no integers (floats, booleans, text) and for an integer of more than 32
// bits, naming its place, and Error for another number of dimensions.
class Ids {
 public:
  explicit Ids(nb::object tokens);
  std::span<const int32_t> view() const { return view_; }

 private:
  template <class T>
  void convert(const nb::ndarray<nb::ro, nb::device::cpu>& array);
  void read_array(const nb::ndarray<nb::ro, nb::device::cpu>& array);
  void read_sequence();

  nb::object tokens_;  // keeps the array that is read where it lies
  nb::ndarray<nb::ro, nb::device::cpu> array_;
  std::vector<int32_t> converted_;
  std::span<const int32_t> view_;
};

// Sequences of ids, and what keeps them.
class IdLists {
 public:
  explicit IdLists(const nb::list& list) {
    held_.reserve(list.size());
    for (const nb::handle tokens : list) held_.emplace_back(nb::borrow(tokens));
    for (const Ids& ids : held_) views_.push_back(ids.view());
  }
  const std::vector<std::span<const int32_t>>& views() const { return views_; }

 private:
  std::vector<Ids> held_;
  std::vector<std::span<const int32_t>> views_;
};

// How signatures show what Ids takes.
#define LATHE_IDS "numpy.typing.NDArray[numpy.integer] | typing.Sequence[int]"

// The name of an object's type, for messages.
std::string kind_of(nb::handle object);

// The tensor's own memory, which the array keeps alive; rows may lie apart. f32, f64 and i32.
nb::object to_numpy(const Tensor& tensor);
nb::dict to_numpy(const NamedTensors& tensors);

}  // namespace lathe::python
