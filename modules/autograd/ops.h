// The differentiable operations: checked, allocated, computed, recorded. One source file an operation.
//
// Every function takes tensors of one floating dtype, f32 or f64 (f64 exists for gradient checks), returns a contiguous
// tensor unless said, throws Error naming the operation, the shapes expected and those found, and records itself on the
// active tape when one of its inputs wants a gradient. Shape letters: docs/shapes.md.
#pragma once
#include <span>
#include <vector>

#include "autograd/parameter.h"
#include "kernels/activation.h"
#include "kernels/paged_attention.h"
#include "kernels/rope.h"
#include "kernels/sampling.h"
#include "tensor/tensor.h"

namespace lathe {

// ---- products ----

// One weight of a packed projection: W (out, in) and an optional bias (out).
struct LinearWeight {
  const Parameter* weight = nullptr;
  const Parameter* bias = nullptr;
};
// y = x W^T + b, and what a low-rank change of W adds: x (N, in) -> (N, out). Packed weights go to the inference
// kernels (which need x in f32 and record nothing but dx: a packed weight is frozen); others to a library product,
// values widened to x's dtype.
Tensor linear(const Tensor& x, const LinearWeight& w);
// Several weights over one input: x (N, in) -> (N, out_0 + out_1 + ...), columns in the order given.
Tensor linear(const Tensor& x, std::span<const LinearWeight> parts);

// linear(activation(gate, f), w), or where `up` is defined linear(gated_activation(gate, up, f), w), without making
// what is multiplied: gate, up (N, in; rows may be strided) -> (N, out).
Tensor activated_linear(const Tensor& gate, const Tensor& up, Activation f, const LinearWeight& w);

// Rows of a table: table (V, C), ids (N) i32 -> (N, C) f32 (f64 for an f64 table). An id outside [0, V) is an Error. Of
// a table whose rows ranks share out, each looks up its own.
Tensor embedding(const Parameter& table, const Tensor& ids);

// ---- ranks that share weights out: in f32, by all of them together, the backward too ----

// What ranks do with a tensor that all of them have: all the same, or each a product with its own rows of a weight. Its
// gradient is then alike on all ranks, or the sum of what they have.
enum class Behind : uint8_t { alike, own_rows };
// The columns of all ranks side by side, the same on all of them: x (N, own), rows may be strided -> (N, all).
// `borders` as Shard has them.
Tensor join_columns(const Tensor& x, Communicator& ranks, std::span<const int64_t> borders,
                    Behind behind = Behind::alike);
// The other way round: x (N, all), alike on all ranks -> (N, own).
Tensor own_columns(const Tensor& x, Communicator& ranks, std::span<const int64_t> borders);
// x itself, behind which each rank has its own rows of weights.
Tensor sum_gradients(const Tensor& x, Communicator& ranks);
// What a product with `weight` takes, of x (N, in, or the own part of it), and what it gives, of its own rows' y
// (N, own): joined where Shard::columns says so.
Tensor whole_input(const Tensor& x, const Parameter& weight);
Tensor whole_output(const Tensor& y, const Parameter& weight);

// ---- normalisation ----

// x (..., n), w (n). y = x / rms(x) * (w + offset).
Tensor rms_norm(const Tensor& x, const Parameter& w, double eps, double offset = 0.0);
// x (..., n), w (n), b (n) or null.
Tensor layer_norm(const Tensor& x, const Parameter& w, const Parameter* b, double eps);

// A residual stream's sum and what a norm makes of it: sum = a + b, normal = norm(sum). One pass where nothing is
// recorded, add and the norm where it is; the bits are the same.
struct AddNorm {
  Tensor sum, normal;
};
AddNorm add_rms_norm(const Tensor& a, const Tensor& b, const Parameter& w, double eps, double offset = 0.0);
AddNorm add_layer_norm(const Tensor& a, const Tensor& b, const Parameter& w, const Parameter* bias, double eps);

// ---- positions ----

// cos and sin of angles by position, (P, R / 2) each, in the dtype of the activations, and the row that each token
// takes.
struct RopeAngles {
  Tensor cos, sin;
  Tensor rows;  // (N) i32
  RopeStyle style = RopeStyle::half_split;
};
// x (N, H, D) -> (N, H, D), the first R components of each head rotated.
Tensor rope(const Tensor& x, const RopeAngles& angles);
// Fills rows [first, end) of the tables with the angles row * inverse[i] of R / 2 frequencies, times `factor`.
void fill_rope_rows(const RopeAngles& tables, std::span<const float> inverse, float factor, int64_t first, int64_t end);

// ---- attention ----

// How a score is made of q k^T, and which keys have one.
struct AttentionOptions {
  float scale = 1.0f;    // multiplies q k^T
  int64_t window = 0;    // keys a query sees, itself included; 0: all before it
  float softcap = 0.0f;  // c tanh(s / c); 0: none
  Tensor alibi_slopes;   // (Hq) f32: adds slope * (key position - query position); undefined: none
};

// q (N, Hq, D), k and v (N, Hk, D), seq_start (S + 1) i32 -> (N, Hq, D). Causal within a sequence.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& seq_start,
                 const AttentionOptions& options);

