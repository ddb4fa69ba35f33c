// Every operation and every option: gradients against central differences in double, and f32 against f64.
#include <cmath>

#include "tests/autograd/gradient_check.h"
#include "tests/catch.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// An activation that came out of a packed projection: columns [begin, begin + heads * dim) as (N, heads, dim).
Tensor heads_of(const Tensor& packed, int64_t begin, int64_t heads, int64_t dim) {
  return slice_columns(packed, begin, heads * dim).view({packed.dim(0), heads, dim});
}

// cos and sin of some angle for each token and pair.
RopeAngles angles_for(const Tensor& x, int64_t pairs, RopeStyle style) {
  RopeAngles angles{Tensor::empty({x.dim(0), pairs}, DType::f64), Tensor::empty({x.dim(0), pairs}, DType::f64),
                    Tensor::empty({x.dim(0)}, DType::i32), style};
  for (int64_t i = 0; i < x.dim(0); ++i)  // backwards: a token's row is not its place
    angles.rows.data<int32_t>()[i] = static_cast<int32_t>(x.dim(0) - 1 - i);
  for (int64_t i = 0; i < x.dim(0) * pairs; ++i) {
    angles.cos.data<double>()[i] = std::cos(0.7 * static_cast<double>(i));
    angles.sin.data<double>()[i] = std::sin(0.7 * static_cast<double>(i));
  }
  angles.cos = here(convert(angles.cos, x.dtype()));
  angles.sin = here(convert(angles.sin, x.dtype()));
  angles.rows = here(angles.rows);
  return angles;
}

struct AttentionCase {
  std::string name;
  int64_t heads, kv_heads, dim;
  std::vector<int32_t> seq_start;
  AttentionOptions options;
};

void check_attention_case(const AttentionCase& a) {
  const int64_t n = a.seq_start.back(), q = a.heads * a.dim, kv = a.kv_heads * a.dim;
  check_case({"attention " + a.name, {{n, q + 2 * kv}}, {}, [=](const Inputs& in, const Parameters&) {
                AttentionOptions options = a.options;
                if (options.alibi_slopes.defined()) options.alibi_slopes = here(options.alibi_slopes);
                return attention(heads_of(in[0], 0, a.heads, a.dim), heads_of(in[0], q, a.kv_heads, a.dim),
                                 heads_of(in[0], q + kv, a.kv_heads, a.dim), ids_of(a.seq_start), options);
              }});
}

}  // namespace

TEST_CASE("gradients of linear") {
  check_case({"linear", {{5, 6}}, {{4, 6}}, [](const Inputs& in, const Parameters& p) {
                return linear(in[0], {&p[0], nullptr});
              }});
  check_case({"linear with bias", {{5, 6}}, {{4, 6}, {4}}, [](const Inputs& in, const Parameters& p) {
                return linear(in[0], {&p[0], &p[1]});
              }});
  check_case({"linear over a slice", {{5, 9}}, {{4, 6}}, [](const Inputs& in, const Parameters& p) {
                return linear(slice_columns(in[0], 2, 6), {&p[0], nullptr});
              }});
  check_case({"linear of three parts",
              {{5, 6}},
              {{4, 6}, {3, 6}, {2, 6}, {4}, {2}},
              [](const Inputs& in, const Parameters& p) {
                const LinearWeight parts[] = {{&p[0], &p[3]}, {&p[1], nullptr}, {&p[2], &p[4]}};
                return linear(in[0], parts);
              }});
  check_case({"linear with an unused part",
              {{5, 6}},
              {{4, 6}, {3, 6}, {4, 6}, {3}},
              [](const Inputs& in, const Parameters& p) {
                const LinearWeight parts[] = {{&p[0], nullptr}, {&p[1], &p[3]}, {&p[2], nullptr}};
                const Tensor y = linear(in[0], parts);
                return multiply(slice_columns(y, 0, 4), slice_columns(y, 7, 4));
              }});
}

TEST_CASE("gradients of a linear large enough to be cut into tiles") {
  // 110 x 130 outputs with 40 terms: more than a tile on either side, and not multiples of one.
  const Case c{"linear in tiles", {{110, 40}}, {{130, 40}, {130}}, [](const Inputs& in, const Parameters& p) {
                 return linear(in[0], {&p[0], &p[1]});
               }};
  check_single_against_double(c);
}

TEST_CASE("gradients of embedding") {
  check_case({"embedding", {}, {{5, 3}}, [](const Inputs&, const Parameters& p) {
                return embedding(p[0], ids_of({4, 0, 4, 4, 2}));
              }});
}

