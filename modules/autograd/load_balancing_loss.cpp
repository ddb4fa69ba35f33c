// What keeps a router from sending all tokens to the same experts: Fedus et al. 2021 (Switch Transformer), eq. 4 to 6,
// with k choices a token as transformers has it for Mixtral. The gradient goes through the probabilities alone.
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
  const Tensor chosen = Tensor::zeros({experts}, DType::f64, first.device());       // (E)
  const Tensor probability = Tensor::zeros({experts}, DType::f64, first.device());  // (E)
  int64_t rows = 0;
  bool recording = false;
  for (const Tensor& logits : router_logits) {
    check(logits.rank() == 2 && logits.dim(1) == experts && logits.dtype() == first.dtype(), "load_balancing_loss",
          "all routers must be alike, {} and {}", first, logits);
    rows += logits.dim(0);
    recording = recording || Tape::recording(logits);
    const Tape::Pause paused;                                                  // the choice has no gradient
    const Tensor experts_of = route_experts(logits, per_token, true).experts;  // (N, k)
    dispatch("load_balancing_loss", logits, [&](auto on, auto element) {
      using T = decltype(element);
      kernel::add_expert_loads<T>(on, chosen.data<double>(), probability.data<double>(), tokens_of<T>(logits),
                                  experts_of.data<int32_t>(), logits.dim(0), experts, per_token);
    });
  }
  const Tensor slope = like(chosen);  // (E): of the loss by the sum of an expert's probabilities
  Tensor y = Tensor::empty({1}, first.dtype(), first.device());
  dispatch("load_balancing_loss", y, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::load_balancing(on, y.data<T>(), slope.data<double>(), chosen.data<double>(), probability.data<double>(),
                           experts, rows);
  });
  if (recording)
    Tape::record(
        "load_balancing_loss", y,
        [all = std::vector(router_logits.begin(), router_logits.end()), slope](const Tensor& dy, Gradients& g) {
          for (const Tensor& logits : all) {
            const Tensor dlogits = like(logits);  // (N, E)
            dispatch("load_balancing_loss", logits, [&](auto on, auto element) {
              using T = decltype(element);
              kernel::load_balancing_backward(on, dlogits.data<T>(), dy.data<T>(), slope.data<double>(),
                                              tokens_of<T>(logits), logits.dim(0), logits.dim(1));
            });
            g.add(logits, dlogits);
          }
        });
  return y;
}

}  // namespace lathe
