// The kernels of a training step, forward and backward, at the sizes of SmolLM2-135M and one sequence of 512 tokens.
#include <fmt/core.h>

#include <vector>

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/gemm.h"
#include "kernels/norm.h"
#include "kernels/optimizer.h"
#include "tests/bench/bench.h"
#include "tests/kernels/kernel_data.h"

namespace lathe::bench {
namespace {

constexpr int64_t kTokens = kPromptTokens, kWidth = 576, kInner = 1536, kHeads = 9, kKvHeads = 3, kHeadDim = 64;
constexpr int64_t kVocabularyChunk = 8192;  // of linear_cross_entropy (autograd/ops.h)

std::vector<float> zeros(int64_t n) { return std::vector<float>(static_cast<size_t>(n)); }

// `arrays` of so many floats a token are read or written.
template <class F>
void bytes(Report& report, const char* kernel, int64_t width, int64_t arrays, F&& f) {
  report.time("training", kernel, fmt::format("{} x {}", kTokens, width),
              4.0 * static_cast<double>(kTokens * width * arrays), Ceiling::copy, f);
}

// y = x W^T; dx = dy W; dW += dy^T x.
void linear(Report& report, int64_t in, int64_t out, Arithmetic arithmetic) {
  const std::vector<float> x = test::random_floats(kTokens * in, 1), w = test::random_floats(out * in, 2),
                           dy = test::random_floats(kTokens * out, 3);
  std::vector<float> y = zeros(kTokens * out), dx = zeros(kTokens * in), dw = zeros(out * in);
  const GemmOptions<float> options{.arithmetic = arithmetic};
  const bool bf16 = arithmetic == Arithmetic::bf16;
  const auto product = [&](const char* kernel, auto&& f) {
    report.time("training", fmt::format("{}{}", kernel, bf16 ? ", bf16" : ""),
                fmt::format("{} x {} x {}", kTokens, in, out), 2.0 * static_cast<double>(kTokens * in * out),
                bf16 ? Ceiling::bf16 : Ceiling::floats, f);
  };
  using kernel::gemm;
  product("linear", [&] {
    gemm<float>(Cpu{}, {y.data(), out}, {x.data(), in}, false, {w.data(), in}, true, kTokens, out, in, false, options);
  });
  product("linear backward, dx", [&] {
    gemm<float>(Cpu{}, {dx.data(), in}, {dy.data(), out}, false, {w.data(), in}, false, kTokens, in, out, false,
                options);
  });
  product("linear backward, dW", [&] {
    gemm<float>(Cpu{}, {dw.data(), in}, {dy.data(), out}, true, {x.data(), in}, false, out, in, kTokens, true, options);
  });
}

void norm(Report& report) {
  const std::vector<float> x = test::random_floats(kTokens * kWidth, 1), w = test::random_floats(kWidth, 2),
                           dy = test::random_floats(kTokens * kWidth, 3);
  std::vector<float> y = zeros(kTokens * kWidth), rstd = zeros(kTokens), dw = zeros(kWidth);
  bytes(report, "rms_norm", kWidth, 2, [&] {
    kernel::rms_norm(Cpu{}, y.data(), rstd.data(), {x.data(), kWidth}, w.data(), kTokens, kWidth, 1e-5, 0.0);
  });
  bytes(report, "rms_norm backward", kWidth, 3, [&] {
    kernel::rms_norm_backward(Cpu{}, y.data(), false, dw.data(), dy.data(), {x.data(), kWidth}, w.data(), rstd.data(),
                              kTokens, kWidth, 0.0);
  });
  bytes(report, "layer_norm backward", kWidth, 3, [&] {
    kernel::layer_norm_backward(Cpu{}, y.data(), false, dw.data(), dw.data(), dy.data(), {x.data(), kWidth}, w.data(),
                                rstd.data(), rstd.data(), kTokens, kWidth);
  });
}

void swiglu(Report& report) {
  const std::vector<float> x = test::random_floats(2 * kTokens * kInner, 1),
                           dy = test::random_floats(kTokens * kInner, 2);
  std::vector<float> y = zeros(kTokens * kInner), dgate = y, dup = y;
  const ConstRows<float> gate{x.data(), 2 * kInner}, up{x.data() + kInner, 2 * kInner};
  bytes(report, "swiglu", kInner, 3,
        [&] { kernel::gated_activation(Cpu{}, y.data(), gate, up, kTokens, kInner, Activation::silu); });
  bytes(report, "swiglu backward", kInner, 5, [&] {
    kernel::gated_activation_backward<float>(Cpu{}, {dgate.data(), kInner}, {dup.data(), kInner}, dy.data(), gate, up,
                                             kTokens, kInner, Activation::silu);
  });
}

// A product's operations over the pairs of query and key that the mask leaves: two products forward; backward the
// scores anew, dP, dV, dQ and dK.
void attention(Report& report) {
  const int64_t q_width = kHeads * kHeadDim, kv_width = kKvHeads * kHeadDim;
  const std::vector<float> q = test::random_floats(kTokens * q_width, 1),
                           k = test::random_floats(kTokens * kv_width, 2),
                           v = test::random_floats(kTokens * kv_width, 3),
                           dy = test::random_floats(kTokens * q_width, 4);
  std::vector<float> y = zeros(kTokens * q_width), dq = y, dk = zeros(kTokens * kv_width), dv = dk;
  std::vector<float> logsumexp = zeros(kTokens * kHeads);
  const int32_t starts[] = {0, kTokens};
  const PackedSequences one{starts, 1, kTokens, kHeads, kKvHeads, kHeadDim};
  const ScoreOptions options{0.125f, 0, 0.0f, nullptr};
  const ConstRows<float> queries{q.data(), q_width}, keys{k.data(), kv_width}, values{v.data(), kv_width};
  const double product = static_cast<double>(kTokens * (kTokens + 1) * q_width);  // 2 x pairs x Hq D
  const std::string shape = fmt::format("{}, {}/{} x {}", kTokens, kHeads, kKvHeads, kHeadDim);
  report.time("training", "attention", shape, 2 * product, Ceiling::floats,
              [&] { kernel::attention(Cpu{}, y.data(), logsumexp.data(), queries, keys, values, one, options); });
  report.time("training", "attention backward", shape, 5 * product, Ceiling::floats, [&] {
    kernel::attention_backward<float>(Cpu{}, {dq.data(), q_width}, {dk.data(), kv_width}, {dv.data(), kv_width},
                                      dy.data(), y.data(), logsumexp.data(), queries, keys, values, one, options);
  });
}

// One chunk of the vocabulary.
void cross_entropy(Report& report) {
  constexpr int64_t n = kTokens, width = kVocabularyChunk;
  const std::vector<float> logits = test::random_floats(n * width, 1);
  std::vector<float> maximum = zeros(n), target_logit = zeros(n), logsumexp = zeros(n), dlogits = zeros(n * width);
  std::vector<double> sum(n);
  std::vector<int32_t> targets(n);
  for (int64_t i = 0; i < n; ++i) targets[static_cast<size_t>(i)] = static_cast<int32_t>(i * 13 % width);
  const RunningLogsumexp<float> state{maximum.data(), sum.data(), target_logit.data()};
  double factor = 0;
  float loss = 0;
  const float dloss = 1;
  bytes(report, "cross_entropy", width, 1, [&] {
    kernel::logsumexp_start(Cpu{}, state, n);
    kernel::logsumexp_update(Cpu{}, state, {logits.data(), width}, targets.data(), n, 0, width);
    kernel::cross_entropy(Cpu{}, &loss, &factor, logsumexp.data(), state, targets.data(), n, 0.0);
  });
  bytes(report, "cross_entropy backward", width, 2, [&] {
    kernel::cross_entropy_backward(Cpu{}, dlogits.data(), {logits.data(), width}, logsumexp.data(), targets.data(), n,
                                   0, width, &dloss, &factor);
  });
}

// Over as many weights as exceed the caches.
void optimizers(Report& report) {
  constexpr int64_t n = int64_t{16} << 20;
  std::vector<float> w = zeros(n), m = zeros(n), v = zeros(n), g(static_cast<size_t>(n), 0.1f);
  const auto step = [&](const char* kernel, int64_t arrays, auto&& f) {
    report.time("training", kernel, fmt::format("{}", n), 4.0 * static_cast<double>(n * arrays), Ceiling::read, f);
  };
  step("sum_of_squares", 1, [&] { kernel::sum_of_squares(Cpu{}, g.data(), n); });
  const AdamwStep adamw{1e-4, 0.9, 0.999, 1e-8, 0.1, 0.5, 0.5};
  step("adamw_step", 7, [&] { kernel::adamw_step(Cpu{}, w.data(), m.data(), v.data(), g.data(), n, adamw); });
  std::vector<int8_t> codes(2 * n);
  std::vector<float> scales = zeros(2 * n / kStateBlock);
  const CodedState first{codes.data(), scales.data()}, second{codes.data() + n, scales.data() + n / kStateBlock};
  step("adamw_step, states of 8 bits", 4,  // of f32 three, of bytes four
       [&] {
         kernel::adamw_step(Cpu{}, w.data(), first, second, g.data(), n, adamw, {1, 1, 0});
       });
  step("sgd_step", 5, [&] { kernel::sgd_step(Cpu{}, w.data(), m.data(), g.data(), n, {1e-4, 0.9, 0.1}); });
}

}  // namespace

void training_kernels(Report& report) {
  for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::bf16}) {
    linear(report, kWidth, kInner, arithmetic);
    linear(report, kInner, kWidth, arithmetic);
  }
  norm(report);
  attention(report);
  swiglu(report);
  cross_entropy(report);
  optimizers(report);
}

}  // namespace lathe::bench
