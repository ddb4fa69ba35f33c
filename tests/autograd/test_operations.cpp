// What the operations compute and what they refuse: known values, a plain attention, packed weights, dtypes, threads.
#include <algorithm>
#include <cmath>

#include "tensor/threads.h"
#include "tests/autograd/gradient_check.h"
#include "tests/catch.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;

namespace {

Tensor of(Shape shape, const std::vector<double>& values) { return Tensor::of<double>(shape, values.data()); }

// Attention by its definition, a query and a key at a time.
std::vector<double> plain_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const std::vector<int32_t>& seq_start, const AttentionOptions& options) {
  const int64_t heads = q.dim(1), dim = q.dim(2), kv_heads = k.dim(1);
  const auto at = [&](const Tensor& t, int64_t token, int64_t head, int64_t d) {
    return t.data<double>()[(token * t.dim(1) + head) * dim + d];
  };
  std::vector<double> out;
  for (size_t s = 0; s + 1 < seq_start.size(); ++s)
    for (int64_t i = seq_start[s]; i < seq_start[s + 1]; ++i)
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t kv = h * kv_heads / heads;
        std::vector<double> y(static_cast<size_t>(dim), 0.0);
        double total = 0;
        for (int64_t j = seq_start[s]; j <= i; ++j) {
          if (options.window > 0 && i - j >= options.window) continue;
          double score = 0;
          for (int64_t d = 0; d < dim; ++d) score += at(q, i, h, d) * at(k, j, kv, d);
          score *= static_cast<double>(options.scale);
          if (options.softcap > 0) score = options.softcap * std::tanh(score / options.softcap);
          if (options.alibi_slopes.defined())
            score += options.alibi_slopes.host<float>()[h] * static_cast<double>(j - i);
          const double p = std::exp(score);
          total += p;
          for (int64_t d = 0; d < dim; ++d) y[static_cast<size_t>(d)] += p * at(v, j, kv, d);
        }
        for (const double value : y) out.push_back(value / total);
      }
  return out;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

Parameter converted(const Parameter& p, DType dtype) {
  Parameter q(p.kind, p.shape);
  q.value = convert(p.value, dtype);
  return q;
}

}  // namespace

TEST_CASE("attention is its definition") {
  const std::vector<float> slopes{0.3f, 0.2f, 0.1f, 0.05f};
  const std::vector<int32_t> starts{0, 90, 91, 91, 160};
  const Tensor q = random_tensor({160, 4, 5}, 1), k = random_tensor({160, 2, 5}, 2), v = random_tensor({160, 2, 5}, 3);
  for (const int64_t window : {0, 1, 30, 64})
    for (const float softcap : {0.0f, 2.0f})
      for (const Tensor& alibi : {Tensor{}, Tensor::of<float>({4}, slopes.data())}) {
        const AttentionOptions options{0.45f, window, softcap, alibi};
        const Tensor y = attention(q, k, v, ids_of(starts), options);
        INFO("window " << window << " softcap " << softcap);
        CHECK(largest_difference(values_in_double(y), plain_attention(q, k, v, starts, options)) < 1e-13);
      }
}

TEST_CASE("attention's probabilities are its weights") {
  const std::vector<int32_t> starts{0, 70, 75};
  const Tensor q = random_tensor({75, 2, 3}, 1), k = random_tensor({75, 1, 3}, 2), v = random_tensor({75, 1, 3}, 3);
  AttentionOptions options;
  options.window = 40;
  const Tensor y = attention(q, k, v, ids_of(starts), options),
               p = attention_probabilities(q, k, ids_of(starts), 70, options);
  for (int64_t i = 0; i < 75; ++i)
    for (int64_t h = 0; h < 2; ++h) {
      const double* row = p.data<double>() + (i * 2 + h) * 70;
      const int64_t first = i < 70 ? 0 : 70;
      for (int64_t d = 0; d < 3; ++d) {
        double sum = 0;
        for (int64_t j = 0; first + j < 75 && j < 70; ++j) sum += row[j] * v.data<double>()[(first + j) * 3 + d];
        CHECK(sum == Approx(y.data<double>()[(i * 2 + h) * 3 + d]).margin(1e-13));
      }
      CHECK(std::all_of(row + (i - first) + 1, row + 70, [](double x) { return x == 0; }));
    }
}

