// Cross-entropy on a CUDA device against the loops in double.
#include "kernels/cross_entropy.h"
#include "tests/cuda/cuda_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

template <class T>
struct State {
  std::vector<T> maximum, target_logit;
  std::vector<double> sum;
  explicit State(int64_t n)
      : maximum(static_cast<size_t>(n)), target_logit(static_cast<size_t>(n)), sum(static_cast<size_t>(n)) {}
  RunningLogsumexp<T> running() { return {maximum.data(), sum.data(), target_logit.data()}; }
};

// The logits come in chunks, each of which is all that there is of them then.
template <class T, class Device>
void take_in(Device on, State<T>& state, const T* logits, int64_t stride, const std::vector<int32_t>& targets,
             int64_t vocabulary, int64_t chunk) {
  const auto n = static_cast<int64_t>(targets.size());
  kernel::logsumexp_start<T>(on, state.running(), n);
  for (int64_t first = 0; first < vocabulary; first += chunk) {
    const int64_t width = std::min(chunk, vocabulary - first);
    const auto shift = static_cast<int64_t>(reinterpret_cast<uintptr_t>(logits) / sizeof(T) % 4);
    Aligned memory(static_cast<size_t>(n * stride + shift) * sizeof(T));
    T* const part = reinterpret_cast<T*>(memory.data()) + shift;
    std::fill_n(part, n * stride, T(NAN));
    for (int64_t row = 0; row < n; ++row) std::copy_n(logits + row * stride + first, width, part + row * stride);
    kernel::logsumexp_update<T>(on, state.running(), {part, stride}, targets.data(), n, first, width);
    for (size_t i = 0; i < targets.size(); ++i)
      REQUIRE((targets[i] < first + width || state.target_logit[i] == 0));  // it has not come yet
  }
}

// A logsumexp's terms err by 2 ulp of exp and some 3 of sums in f32, its value by half an ulp of its own.
constexpr double kSumError = 8 * kEpsilon;

}  // namespace

TEST_CASE("cross-entropy on a CUDA device is that in double") {
  const InOrder order(any_order());
  const int64_t n = GENERATE(1, 3), vocabulary = GENERATE(1, 37, 2052, 9001), shift = GENERATE(0, 1);
  const int64_t chunk = GENERATE(int64_t{9001}, int64_t{1000}, int64_t{1001});
  if (chunk != 9001 && vocabulary <= 37) return;
  const double total = GENERATE(0.0, 7.0);
  CAPTURE(n, vocabulary, shift, chunk, total);
  const int64_t stride = vocabulary + 3 - (vocabulary + 3) % 4 + 4;
  const auto values = random_floats(n * stride, 1, 3.0f, 5.0f);
  auto logits64 = widened(values);
  Input logits(values, shift);
  std::vector<int32_t> targets(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i)
    targets[static_cast<size_t>(i)] = i == 1 ? -1 : static_cast<int32_t>((7 * i + vocabulary - 1) % vocabulary);

  State<float> state(n);
  State<double> exact(n);
  take_in<float>(kOnDevice, state, logits.data(), stride, targets, vocabulary, chunk);
  take_in<double>(Cpu{}, exact, logits64.data(), stride, targets, vocabulary, chunk);
  for (size_t i = 0; i < targets.size(); ++i) {
    CHECK(static_cast<double>(state.maximum[i]) == exact.maximum[i]);
    CHECK(static_cast<double>(state.target_logit[i]) == exact.target_logit[i]);
    CHECK(std::abs(state.sum[i] - exact.sum[i]) <= kSumError * exact.sum[i]);
  }

  const double largest_value = largest(logits64) + 10;
  Output loss(1), logsumexp(n), probabilities(n);
  double factor = 0, factor64 = 0, loss64 = 0;
  std::vector<double> logsumexp64(targets.size()), probabilities64(targets.size());
  kernel::cross_entropy<float>(kOnDevice, loss.data(), &factor, logsumexp.data(), state.running(), targets.data(), n,
                               total);
  kernel::cross_entropy<double>(Cpu{}, &loss64, &factor64, logsumexp64.data(), exact.running(), targets.data(), n,
                                total);
  CHECK(factor == factor64);
  CHECK(loss.error({loss64}) <= kSumError * static_cast<double>(n) + kEpsilon * std::abs(loss64));
  CHECK(logsumexp.error(logsumexp64) <= kSumError + kEpsilon * largest_value);
  kernel::log_probabilities<float>(kOnDevice, probabilities.data(), state.running(), targets.data(), n);
  kernel::log_probabilities<double>(Cpu{}, probabilities64.data(), exact.running(), targets.data(), n);
  CHECK(probabilities.error(probabilities64) <= kSumError + kEpsilon * largest_value);

  // The second half of the vocabulary; logit - logsumexp errs by an ulp of either, which is the exponential's relative.
  const int64_t first = vocabulary / 2, width = vocabulary - first;
  Output dlogits(n, width, width, shift);
  std::vector<double> dlogits64(static_cast<size_t>(n * width));
  const float dloss = 0.75f;
  const double dloss64 = 0.75;
  kernel::cross_entropy_backward<float>(kOnDevice, dlogits.data(), {logits.data() + first, stride}, logsumexp.data(),
                                        targets.data(), n, first, width, &dloss, &factor);
  kernel::cross_entropy_backward<double>(Cpu{}, dlogits64.data(), {logits64.data() + first, stride}, logsumexp64.data(),
                                         targets.data(), n, first, width, &dloss64, &factor64);
  CHECK(dlogits.error(dlogits64) <= (kSumError + 4 * kEpsilon * largest_value) * factor64);
}

