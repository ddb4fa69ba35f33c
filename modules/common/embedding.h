// Look-up tables: token embeddings and learned positions.
#pragma once
#include "autograd/ops.h"
#include "common/module.h"

namespace lathe {

struct Embedding {
  Parameter weight;  // (rows, C)

  Embedding() = default;
  Embedding(int64_t rows, int64_t width, Parameter::Kind kind = Parameter::Kind::embedding)
      : weight(kind, {rows, width}) {}

  Tensor operator()(const Tensor& ids) const { return embedding(weight, ids); }  // (N) i32 -> (N, C)

  void visit(Visitor& v) { v("weight", weight); }
};

}  // namespace lathe
