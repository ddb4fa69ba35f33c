// Routing of tokens to the experts of a mixture, and back: kernels/routing.h has the formulas.
#include "autograd/check_ids.h"
#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/routing.h"

namespace lathe {
ExpertRoutes route_experts(const Tensor& logits, int64_t per_token, bool normalise) {
  check(logits.rank() == 2, "route_experts", "router logits must be (N, E), found {}", logits);
  check(per_token >= 1 && per_token <= logits.dim(1), "route_experts", "a token goes to {} of {} experts", per_token,
        logits.dim(1));
  const int64_t n = logits.dim(0), experts = logits.dim(1);
  ExpertRoutes routes;
  const auto integers = [&](Shape shape) { return Tensor::empty(shape, DType::i32, logits.device()); };
  routes.weights = Tensor::empty({n, per_token}, logits.dtype(), logits.device());  // (N, k)
  routes.experts = integers({n, per_token});                                        // (N, k)
  routes.rows = integers({n * per_token});                                          // (N k)
  routes.places = integers({n, per_token});                                         // (N, k)
  routes.starts = integers({experts + 1});                                          // (E + 1)
  dispatch("route_experts", logits, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::choose_experts(on, routes.weights.data<T>(), routes.experts.data<int32_t>(), tokens_of<T>(logits), n,
                           experts, per_token, normalise);
  });
  dispatch_device("route_experts", logits, [&](auto on) {
    kernel::sort_by_expert(on, routes.starts.data<int32_t>(), routes.rows.data<int32_t>(),
                           routes.places.data<int32_t>(), routes.experts.data<int32_t>(), n, per_token, experts);
  });
  if (Tape::recording(logits))
    Tape::record(
        "route_experts", routes.weights,
        [logits, weights = routes.weights, chosen = routes.experts, normalise](const Tensor& dw, Gradients& g) {
          const Tensor dlogits = like(logits);  // (N, E)
          dispatch("route_experts", logits, [&](auto on, auto element) {
            using T = decltype(element);
            kernel::choose_experts_backward(on, dlogits.data<T>(), dw.data<T>(), weights.data<T>(),
                                            tokens_of<T>(logits), chosen.data<int32_t>(), logits.dim(0), logits.dim(1),
                                            chosen.dim(1), normalise);
          });
          g.add(logits, dlogits);
        });
  return routes;
}

Tensor combine_experts(const Tensor& x_, const ExpertRoutes& routes) {
  const Tensor x = as_contiguous(x_), &weights = routes.weights, &places = routes.places;
  const int64_t n = weights.dim(0), k = weights.dim(1);
  check(x.rank() == 2 && x.dim(0) == n * k && x.dtype() == weights.dtype(), "combine_experts",
        "outputs must be (N k, C), found {} for weights {}", x, weights);
  check_ids("combine_experts", "place", places.view({n * k}), n * k);
  Tensor y = Tensor::empty({n, x.dim(1)}, x.dtype(), x.device());  // (N, C)
  dispatch("combine_experts", x, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::combine_experts(on, y.data<T>(), x.data<T>(), weights.data<T>(), places.data<int32_t>(), n, k, x.dim(1));
  });
  if (Tape::recording(x, weights))
    Tape::record("combine_experts", y, [x, weights, places](const Tensor& dy, Gradients& g) {
      const Tensor dx = like(x), dweights = like(weights);  // (N k, C), (N, k)
      dispatch("combine_experts", x, [&](auto on, auto element) {
        using T = decltype(element);
        kernel::combine_experts_backward(on, dx.data<T>(), dweights.data<T>(), dy.data<T>(), x.data<T>(),
                                         weights.data<T>(), places.data<int32_t>(), weights.dim(0), weights.dim(1),
                                         x.dim(1));
      });
      g.add(x, dx);
      g.add(weights, dweights);
    });
  return y;
}

}  // namespace lathe