TEST_CASE("gradients of the norms") {
  for (const double offset : {0.0, 1.0}) {
    check_case({"rms_norm", {{4, 7}}, {{7}}, [=](const Inputs& in, const Parameters& p) {
                  return rms_norm(in[0], p[0], 1e-3, offset);
                }});
    check_case(
        {"rms_norm of heads in a packed projection", {{3, 14}}, {{4}}, [=](const Inputs& in, const Parameters& p) {
           return rms_norm(heads_of(in[0], 5, 2, 4), p[0], 1e-3, offset);
         }});
  }
  check_case({"rms_norm of columns", {{4, 9}}, {{5}}, [](const Inputs& in, const Parameters& p) {
                return rms_norm(slice_columns(in[0], 3, 5), p[0], 1e-3);
              }});
  check_case({"layer_norm", {{4, 7}}, {{7}, {7}}, [](const Inputs& in, const Parameters& p) {
                return layer_norm(in[0], p[0], &p[1], 1e-3);
              }});
  check_case({"layer_norm without bias", {{4, 9}}, {{7}}, [](const Inputs& in, const Parameters& p) {
                return layer_norm(slice_columns(in[0], 1, 7), p[0], nullptr, 1e-3);
              }});
}

TEST_CASE("gradients of rope") {
  for (const RopeStyle style : {RopeStyle::half_split, RopeStyle::interleaved})
    for (const int64_t pairs : {4, 2, 0}) {
      check_case({"rope, pairs " + std::to_string(pairs), {{3, 2, 8}}, {}, [=](const Inputs& in, const Parameters&) {
                    return rope(in[0], angles_for(in[0], pairs, style));
                  }});
      check_case(
          {"rope of a slice, pairs " + std::to_string(pairs), {{3, 20}}, {}, [=](const Inputs& in, const Parameters&) {
             return rope(heads_of(in[0], 2, 2, 8), angles_for(in[0], pairs, style));
           }});
    }
}

TEST_CASE("gradients of attention") {
  const std::vector<float> values{0.5f, 0.25f, 0.125f, 0.0625f};
  const Tensor slopes = Tensor::of<float>({4}, values.data());
  AttentionOptions plain;
  plain.scale = 0.5f;
  AttentionOptions window = plain, softcap = plain, alibi = plain, all = plain;
  window.window = 3;
  softcap.softcap = 1.5f;
  alibi.alibi_slopes = slopes;
  all.window = 4, all.softcap = 2.0f, all.alibi_slopes = slopes;
  check_attention_case({"of equal heads", 2, 2, 4, {0, 6}, plain});
  check_attention_case({"of grouped heads", 4, 2, 3, {0, 5}, plain});
  check_attention_case({"of one key-value head", 4, 1, 3, {0, 5}, plain});
  check_attention_case({"over ragged sequences", 2, 1, 4, {0, 1, 5, 5, 8}, plain});
  check_attention_case({"in a window", 2, 1, 3, {0, 7, 8}, window});
  check_attention_case({"with a softcap", 2, 1, 3, {0, 6}, softcap});
  check_attention_case({"with ALiBi", 4, 2, 2, {0, 6}, alibi});
  check_attention_case({"with everything", 4, 2, 2, {0, 1, 9}, all});
}

TEST_CASE("gradients of attention across tiles") {
  AttentionOptions options;
  options.scale = 0.7f;
  check_attention_case({"longer than a tile", 2, 1, 2, {0, 70, 73}, options});
  options.window = 20;  // begins inside one tile of keys and ends in another
  options.softcap = 3.0f;
  check_attention_case({"longer than a tile in a window", 1, 1, 2, {0, 100}, options});
}

