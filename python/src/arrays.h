// Tensors as NumPy arrays and token ids from Python, without copies where the layout allows it.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <span>
#include <variant>
#include <vector>

#include "llm/load.h"

namespace lathe::python {

namespace nb = nanobind;

// An int32 array is read where it lies; other integers and lists are converted.
using TokenArray = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Tokens = std::variant<TokenArray, std::vector<int32_t>>;

std::span<const int32_t> view(const Tokens& tokens);

// The tensor's own memory, which the array keeps alive; rows may lie apart. f32, f64 and i32.
nb::object to_numpy(const Tensor& tensor);
nb::dict to_numpy(const NamedTensors& tensors);

}  // namespace lathe::python
