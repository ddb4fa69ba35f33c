// Routing of tokens to the experts of a mixture, and back: kernels/routing.h has the formulas.
#include <algorithm>
#include <numeric>

#include "autograd/check_ids.h"
#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/routing.h"

namespace lathe {
namespace {

// Counting sort of the (token, choice) pairs: by expert, then by token.
void sort_by_expert(ExpertRoutes& routes, int64_t experts) {
  const int64_t n = routes.experts.dim(0), k = routes.experts.dim(1);
  routes.starts = Tensor::zeros({experts + 1}, DType::i32);  // (E + 1)
  routes.rows = Tensor::empty({n * k}, DType::i32);          // (N k)
  routes.places = Tensor::empty({n, k}, DType::i32);         // (N, k)
  const int32_t* expert = routes.experts.data<int32_t>();
  int32_t *start = routes.starts.data<int32_t>(), *row = routes.rows.data<int32_t>();
  for (int64_t i = 0; i < n * k; ++i) ++start[expert[i] + 1];
  std::partial_sum(start, start + experts + 1, start);
  for (int64_t i = 0; i < n * k; ++i) {
    const int32_t place = start[expert[i]]++;
    routes.places.data<int32_t>()[i] = place;
    row[place] = static_cast<int32_t>(i / k);
  }
  std::copy_backward(start, start + experts, start + experts + 1);  // each start has become the next one's
  start[0] = 0;
}

}  // namespace

ExpertRoutes route_experts(const Tensor& logits, int64_t per_token, bool normalise) {
  check(logits.rank() == 2, "route_experts", "router logits must be (N, E), found {}", logits);
  check(per_token >= 1 && per_token <= logits.dim(1), "route_experts", "a token goes to {} of {} experts", per_token,
        logits.dim(1));
  const int64_t n = logits.dim(0), experts = logits.dim(1);
  ExpertRoutes routes;
  routes.weights = Tensor::empty({n, per_token}, logits.dtype());  // (N, k)
  routes.experts = Tensor::empty({n, per_token}, DType::i32);      // (N, k)
  dispatch("route_experts", logits, [&](auto element) {
    using T = decltype(element);
    cpu::choose_experts(routes.weights.data<T>(), routes.experts.data<int32_t>(), logits.data<T>(), logits.stride(), n,
                        experts, per_token, normalise);
  });
  sort_by_expert(routes, experts);
  if (Tape::recording(logits))
    Tape::record(
        "route_experts", routes.weights,
        [logits, weights = routes.weights, chosen = routes.experts, normalise](const Tensor& dw, Gradients& g) {
          const Tensor dlogits = like(logits);  // (N, E)
          dispatch("route_experts", logits, [&](auto element) {
            using T = decltype(element);
            cpu::choose_experts_backward(dlogits.data<T>(), dw.data<T>(), weights.data<T>(), logits.data<T>(),
                                         logits.stride(), chosen.data<int32_t>(), logits.dim(0), logits.dim(1),
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
  dispatch("combine_experts", x, [&](auto element) {
    using T = decltype(element);
    cpu::combine_experts(y.data<T>(), x.data<T>(), weights.data<T>(), places.data<int32_t>(), n, k, x.dim(1));
  });
  if (Tape::recording(x, weights))
    Tape::record("combine_experts", y, [x, weights, places](const Tensor& dy, Gradients& g) {
      const Tensor dx = like(x), dweights = like(weights);  // (N k, C), (N, k)
      dispatch("combine_experts", x, [&](auto element) {
        using T = decltype(element);
        cpu::combine_experts_backward(dx.data<T>(), dweights.data<T>(), dy.data<T>(), x.data<T>(), weights.data<T>(),
                                      places.data<int32_t>(), weights.dim(0), weights.dim(1), x.dim(1));
      });
      g.add(x, dx);
      g.add(weights, dweights);
    });
  return y;
}

}  // namespace lathe
