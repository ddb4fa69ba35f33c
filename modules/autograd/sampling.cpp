// Choosing tokens from logits, and what the model thinks of them. Nothing is recorded.
#include "kernels/sampling.h"

#include "autograd/check_ids.h"
#include "autograd/dispatch.h"
#include "autograd/ops.h"

namespace lathe {
namespace {

template <class T>
Tensor copied_to(Device device, const std::vector<T>& values) {
  static_assert(sizeof(T) % sizeof(int32_t) == 0);
  const auto words = static_cast<int64_t>(values.size() * sizeof(T) / sizeof(int32_t));
  return Tensor::of<int32_t>({words}, reinterpret_cast<const int32_t*>(values.data())).to(device);
}

}  // namespace

Tensor sample(const Tensor& logits, std::span<const SamplingRow> rows) {
  check(logits.rank() == 2 && logits.dtype() == DType::f32 && logits.dim(0) == std::ssize(rows) && logits.dim(1) > 0,
        "sample", "needs logits (R, V) in f32 for {} rows, found {}", rows.size(), logits);
  Tensor tokens = Tensor::empty({logits.dim(0)}, DType::i32, logits.device());  // (R)
  dispatch_device("sample", logits, [&](auto on) {
    if constexpr (std::is_same_v<decltype(on), Cpu>) {
      kernel::sample(on, tokens.data<int32_t>(), tokens_of<float>(logits), rows.data(), logits.dim(0), logits.dim(1));
    } else {
      const DeviceSamplingRows on_host = for_device(rows);
      const Tensor by = copied_to(logits.device(), on_host.rows), seen = copied_to(logits.device(), on_host.seen),
                   allowed = copied_to(logits.device(), on_host.allowed);
      kernel::sample(on, tokens.data<int32_t>(), tokens_of<float>(logits),
                     static_cast<const DeviceSamplingRow*>(by.raw()), static_cast<SeenToken*>(seen.raw()),
                     static_cast<const uint32_t*>(allowed.raw()), logits.dim(0), logits.dim(1));
    }
  });
  return tokens;
}

LogProbabilities log_probabilities(const Tensor& logits, const Tensor& tokens, int64_t k) {
  check(logits.rank() == 2 && logits.dtype() == DType::f32 && k >= 0, "log_probabilities",
        "needs logits (R, V) in f32 and k of at least 0, found {} and {}", logits, k);
  check_ids("log_probabilities", "token", tokens, logits.dim(1));
  const int64_t rows = logits.dim(0), most = std::min(k, logits.dim(1));
  LogProbabilities y{Tensor::empty({rows}, DType::f32, logits.device()),         // (R)
                     Tensor::empty({rows, most}, DType::i32, logits.device()),   // (R, k)
                     Tensor::empty({rows, most}, DType::f32, logits.device())};  // (R, k)
  dispatch_device("log_probabilities", logits, [&](auto on) {
    kernel::log_probabilities(on, y.chosen.data<float>(), y.top_tokens.data<int32_t>(), y.top.data<float>(),
                              tokens_of<float>(logits), tokens.data<int32_t>(), rows, logits.dim(1), most);
  });
  return y;
}

}  // namespace lathe