TEST_CASE("the gradient of a cross-entropy on a CUDA device may take the logits' place") {
  const int64_t n = 3, width = 10;
  const auto values = random_floats(n * width, 1);
  Input logits(values);
  const std::vector<int32_t> targets{9, -1, 0};
  const float dloss = 1, lse[] = {2.5f, 0.0f, 2.0f};
  const double factor = 0.5;
  Output y(n, width, width);
  kernel::cross_entropy_backward<float>(kOnDevice, y.data(), {logits.data(), width}, lse, targets.data(), n, 0, width,
                                        &dloss, &factor);
  kernel::cross_entropy_backward<float>(kOnDevice, logits.data(), {logits.data(), width}, lse, targets.data(), n, 0,
                                        width, &dloss, &factor);
  CHECK(y.intact());
  for (int64_t i = 0; i < n * width; ++i) CHECK(y[i] == logits.data()[i]);
  for (int64_t i = width; i < 2 * width; ++i) CHECK(y[i] == 0);
}

TEST_CASE("logits of minus infinity and NaN on a CUDA device") {
  const float none = -INFINITY;
  const std::vector<int32_t> targets{0, 0, 0, 0};
  const float logits[4][3] = {{none, none, none}, {none, 2, none}, {1, NAN, 1}, {NAN, NAN, NAN}};
  State<float> state(4);
  kernel::logsumexp_start<float>(kOnDevice, state.running(), 4);
  kernel::logsumexp_update<float>(kOnDevice, state.running(), {logits[0], 3}, targets.data(), 4, 0, 3);
  CHECK(state.maximum[0] == none);
  CHECK(state.sum[0] == 0);
  CHECK(state.sum[1] == 1);
  CHECK(std::isnan(state.sum[2]));
  CHECK(std::isnan(state.sum[3]));
  kernel::logsumexp_update<float>(kOnDevice, state.running(), {logits[1], 3}, targets.data(), 2, 3, 3);
  CHECK(state.maximum[0] == 2);
  CHECK(state.sum[0] == 1);
}

TEST_CASE("a loss on a CUDA device without a target is zero") {
  State<float> state(2);
  const float logits[] = {1, 2};
  const std::vector<int32_t> targets{-1, -1};
  take_in<float>(kOnDevice, state, logits, 1, targets, 1, 1);
  Output loss(1), logsumexp(2);
  double factor = 1;
  kernel::cross_entropy<float>(kOnDevice, loss.data(), &factor, logsumexp.data(), state.running(), targets.data(), 2,
                               0.0);
  CHECK(loss[0] == 0);
  CHECK(factor == 0);
  CHECK(logsumexp[1] == 2);
}

TEST_CASE("a row's logsumexp on a CUDA device has the same bits in any batch") {
  const int64_t n = 5, width = 37;
  Input logits(random_floats(n * width, 1)), shifted(random_floats(n * width, 1), 1);
  const std::vector<int32_t> targets(5, 3);
  State<float> all(n), one(1);
  take_in<float>(kOnDevice, all, logits.data(), width, targets, width, width);
  take_in<float>(kOnDevice, one, shifted.data() + 4 * width, width, {3}, width, width);
  CHECK(one.sum[0] == all.sum[4]);
}
