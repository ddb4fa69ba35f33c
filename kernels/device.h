// Where a kernel runs: the first argument of every kernel, which has one overload a device.
#pragma once
#include <cstdint>
#include <type_traits>

struct CUstream_st;  // CUDA's, outside of every namespace: a cudaStream_t is a pointer to it

namespace lathe {

struct Cpu {};  // on the thread team
struct Cuda {
  CUstream_st* stream;  // of the device that holds the operands
};

// What statistics, parameters of norms and gradients of parameters are kept in beside elements of type T.
template <class T>
using Sum = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Rows of a matrix, `stride` elements from one to the next. Elements of a row lie one after the other.
template <class T>
struct Rows {
  T* data = nullptr;
  int64_t stride = 0;

  Rows() = default;
  Rows(T* data, int64_t stride) : data(data), stride(stride) {}
  template <class U>
  requires std::is_same_v<const U, T> Rows(const Rows<U>& other) : data(other.data), stride(other.stride) {}

  T* operator[](int64_t row) const { return data + row * stride; }
  Rows from(int64_t row) const { return {data + row * stride, stride}; }
};
// Rows that a kernel reads; T follows from its other arguments.
template <class T>
using ConstRows = Rows<const std::type_identity_t<T>>;

}  // namespace lathe