TEST_CASE("gradients of activations") {
  for (const Activation f : {Activation::silu, Activation::gelu_exact, Activation::gelu_tanh}) {
    check_case({"activation", {{4, 6}}, {}, [=](const Inputs& in, const Parameters&) { return activation(in[0], f); }});
    check_case({"activation of a slice", {{4, 6}}, {}, [=](const Inputs& in, const Parameters&) {
                  return activation(slice_columns(in[0], 1, 4), f);
                }});
    check_case({"gated_activation", {{4, 6}, {4, 6}}, {}, [=](const Inputs& in, const Parameters&) {
                  return gated_activation(in[0], in[1], f);
                }});
    check_case({"gated_activation of slices", {{4, 10}}, {}, [=](const Inputs& in, const Parameters&) {
                  return gated_activation(slice_columns(in[0], 0, 5), slice_columns(in[0], 5, 5), f);
                }});
    check_case({"activated_linear", {{4, 6}}, {{3, 6}, {3}}, [=](const Inputs& in, const Parameters& p) {
                  return activated_linear(in[0], {}, f, {&p[0], &p[1]});
                }});
    check_case({"activated_linear, gated", {{4, 6}, {4, 6}}, {{3, 6}}, [=](const Inputs& in, const Parameters& p) {
                  return activated_linear(in[0], in[1], f, {&p[0], nullptr});
                }});
    check_case({"activated_linear, gated, of slices", {{4, 10}}, {{3, 5}}, [=](const Inputs& in, const Parameters& p) {
                  return activated_linear(slice_columns(in[0], 0, 5), slice_columns(in[0], 5, 5), f, {&p[0], nullptr});
                }});
    check_case({"activated_linear, gated by itself", {{4, 6}}, {{3, 6}}, [=](const Inputs& in, const Parameters& p) {
                  return activated_linear(in[0], in[0], f, {&p[0], nullptr});
                }});
  }
}

TEST_CASE("gradients of sums, products and multiples") {
  check_case({"add", {{3, 4}, {3, 4}}, {}, [](const Inputs& in, const Parameters&) { return add(in[0], in[1]); }});
  check_case({"add to itself", {{3, 4}}, {}, [](const Inputs& in, const Parameters&) { return add(in[0], in[0]); }});
  check_case(
      {"multiply", {{3, 4}, {3, 4}}, {}, [](const Inputs& in, const Parameters&) { return multiply(in[0], in[1]); }});
  check_case({"square", {{3, 4}}, {}, [](const Inputs& in, const Parameters&) { return multiply(in[0], in[0]); }});
  check_case({"scale", {{3, 4}}, {}, [](const Inputs& in, const Parameters&) { return scale(in[0], -1.5); }});
  check_case({"a residual stream", {{3, 4}}, {{4, 4}}, [](const Inputs& in, const Parameters& p) {
                Tensor x = in[0];
                for (int i = 0; i < 3; ++i) x = add(x, scale(linear(x, {&p[0], nullptr}), 0.3));
                return x;
              }});
  check_case({"views of one tensor", {{4, 6}}, {}, [](const Inputs& in, const Parameters&) {
                return multiply(in[0].view({3, 8}), scale(in[0], 2.0).view({3, 8}));
              }});
}

TEST_CASE("gradients of what lies between projections and attention") {
  // About a third of the standard normal values lies outside; none within a step of the border.
  check_case({"clamp", {{4, 6}}, {}, [](const Inputs& in, const Parameters&) { return clamp(in[0], 1.0); }});
  check_case({"clamp of a slice", {{4, 9}}, {}, [](const Inputs& in, const Parameters&) {
                return clamp(slice_columns(in[0], 2, 5), 0.8);
              }});
  const auto factors_for = [](const Tensor& x) {
    const double values[] = {1.0, 1.25, 0.5, 3.0};
    return here(convert(Tensor::of<double>({4}, values), x.dtype()));
  };
  check_case({"scale_rows", {{4, 6}}, {}, [=](const Inputs& in, const Parameters&) {
                return scale_rows(in[0], factors_for(in[0]));
              }});
  check_case({"scale_rows of a slice", {{4, 9}}, {}, [=](const Inputs& in, const Parameters&) {
                return scale_rows(slice_columns(in[0], 2, 5), factors_for(in[0]));
              }});
}

TEST_CASE("gradients of selections") {
  check_case(
      {"slice_columns", {{3, 8}}, {}, [](const Inputs& in, const Parameters&) { return slice_columns(in[0], 2, 3); }});
  check_case({"overlapping slices", {{3, 8}}, {}, [](const Inputs& in, const Parameters&) {
                return multiply(slice_columns(in[0], 2, 3), slice_columns(in[0], 3, 3));
              }});
  check_case({"slices that overlap, of slices", {{3, 8}}, {}, [](const Inputs& in, const Parameters&) {
                const Tensor inner = slice_columns(in[0], 1, 6);
                return multiply(multiply(slice_columns(inner, 0, 4), slice_columns(inner, 2, 4)),
                                slice_columns(in[0], 1, 4));
              }});
  check_case({"a slice beside the whole", {{3, 4}}, {{2, 4}, {2, 2}}, [](const Inputs& in, const Parameters& p) {
                return add(linear(in[0], {&p[0], nullptr}), linear(slice_columns(in[0], 1, 2), {&p[1], nullptr}));
              }});
  check_case({"select_rows", {{5, 3}}, {}, [](const Inputs& in, const Parameters&) {
                return select_rows(in[0], ids_of({4, 1, 4}));
              }});
  check_case({"select_rows of a slice", {{5, 6}}, {}, [](const Inputs& in, const Parameters&) {
                return select_rows(slice_columns(in[0], 1, 3), ids_of({0, 0, 2, 3}));
              }});
}