TEST_CASE("activations have their known values") {
  const Tensor x = of({1, 3}, {1.0, -1.0, 0.0});
  const auto value = [&](Activation f, int i) { return activation(x, f).data<double>()[i]; };
  CHECK(value(Activation::silu, 0) == Approx(0.7310585786300049).epsilon(1e-15));
  CHECK(value(Activation::gelu_exact, 0) == Approx(0.8413447460685429).epsilon(1e-15));
  CHECK(value(Activation::gelu_exact, 1) == Approx(-0.15865525393145707).epsilon(1e-14));
  CHECK(value(Activation::gelu_tanh, 0) == Approx(0.8411919906082768).epsilon(1e-14));
  CHECK(value(Activation::silu, 2) == 0.0);
}

TEST_CASE("norms, rope and losses have their known values") {
  Parameter w(Parameter::Kind::norm, {2}), b(Parameter::Kind::bias, {2});
  w.value = of({2}, {2.0, 3.0});
  b.value = of({2}, {0.5, -0.5});
  const Tensor x = of({1, 2}, {3.0, 4.0});
  const double r = std::sqrt(12.5);
  CHECK(values_in_double(rms_norm(x, w, 0.0)) == std::vector<double>{3.0 * (1 / r) * 2.0, 4.0 * (1 / r) * 3.0});
  CHECK(largest_difference(values_in_double(rms_norm(x, w, 0.0, 1.0)), {3 / r * 3, 4 / r * 4}) < 1e-15);
  CHECK(largest_difference(values_in_double(layer_norm(x, w, &b, 0.0)), {-2 + 0.5, 3 - 0.5}) < 1e-15);

  const Tensor head = of({1, 1, 4}, {1, 2, 3, 4});
  const RopeAngles quarter{of({2, 2}, {7, 7, 0, 1}), of({2, 2}, {7, 7, 1, 0}), ids_of({1}), RopeStyle::half_split};
  CHECK(values_in_double(rope(head, quarter)) == std::vector<double>{-3, 2, 1, 4});
  const RopeAngles paired{quarter.cos, quarter.sin, quarter.rows, RopeStyle::interleaved};
  CHECK(values_in_double(rope(head, paired)) == std::vector<double>{-2, 1, 3, 4});

  const Tensor logits = of({2, 2}, {0, std::log(3.0), 5, 5});
  CHECK(values_in_double(cross_entropy(logits, ids_of({1, 0})))[0] ==
        Approx((std::log(4.0 / 3) + std::log(2.0)) / 2).epsilon(1e-15));
  CHECK(values_in_double(cross_entropy(logits, ids_of({1, kIgnoredTarget})))[0] ==
        Approx(std::log(4.0 / 3)).epsilon(1e-14));
  CHECK(values_in_double(cross_entropy(logits, ids_of({kIgnoredTarget, kIgnoredTarget})))[0] == 0.0);
  CHECK(values_in_double(cross_entropy(logits, ids_of({1, 0}), 4.0))[0] ==
        Approx((std::log(4.0 / 3) + std::log(2.0)) / 4).epsilon(1e-15));
  const Tensor large = of({1, 2}, {1e4, -1e4});
  CHECK(values_in_double(cross_entropy(large, ids_of({1})))[0] == 2e4);
}

TEST_CASE("an empty batch passes through every operation") {
  Parameter w = random_parameter({3, 4}, 1), norm = random_parameter({4}, 2);
  const Tensor x = Tensor::empty({0, 4}, DType::f64);
  CHECK(linear(x, {&w, nullptr}).shape() == Shape{0, 3});
  CHECK(rms_norm(x, norm, 1e-5).shape() == Shape{0, 4});
  CHECK(layer_norm(x, norm, nullptr, 1e-5).shape() == Shape{0, 4});
  CHECK(activation(x, Activation::silu).shape() == Shape{0, 4});
  CHECK(embedding(w, ids_of({})).shape() == Shape{0, 4});
  const Tensor heads = x.view({0, 2, 2});
  CHECK(attention(heads, heads, heads, ids_of({0}), {}).shape() == Shape{0, 2, 2});
  CHECK(values_in_double(cross_entropy(x, ids_of({}))) == std::vector<double>{0.0});
}

