// What keeps a router from sending all tokens to the same experts: Fedus et al. 2021 (Switch Transformer), eq. 4 to 6,
// with k choices a token as transformers has it for Mixtral. The gradient goes through the probabilities alone.
#include <algorithm>

#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/routing.h"

namespace lathe {

Tensor load_balancing_loss(std::span<const Tensor> router_logits, int64_t per_token) {
  check(!router_logits.empty() && router_logits[0].rank() == 2, "load_balancing_loss",
        "needs the logits (N, E) of one router or more, found {}", router_logits.size());
  const Tensor& first = router_logits[0];
  const int64_t experts = first.dim(-1);
  std::vector<double> chosen(static_cast<size_t>(experts)), probability(chosen.size());  // (E)
  int64_t rows = 0;
  bool recording = false;
  for (const Tensor& logits : router_logits) {
    check(logits.rank() == 2 && logits.dim(1) == experts && logits.dtype() == first.dtype(), "load_balancing_loss",
          "all routers must be alike, {} and {}", first, logits);
    rows += logits.dim(0);
    recording = recording || Tape::recording(logits);
    const Tape::Pause paused;                                                  // the choice has no gradient
    const Tensor experts_of = route_experts(logits, per_token, true).experts;  // (N, k)
    dispatch("load_balancing_loss", logits, [&](auto element) {
      using T = decltype(element);
      cpu::add_expert_loads(chosen.data(), probability.data(), logits.data<T>(), logits.stride(),
                            experts_of.data<int32_t>(), logits.dim(0), experts, per_token);
    });
  }
  const double count = static_cast<double>(std::max<int64_t>(1, rows));
  std::vector<double> slope(chosen.size());  // (E): of the loss by the sum of an expert's probabilities, E f_e / rows
  double loss = 0;
  for (size_t e = 0; e < slope.size(); ++e) {
    slope[e] = static_cast<double>(experts) * chosen[e] / (count * count);
    loss += slope[e] * probability[e];
  }
  Tensor y = Tensor::empty({1}, first.dtype());
  dispatch("load_balancing_loss", y, [&](auto element) {
    using T = decltype(element);
    y.data<T>()[0] = static_cast<T>(loss);
  });
  if (recording)
    Tape::record(
        "load_balancing_loss", y,
        [all = std::vector(router_logits.begin(), router_logits.end()), slope](const Tensor& dy, Gradients& g) {
          dispatch("load_balancing_loss", dy, [&](auto element) {
            using T = decltype(element);
            std::vector<double> scaled = slope;
            for (double& d : scaled) d *= static_cast<double>(dy.data<T>()[0]);
            for (const Tensor& logits : all) {
              const Tensor dlogits = like(logits);  // (N, E)
              cpu::softmax_rows_backward(dlogits.data<T>(), scaled.data(), logits.data<T>(), logits.stride(),
                                         logits.dim(0), logits.dim(1));
              g.add(logits, dlogits);
            }
          });
        });
  return y;
}

}  // namespace lathe
