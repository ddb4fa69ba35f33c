// The table of training kernels that every instruction set fills in (training_<isa>.cpp), beside that of inference
// (dispatch.h), whose rules are its own.
#pragma once
#include <cstdint>

#include "kernels/activation.h"
#include "kernels/optimizer_factors.h"
#include "kernels/paged_attention.h"

namespace lathe::cpu {

// ---- products (gemm_tiles.h) ----

// One operand of a product as `count` rows of op(A), or columns of op(B), of `depth` elements: (i, k) is
// data[i * ld + k], or data[k * ld + i] where its rows are those of k, k there counted from the range's first.
struct GemmOperand {
  const float* data;
  int64_t ld;
  bool rows_of_k;
  int64_t count, depth;
};
// Some strips of it, and some elements of each; within a row the first is a multiple of 16.
struct GemmRange {
  int64_t strip0, strip1, step0, step1;
};
// Where a product goes: C += it, or C = bias (by column, may be null) + it.
struct GemmOutput {
  float* c;
  int64_t ldc;
  const float* bias;
  bool accumulate;
};
struct GemmKernels {
  int tile_rows, tile_columns, step;  // width of the strips of A and of B; how much of k an element of theirs holds
  // Both write [strip][element][width], strips `strip_floats` apart. `sums` (count), not null only where the rows are
  // those of k, takes the sums over k.
  void (*pack_a)(float* to, const GemmOperand& a, const GemmRange& range, float* sums);
  void (*pack_b)(float* to, const GemmOperand& b, const GemmRange& range, float* sums);
  void (*multiply)(const GemmOutput& out, const float* a, const float* b, int64_t rows, int64_t columns, int64_t depth);

  int64_t steps(int64_t depth) const { return (depth + step - 1) / step; }
  int64_t strip_floats(int64_t depth, int width) const { return steps(depth) * width + 16; }
};
// bf16: operands are rounded, sums are f32.
struct GemmTable {
  GemmKernels floats, bf16;
};

// ---- attention of training (attention_tiles.h) ----

// One sequence, one query head; rows are tokens.
struct SequenceHead {
  const float *q, *k, *v;
  int64_t ldq, ldk, ldv;
  int64_t tokens, dim;
  ScoreOptions options;
  float slope;  // of alibi
};
struct SequenceGradients {
  float *dq, *dk, *dv;
  int64_t lddq, lddk, lddv;
  const float *dout, *out;  // with stride ldo
  int64_t ldo;
  const float* logsumexp;  // with stride ldl
  int64_t ldl;
};
struct SequenceAttentionKernels {
  // Scratch, 64-byte aligned, in floats.
  int64_t (*forward_floats)(int64_t tokens, int64_t dim);
  int64_t (*backward_floats)(int64_t tokens, int64_t dim);
  void (*forward)(float* out, int64_t ldo, float* logsumexp, int64_t ldl, const SequenceHead& head, float* scratch);
  // `first`: of the heads that share keys and values, which follow with the same scratch and add to dk and dv.
  void (*backward)(const SequenceGradients& gradients, const SequenceHead& head, float* scratch, bool first);
};

// ---- gradients by rows (row_gradients.h) ----

struct NormGradients {
  float* dx;  // contiguous, or null
  bool accumulate;
  float *dw, *db;  // added to, or null
};
struct NormRows {
  const float* x;
  int64_t ldx;
  const float* w;
  const float *mean, *rstd;  // by row
  float offset;
};
struct ActivationGradients {
  float* dx;
  int64_t lddx;
  float* dup;
  int64_t lddup;
};
struct ActivationRows {
  const float* x;
  int64_t ldx;
  const float* up;  // null: not gated
  int64_t ldup;
};
struct RowGradientTable {
  void (*rms_norm)(const NormGradients& to, const float* dy, const NormRows& x, int64_t rows, int64_t n);
  void (*layer_norm)(const NormGradients& to, const float* dy, const NormRows& x, int64_t rows, int64_t n);
  // dx may be dy.
  void (*activation)(const ActivationGradients& to, const float* dy, int64_t lddy, const ActivationRows& in,
                     int64_t rows, int64_t n, Activation f);
  float (*largest)(const float* x, int64_t n);
  double (*sum_of_exponentials)(const float* x, float maximum, int64_t n);  // of x - maximum
  void (*scaled_exponentials)(float* y, const float* x, float logsumexp, float factor, int64_t n);
};

// ---- steps of optimizers (kernels/optimizer.h) ----

struct OptimizerTable {
  double (*sum_of_squares)(const float* x, int64_t n);
  void (*adamw)(float* w, float* m, float* v, float* g, int64_t n, const AdamwFactors& factors);
  void (*sgd)(float* w, float* m, float* g, int64_t n, const SgdFactors& factors);
  // Of one block; `words` (kStateBlock) of which the 16 bits from `shift` on round.
  void (*draw)(uint32_t* words, uint64_t key, uint64_t stream, uint64_t first);
  void (*decode)(float* x, const int8_t* codes, float scale, StateMap map);
  void (*encode)(int8_t* codes, float* scale, const float* x, StateMap map, const uint32_t* words, int shift);
};

// ---- the table ----

struct TrainingKernels {
  GemmTable gemm;
  SequenceAttentionKernels attention;
  RowGradientTable rows;
  OptimizerTable optimizer;
};

const TrainingKernels& training_kernels();  // of cpu_isa()

// Null where the build's target has no such instruction set.
const TrainingKernels* training_portable();
const TrainingKernels* training_avx2();
const TrainingKernels* training_avx512();
const TrainingKernels* training_avx512_vnni();
const TrainingKernels* training_neon();
// Products of pairs of bf16, wherever they are slower: for tests.
const GemmKernels* gemm_of_pairs();

}  // namespace lathe::cpu