TEST_CASE("packed weights give what their dequantised values give, forward and dx") {
  const Tensor x = random_tensor({5, 64}, 1, DType::f32);
  const Tensor weights = random_tensor({6, 300}, 9, DType::f32);
  const Parameter a = random_parameter({40, 64}, 2), b = random_parameter({300, 64}, 3),
                  bias = random_parameter({300}, 4);
  const auto run = [&](DType dtype, bool pack) {
    Parameter first = converted(a, dtype), second = converted(b, DType::bf16), offset = converted(bias, DType::f16);
    if (pack) {
      first.prepare_for_inference(Arithmetic::f32);
      second.prepare_for_inference(Arithmetic::f32);
      CHECK_FALSE(first.value.defined());
    } else {
      first.value = convert(first.value, DType::f32);
    }
    first.trainable = second.trainable = offset.trainable = false;
    Tape tape;
    Tape::Scope scope(tape);
    Tensor in = x;
    Tape::watch(in);
    const LinearWeight parts[] = {{&first, nullptr}, {&second, &offset}};
    const Tensor y = linear(in, parts);
    Parameter sum = random_parameter({1, y.elements()}, 5);
    sum.value = convert(sum.value, DType::f32);
    sum.trainable = false;
    tape.backward(linear(y.view({1, y.elements()}), {&sum, nullptr}));
    return std::pair{values_in_double(y), values_in_double(tape.gradient_of(in))};
  };
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::q8_0, DType::q4_0, DType::q4_1}) {
    INFO(name(dtype));
    const auto packed = run(dtype, true), plain = run(dtype, false);
    // Sums of 64 and 340 products in another order: some roundoffs (6e-8) of sums of the order of 10 and 100.
    CHECK(largest_difference(packed.first, plain.first) < 2e-5);
    CHECK(largest_difference(packed.second, plain.second) < 2e-4);
  }
}

TEST_CASE("parts packed for different arithmetic each keep their own") {
  const Tensor x = random_tensor({3, 64}, 1, DType::f32);
  Parameter a = converted(random_parameter({20, 64}, 2), DType::q8_0),
            b = converted(random_parameter({8, 64}, 3), DType::f32),
            c = converted(random_parameter({12, 64}, 4), DType::q4_0),
            d = converted(random_parameter({5, 64}, 6), DType::f32);
  a.prepare_for_inference(Arithmetic::int8);
  b.prepare_for_inference(Arithmetic::bf16);
  c.prepare_for_inference(Arithmetic::int8);
  const LinearWeight parts[] = {{&a, nullptr}, {&b, nullptr}, {&d, nullptr}, {&c, nullptr}};
  const Tensor together = linear(x, parts);
  int64_t column = 0;
  for (const LinearWeight& part : parts) {
    const Tensor alone = linear(x, part);
    CHECK(values_in_double(alone) == values_in_double(together.column_range(column, column + part.weight->shape[0])));
    column += part.weight->shape[0];
  }
}

TEST_CASE("embedding widens every dtype exactly, packed or not") {
  const Tensor ids = ids_of({5, 0, 5, 6});
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::q8_0, DType::q4_0, DType::q4_1}) {
    Parameter table = converted(random_parameter({7, 64}, 1, Parameter::Kind::embedding), dtype);
    const std::vector<double> all = values_in_double(table.value);
    const std::vector<double> plain = values_in_double(embedding(table, ids));
    table.prepare_for_inference(Arithmetic::f32);
    CHECK(table.packed);
    const Tensor y = embedding(table, ids);
    CHECK(y.dtype() == DType::f32);
    CHECK(values_in_double(y) == plain);
    for (size_t i = 0; i < 4; ++i)
      for (size_t c = 0; c < 64; ++c)
        CHECK(plain[i * 64 + c] == all[static_cast<size_t>(ids.data<int32_t>()[i]) * 64 + c]);
  }
}

TEST_CASE("a packed head gives the loss of its values, and dx") {
  const Parameter table = random_parameter({37, 32}, 1, Parameter::Kind::embedding);
  const Tensor targets = ids_of({36, 0, kIgnoredTarget, 5});
  const auto run = [&](bool pack) {
    Parameter w = converted(table, DType::q8_0);
    if (pack)
      w.prepare_for_inference(Arithmetic::f32);
    else
      w.value = convert(w.value, DType::f32);
    w.trainable = false;
    Tape tape;
    Tape::Scope scope(tape);
    Tensor hidden = random_tensor({4, 32}, 2, DType::f32);
    Tape::watch(hidden);
    const Tensor loss = linear_cross_entropy(hidden, Head{&w}, targets, 0.0, 10);
    tape.backward(loss);
    std::vector<double> result = values_in_double(tape.gradient_of(hidden));
    result.push_back(values_in_double(loss)[0]);
    return result;
  };
  CHECK(run(true) == run(false));
}