TEST_CASE("gradients of cross_entropy") {
  for (const double total : {0.0, 7.0}) {
    check_case({"cross_entropy", {{4, 9}}, {}, [=](const Inputs& in, const Parameters&) {
                  return cross_entropy(in[0], ids_of({8, 0, 3, 3}), total);
                }});
    check_case({"cross_entropy with ignored targets", {{4, 9}}, {}, [=](const Inputs& in, const Parameters&) {
                  return cross_entropy(in[0], ids_of({kIgnoredTarget, 0, kIgnoredTarget, 3}), total);
                }});
    check_case({"cross_entropy of ignored targets alone", {{2, 9}}, {}, [=](const Inputs& in, const Parameters&) {
                  return cross_entropy(in[0], ids_of({kIgnoredTarget, kIgnoredTarget}), total);
                }});
  }
  check_case({"cross_entropy of a slice, scaled", {{4, 12}}, {}, [](const Inputs& in, const Parameters&) {
                return scale(cross_entropy(slice_columns(in[0], 2, 9), ids_of({8, 0, 3, 3})), 3.0);
              }});
}

TEST_CASE("gradients of the head, whole and in chunks") {
  for (const double softcap : {0.0, 1.5})
    for (const double factor : {1.0, 0.7}) {
      check_case({"apply_head", {{3, 4}}, {{7, 4}, {7}}, [=](const Inputs& in, const Parameters& p) {
                    return apply_head(in[0], Head{&p[0], &p[1], factor, softcap});
                  }});
      for (const int64_t chunk : {0, 3, 7, 100})
        check_case({"linear_cross_entropy", {{4, 5}}, {{7, 5}, {7}}, [=](const Inputs& in, const Parameters& p) {
                      return linear_cross_entropy(in[0], Head{&p[0], &p[1], factor, softcap},
                                                  ids_of({6, kIgnoredTarget, 2, 0}), 0.0, chunk);
                    }});
    }
  check_case({"linear_cross_entropy without bias", {{4, 7}}, {{7, 5}}, [](const Inputs& in, const Parameters& p) {
                return linear_cross_entropy(slice_columns(in[0], 1, 5), Head{&p[0]}, ids_of({6, 1, 2, 0}), 9.0, 2);
              }});
  check_case(
      {"linear_cross_entropy of ignored targets alone", {{2, 5}}, {{7, 5}}, [](const Inputs& in, const Parameters& p) {
         return linear_cross_entropy(in[0], Head{&p[0]}, ids_of({kIgnoredTarget, kIgnoredTarget}), 0.0, 2);
       }});
}

TEST_CASE("the chunked loss is that of the whole logits") {
  for (const double softcap : {0.0, 1.5}) {
    std::vector<Evaluation> evaluations;
    for (const int64_t chunk : {int64_t{-1}, int64_t{0}, int64_t{1}, int64_t{4}, int64_t{11}})
      evaluations.push_back(evaluate({"",
                                      {{6, 5}},
                                      {{11, 5}, {11}},
                                      [=](const Inputs& in, const Parameters& p) {
                                        const Head head{&p[0], &p[1], 0.9, softcap};
                                        const Tensor targets = ids_of({10, 3, kIgnoredTarget, 0, 4, 5});
                                        return chunk >= 0 ? linear_cross_entropy(in[0], head, targets, 0.0, chunk)
                                                          : cross_entropy(apply_head(in[0], head), targets);
                                      }},
                                     DType::f64));
    for (size_t i = 1; i < evaluations.size(); ++i) {
      // The same sums in another order: some tens of roundoffs.
      CHECK(evaluations[i].loss == Catch::Approx(evaluations[0].loss).epsilon(1e-14));
      for (size_t v = 0; v < 3; ++v)
        for (size_t j = 0; j < evaluations[0].gradients[v].size(); ++j)
          CHECK(evaluations[i].gradients[v][j] ==
                Catch::Approx(evaluations[0].gradients[v][j]).epsilon(1e-12).margin(1e-14));
    }
  }
}
