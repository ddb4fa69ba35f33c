// Parameter: a weight, its gradient, and what kind of weight it is.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "kernels/packed_linear.h"
#include "tensor/communicator.h"
#include "tensor/tensor.h"

namespace lathe {

// A weight in the layout of the inference kernels, and the arithmetic it was prepared for.
struct PackedWeight {
  Tensor storage;  // bytes behind `matrix`
  PackedMatrix matrix;
  Arithmetic arithmetic = Arithmetic::f32;
};

// The rows of a weight that one of several ranks has, which compute with all of it together.
struct Shard {
  Communicator* ranks = nullptr;
  std::vector<int64_t> rows;  // rank r has rows [rows[r], rows[r + 1])
  // Where ranks have as much of the product's input: it is joined before the product, and the output behind it. Empty:
  // all ranks have the input, and each keeps its part of the output.
  std::vector<int64_t> columns = {};

  int64_t first() const { return rows[static_cast<size_t>(ranks->rank())]; }
  int64_t count() const { return rows[static_cast<size_t>(ranks->rank()) + 1] - first(); }
  int64_t whole() const { return rows.back(); }
};

struct LowRank;  // autograd/low_rank.h

struct Parameter {
  // Decides weight decay, the optimizer's group and what may be quantised: not a router, whose rounding would send
  // tokens to other experts, nor a table of positions. q, k, v, gate, up and each expert are matrices of their own,
  // however they are multiplied or stored; `head` is an output head that is not the embedding table.
  enum class Kind : uint8_t { matrix, embedding, position, head, norm, bias, router };

  Parameter() = default;
  Parameter(Kind kind, Shape shape) : kind(kind), shape(shape) {}

  Kind kind = Kind::matrix;
  Shape shape;  // what the model expects; matrix, router, head (out, in); embedding, position (rows, C); norm, bias (n)
  Tensor value;                        // in the checkpoint's layout and dtype; undefined before loading and once packed
  std::optional<PackedWeight> packed;  // what inference reads instead of `value` when it is there
  // Summed by backward in f32 (f64 for f64 values); undefined until the first backward reaches it. Mutable: a forward
  // over a const model records where its gradients will go.
  mutable Tensor grad;
  bool trainable = true;
  // What an adapter adds to products with this weight, and to the rows of this table that are looked up; null: nothing.
  // Here and not in the modules, so that whatever multiplies by a weight heeds it: experts and tied heads as well.
  const LowRank* low_rank = nullptr;
  const LowRank* row_low_rank = nullptr;
  double share = 1.0;  // fraction of tokens that use it: k / E for an expert's
  // Of a weight that ranks share out: `shape` is that of the own rows, but for norms, which all ranks have whole.
  std::optional<Shard> shard;

  // Whether other ranks have other rows; the first row that this one has; the shape of all ranks' rows.
  bool is_part() const { return shard && kind != Kind::norm; }
  int64_t first_row() const { return is_part() ? shard->first() : 0; }
  Shape whole_shape() const;

  Device device() const { return packed ? packed->storage.device() : value.device(); }
  bool is_vector() const { return kind == Kind::norm || kind == Kind::bias; }
  bool decays() const { return !is_vector(); }  // by weight decay: matrices, tables, heads and routers
  bool is_table() const { return kind == Kind::embedding || kind == Kind::position; }  // looked up by row
  // Packs `value` for the inference kernels and drops it; matrices and embeddings only, f64 stays as it is.
  void prepare_for_inference(Arithmetic arithmetic);
  // The gradient to add to: made of zeros at the first call.
  Tensor& gradient() const;
};

// What of a model a module belongs to.
enum class ModelPart : uint8_t { other, attention, feed_forward };

struct NamedParameter {
  std::string name;  // the model's path, "model.layers.0.self_attn.q_proj.weight"
  Parameter* parameter = nullptr;
  ModelPart part = ModelPart::other;
};

}  // namespace lathe