TEST_CASE("norms and biases prepared for inference become f32") {
  Parameter norm = converted(random_parameter({8}, 1, Parameter::Kind::norm), DType::bf16);
  const std::vector<double> before = values_in_double(norm.value);
  norm.prepare_for_inference(Arithmetic::int8);
  CHECK_FALSE(norm.packed);
  CHECK(norm.value.dtype() == DType::f32);
  CHECK(values_in_double(norm.value) == before);
  Parameter wide = random_parameter({8, 8}, 1);
  wide.prepare_for_inference(Arithmetic::f32);
  CHECK_FALSE(wide.packed);
  CHECK_THROWS_WITH(Parameter(Parameter::Kind::matrix, {2, 2}).prepare_for_inference(Arithmetic::f32),
                    ContainsSubstring("no value"));
}

TEST_CASE("one thread and two give the same bits, forward and backward") {
  const Case c{"", {{70, 96}}, {{300, 96}, {300}, {96}, {150, 300}}, [](const std::vector<Tensor>& in, const auto& p) {
                 const Tensor y = linear(rms_norm(in[0], p[2], 1e-5), {&p[0], &p[1]});
                 const auto heads = [&](int64_t begin) { return slice_columns(y, begin, 100).view({70, 5, 20}); };
                 const Tensor a = attention(heads(0), heads(100), heads(200), ids_of({0, 30, 70}), {});
                 const Tensor h = activation(add(y, multiply(y, y)), Activation::gelu_tanh);
                 const Tensor targets = Tensor::zeros({70}, DType::i32);
                 return add(scale(cross_entropy(a.view({70, 100}), targets), 2.0),
                            linear_cross_entropy(h, Head{&p[3]}, targets, 0.0, 64));
               }};
  set_threads(1);
  const Evaluation one = evaluate(c, DType::f32);
  set_threads(2);
  const Evaluation two = evaluate(c, DType::f32);
  set_threads(default_threads());
  CHECK(one.result == two.result);
  CHECK(one.gradients == two.gradients);
}

TEST_CASE("conversions") {
  const Tensor x = of({2, 2}, {1.0, 1e-3, -2.5, 1e5});
  CHECK(convert(x, DType::f64).raw() == x.raw());
  CHECK(values_in_double(convert(x, DType::bf16)) == std::vector<double>{1.0, 0.00099945068359375, -2.5, 99840.0});
  CHECK_THROWS_WITH(convert(x, DType::f16), ContainsSubstring("row 1 holds 100000, which f16 cannot hold"));
  CHECK(values_in_double(convert(x.column_range(1, 2), DType::f32)) ==
        std::vector<double>{static_cast<double>(1e-3f), 1e5});
  CHECK_THROWS_WITH(convert(ids_of({1}), DType::f32), ContainsSubstring("no conversion of (1,) i32 cpu to f32"));
  CHECK_THROWS_WITH(convert(x, DType::q8_0), ContainsSubstring("32 elements of a q8_0 block"));
  CHECK_THROWS_AS(convert(Tensor{}, DType::f32), Error);
}