// What each query gives each key of its sequence, for observers; not recorded: (N, Hq, longest), zeros behind.
// `longest` is the number of tokens of the longest sequence.
Tensor attention_probabilities(const Tensor& q, const Tensor& k, const Tensor& seq_start, int64_t longest,
                               const AttentionOptions& options);

// What lies between the projections and the cache: norms over heads (rms_norm) and rotation of queries and keys.
struct HeadSteps {
  struct Norm {
    const Parameter* weight = nullptr;  // (D); null: none
    double eps = 0.0, offset = 0.0;
  };
  Norm q_norm = {}, k_norm = {};
  const RopeAngles* rope = nullptr;  // null: none
};
// Where the sequences of a batch lie in the cache: pages (S, P) i32, seq_start (S + 1) i32, context_len (S) i32, and
// the largest of the latter, by which scratch is sized.
struct PagedSequences {
  const Tensor &pages, &seq_start, &context_len;
  int64_t longest_context;
};
// The three below take f32, rows may be strided, and are never recorded. slots (N) i32; -1 writes nothing.
// The steps and the write in one pass, with the bits of the operations one by one: -> the queries (N, Hq, D).
Tensor qk_norm_rope_write(const Tensor& q, const Tensor& k, const Tensor& v, const HeadSteps& steps,
                          const CacheLayer& cache, const Tensor& slots);
// k and v (N, Hk, D) into one layer of the cache.
void write_kv(const Tensor& k, const Tensor& v, const CacheLayer& cache, const Tensor& slots);
// q (N, Hq, D), whose keys are in the cache already -> (N, Hq, D).
Tensor paged_attention(const Tensor& q, const CacheLayer& cache, int64_t kv_heads, const PagedSequences& sequences,
                       const AttentionOptions& options);

// ---- element-wise ----

Tensor activation(const Tensor& x, Activation f);                             // (..., n) -> (..., n)
Tensor gated_activation(const Tensor& gate, const Tensor& up, Activation f);  // f(gate) * up; rows may be strided
Tensor add(const Tensor& a, const Tensor& b);
Tensor multiply(const Tensor& a, const Tensor& b);
Tensor scale(const Tensor& x, double factor);

// x / (1 - rate) with probability 1 - rate, else 0, chosen by (seed, stream, index of the element). The seed is a
// tensor, so that work that was recorded on a device can be given another.
Tensor dropout(const Tensor& x, double rate, const Tensor& seed, uint64_t stream);
Tensor dropout_seed(uint64_t seed);  // (2) i32: the bytes of the number
// x within [-bound, bound]; rows may be strided.
Tensor clamp(const Tensor& x, double bound);
// Row i of x (N, n) times factors[i]: x may be strided, factors (N) are constants.
Tensor scale_rows(const Tensor& x, const Tensor& factors);
// max(1, log(position + 1) / log(base)) for positions (N) i32, in `dtype` (log-n attention, Su 2021).
Tensor log_position_factors(const Tensor& positions, int64_t base, DType dtype);

// ---- selection ----

// Columns [begin, begin + width) of x (N, columns) as a view with x's stride.
Tensor slice_columns(const Tensor& x, int64_t begin, int64_t width);
// Rows of x (N, C) by index (R) i32 -> (R, C).
Tensor select_rows(const Tensor& x, const Tensor& rows);

