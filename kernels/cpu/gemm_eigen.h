// The product of one tile by Eigen, compiled once an instruction set. Included by gemm.cpp and gemm_avx*.cpp, each of
// which defines LATHE_GEMM_NAMESPACE first.
//
// Eigen chooses its vectors by the compiler's flags, and its templates have external linkage: were they compiled for
// two instruction sets under one name, the linker would keep either. So each copy has a namespace of its own.
#pragma once
#define EIGEN_MPL2_ONLY
#define EIGEN_DONT_PARALLELIZE  // the tiles are shared out over our own team
#define EIGEN_NO_DEBUG
#define Eigen LATHE_GEMM_NAMESPACE
#include <Eigen/Core>
#undef Eigen

#include <cstdint>

#include "kernels/cpu/gemm_tile.h"

namespace lathe::cpu {
namespace {

namespace eigen = LATHE_GEMM_NAMESPACE;

template <class T>
using RowMajor = eigen::Matrix<T, eigen::Dynamic, eigen::Dynamic, eigen::RowMajor>;
template <class T>
using ConstMap = eigen::Map<const RowMajor<T>, 0, eigen::OuterStride<>>;
template <class T>
using MutableMap = eigen::Map<RowMajor<T>, 0, eigen::OuterStride<>>;

template <class T>
void eigen_tile(const GemmArguments<T>& g) {
  const ConstMap<T> a(g.a, g.transpose_a ? g.k : g.m, g.transpose_a ? g.m : g.k, eigen::OuterStride<>(g.lda));
  const ConstMap<T> b(g.b, g.transpose_b ? g.n : g.k, g.transpose_b ? g.k : g.n, eigen::OuterStride<>(g.ldb));
  MutableMap<T> c(g.c, g.m, g.n, eigen::OuterStride<>(g.ldc));
  if (!g.accumulate) c.setZero();
  if (g.transpose_a && g.transpose_b)
    c.noalias() += a.transpose() * b.transpose();
  else if (g.transpose_a)
    c.noalias() += a.transpose() * b;
  else if (g.transpose_b)
    c.noalias() += a * b.transpose();
  else
    c.noalias() += a * b;
}

}  // namespace
}  // namespace lathe::cpu