TEST_CASE("operations say what does not fit") {
  Parameter w = random_parameter({3, 4}, 1), norm = random_parameter({5}, 2), bias = random_parameter({4}, 3);
  const Tensor x = random_tensor({2, 6}, 4), x3 = random_tensor({2, 2, 4}, 5);
  CHECK_THROWS_WITH(linear(x, {&w, nullptr}),
                    ContainsSubstring("linear: weight (3, 4) does not fit input (2, 6) f64 cpu"));
  CHECK_THROWS_WITH(linear(x3, {&w, nullptr}), ContainsSubstring("(N, in)"));
  CHECK_THROWS_WITH(linear(random_tensor({2, 4}, 1), {&w, &bias}),
                    ContainsSubstring("bias (4,) does not fit weight (3, 4)"));
  CHECK_THROWS_WITH(linear(x, std::span<const LinearWeight>{}), ContainsSubstring("1 to 8 weights, found 0"));
  CHECK_THROWS_WITH(rms_norm(x, norm, 1e-5), ContainsSubstring("rms_norm: weight (5,) does not fit"));
  CHECK_THROWS_WITH(layer_norm(x, norm, nullptr, 1e-5), ContainsSubstring("layer_norm: weight (5,)"));
  const Tensor wide = random_tensor({2, 3}, 1), fitting = random_tensor({2, 2}, 1);
  CHECK_THROWS_WITH(rope(x3, {wide, wide, ids_of({0, 1}), {}}), ContainsSubstring("R <= D"));
  CHECK_THROWS_WITH(rope(x3, {fitting, fitting, ids_of({0}), {}}),
                    ContainsSubstring("rows of angles must be (N) i32, found (1,) i32 cpu"));
  CHECK_THROWS_WITH(add(x, x3), ContainsSubstring("add: the two must be alike, (2, 6) f64 cpu and (2, 2, 4) f64 cpu"));
  CHECK_THROWS_WITH(multiply(x, convert(x, DType::f32)), ContainsSubstring("alike"));
  CHECK_THROWS_WITH(gated_activation(x, x3, Activation::silu), ContainsSubstring("gate (2, 6)"));
  CHECK_THROWS_WITH(slice_columns(x, 4, 3), ContainsSubstring("columns from 4, 3 wide, of (2, 6)"));
  CHECK_THROWS_WITH(select_rows(x, ids_of({0, 2})), ContainsSubstring("row 2 at index 1 is outside [0, 2)"));
  CHECK_THROWS_WITH(embedding(w, ids_of({0, 3})), ContainsSubstring("token id 3 at index 1 is outside [0, 3)"));
  CHECK_THROWS_WITH(embedding(w, ids_of({-1})), ContainsSubstring("token id -1"));
  CHECK_THROWS_WITH(embedding(w, x), ContainsSubstring("(N) i32, found (2, 6) f64 cpu"));
  CHECK_THROWS_WITH(cross_entropy(x, ids_of({0, 6})),
                    ContainsSubstring("target 6 at index 1 is outside [0, 6) and not -100"));
  CHECK_THROWS_WITH(cross_entropy(x, ids_of({0, -1})), ContainsSubstring("target -1"));
  CHECK_THROWS_WITH(cross_entropy(x, ids_of({0})), ContainsSubstring("targets must be (2,) i32, found (1,) i32 cpu"));
  CHECK_THROWS_WITH(linear_cross_entropy(x, Head{&w}, ids_of({0, 0})), ContainsSubstring("does not fit hidden"));
  CHECK_THROWS_WITH(linear_cross_entropy(x, Head{}, ids_of({0, 0})), ContainsSubstring("no weight"));
  CHECK_THROWS_WITH(apply_head(x, Head{&w}), ContainsSubstring("apply_head"));
  CHECK_THROWS_WITH(activation(Tensor::zeros({2, 2}, DType::bf16), Activation::silu),
                    ContainsSubstring("computes in f32 or f64, x (2, 2) bf16 cpu"));
  CHECK_THROWS_WITH(attention(x3, random_tensor({2, 3, 4}, 1), random_tensor({2, 3, 4}, 1), ids_of({0, 2}), {}),
                    ContainsSubstring("2 query heads do not divide into 3 key-value heads"));
  CHECK_THROWS_WITH(attention(x3, x3, x3, ids_of({0, 3}), {}), ContainsSubstring("to the 2 tokens of q, found 0 to 3"));
  CHECK_THROWS_WITH(attention(x3, x3, x3, ids_of({0, 3, 2}), {}),
                    ContainsSubstring("sequence 1 ends at 2 before its start 3"));
  Parameter missing(Parameter::Kind::matrix, {3, 6});
  CHECK_THROWS_WITH(linear(x, {&missing, nullptr}), ContainsSubstring("has no value"));
  CHECK_THROWS_WITH(linear(random_tensor({2, 4}, 1, DType::f32), {&w, nullptr}),
                    ContainsSubstring("weight (3, 4) f64 cpu meets activations in f32"));
}

TEST_CASE("a gradient in f64 needs f64 weights") {
  Parameter w = converted(random_parameter({3, 4}, 1), DType::f32);
  const Tensor x = random_tensor({2, 4}, 2);
  CHECK(linear(x, {&w, nullptr}).dtype() == DType::f64);
  Tape tape;
  Tape::Scope scope(tape);
  CHECK_THROWS_WITH(linear(x, {&w, nullptr}), ContainsSubstring("a gradient in f64 needs f64 weights"));
}