// ---- mixtures of experts ----

// Which experts each token goes to. `places` are the N k pairs of a token and an expert, sorted by expert, then by
// token.
struct ExpertRoutes {
  Tensor weights;  // (N, k): of the chosen, the most probable first
  Tensor experts;  // (N, k) i32
  Tensor rows;     // (N k) i32: the token at each place
  Tensor places;   // (N, k) i32: where a token's pairs are
  Tensor starts;   // (E + 1) i32: places [starts[e], starts[e + 1]) are expert e's
};
// The `per_token` largest of a token's logits (N, E), of equal ones the lowest index, weighted by their softmax over
// all experts, or over the chosen alone when `normalise`.
ExpertRoutes route_experts(const Tensor& logits, int64_t per_token, bool normalise);
// Rows [starts[e], starts[e + 1]) of x (rows, in) with the e-th of E equal shares of `weights`: (rows, out_0 + ...).
Tensor grouped_linear(const Tensor& x, const Tensor& starts, std::span<const LinearWeight> weights);
// The weighted sum of what a token's experts gave: x (N k, C) by place -> (N, C).
Tensor combine_experts(const Tensor& x, const ExpertRoutes& routes);
// E sum_e f_e P_e, f_e the number of choices of expert e by token, P_e its mean probability, over all tokens and
// layers: (1). Fedus et al. 2021 (Switch Transformer), eq. 4 to 6, for k choices as Mixtral has it.
Tensor load_balancing_loss(std::span<const Tensor> router_logits, int64_t per_token);

// ---- loss ----

inline constexpr int32_t kIgnoredTarget = -100;

// Mean over the targets that are not kIgnoredTarget of logsumexp(logits) - logits[target]: logits (N, V), targets (N)
// i32 -> (1). A target outside [0, V) that is not kIgnoredTarget is an Error; with none left the loss is 0 and so are
// the gradients. `total` divides the sum instead of the count of targets when positive (accumulation over batches).
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, double total = 0.0);

// Of each row of logits (N, V): its maximum, the sum of exp(logit - maximum) in f64, and the target's logit, (N) each.
// Not recorded.
struct RowLogsumexp {
  Tensor maximum, sum, target_logit;
};
RowLogsumexp row_logsumexp(const Tensor& logits, const Tensor& targets);

// The output head: scale * (h W^T + b), softcapped where asked (Gemma 2: c tanh(x / c)).
struct Head {
  const Parameter* weight = nullptr;  // (V, C); the embedding table when tied
  const Parameter* bias = nullptr;    // (V) or null
  double scale = 1.0;
  double softcap = 0.0;
};
// (R, C) -> (R, V). All V of them where ranks share the head's rows out.
Tensor apply_head(const Tensor& hidden, const Head& head);
// cross_entropy(apply_head(hidden)), never holding more than `chunk` columns of the logits: two passes over the
// vocabulary, the second one recomputing what the backward needs. A chunk of 0 is 8192 columns, or all of them, kept
// for the backward, where a gradient is wanted and they take no more than 256 MiB.
Tensor linear_cross_entropy(const Tensor& hidden, const Head& head, const Tensor& targets, double total = 0.0,
                            int64_t chunk = 0);
// log softmax(apply_head(hidden))[target] by row, 0 where the target is kIgnoredTarget; in chunks like the loss: (R).
Tensor linear_log_probabilities(const Tensor& hidden, const Head& head, const Tensor& targets, int64_t chunk = 8192);

// ---- sampling ----

// A token for each row of logits (R, V) by rows (R): (R) i32. kNoToken where no token can be chosen.
Tensor sample(const Tensor& logits, std::span<const SamplingRow> rows);

// Natural log-probabilities by logits (R, V): of tokens (R), and of the k most probable of each row (all where there
// are fewer), descending, ties by id.
struct LogProbabilities {
  Tensor chosen;      // (R)
  Tensor top_tokens;  // (R, k) i32
  Tensor top;         // (R, k)
};
LogProbabilities log_probabilities(const Tensor& logits, const Tensor& tokens, int64_t k);

}  // namespace lathe
