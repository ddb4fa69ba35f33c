// Routing of tokens to the experts of a mixture, and back: kernels/routing.h has the formulas.
#include <numeric>

#include "autograd/check_ids.h"
#include "autograd/dispatch.h"
#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/routing.h"

namespace lathe {
namespace {

void check_router(const char* operation, const Tensor& logits, int64_t per_token) {
  check(logits.rank() == 2, operation, "router logits must be (N, E), found {}", logits);
  check(per_token >= 1 && per_token <= logits.dim(1), operation, "a token goes to {} of {} experts", per_token,
        logits.dim(1));
}

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
  std::vector<int32_t> next(start, start + experts);
  for (int64_t i = 0; i < n * k; ++i) {
    const int32_t place = next[static_cast<size_t>(expert[i])]++;
    routes.places.data<int32_t>()[i] = place;
    row[place] = static_cast<int32_t>(i / k);
  }
}

}  // namespace

ExpertRoutes route_experts(const Tensor& logits, int64_t per_token, bool normalise) {
  check_router("route_experts", logits, per_token);
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
    Tape::record("route_experts", routes.weights,
                 [logits, chosen = routes.experts, normalise](const Tensor& dw, Gradients& g) {
                   const Tensor dlogits = like(logits);  // (N, E)
                   dispatch("route_experts", logits, [&](auto element) {
                     using T = decltype(element);
                     cpu::choose_experts_backward(dlogits.data<T>(), dw.data<T>(), logits.data<T>(), logits.stride(),
                                                  chosen.data<int32_t>(), logits.dim(0), logits.dim(1), chosen.dim(1),
                                                  normalise);
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

Tensor load_balancing_loss(std::span<const Tensor> router_logits, int64_t per_token) {
  check(!router_logits.empty(), "load_balancing_loss", "needs the logits of a router, found none");
  const Tensor& first = router_logits[0];
  const int64_t experts = first.dim(-1);
  std::vector<double> chosen(static_cast<size_t>(experts)), probability(chosen.size());  // (E)
  int64_t rows = 0;
  bool recording = false;
  for (const Tensor& logits : router_logits) {
    check_router("load_balancing_loss", logits, per_token);
    check(logits.dim(1) == experts && logits.dtype() == first.dtype(), "load_balancing_loss",
          "all routers must be alike, {} and {}", first, logits);
    rows += logits.dim(0);
    recording = recording || Tape::recording(logits);
    dispatch("load_balancing_loss", logits, [&](auto element) {
      using T = decltype(element);
      cpu::add_expert_loads(chosen.data(), probability.data(), logits.data<T>(), logits.stride(), logits.dim(0),
                            experts, per_token);
    });
  }
  // dprobability: of the loss by the sum of an expert's probabilities, E f_e / rows.
  const double count = static_cast<double>(std::max<int64_t>(1, rows));
  double loss = 0;
  for (size_t e = 0; e < chosen.size(); ++e) {
    chosen[e] *= static_cast<double>(experts) / (count * count);
    loss += chosen[e] * probability[e];
  }
  Tensor y = Tensor::empty({1}, first.dtype());
  dispatch("load_balancing_loss", y, [&](auto element) {
    using T = decltype(element);
    y.data<T>()[0] = static_cast<T>(loss);
  });
  if (recording)
    Tape::record(
        "load_balancing_loss", y,
        [all = std::vector(router_logits.begin(), router_logits.end()), chosen](const Tensor& dy, Gradients& g) {
          dispatch("load_balancing_loss", dy, [&](auto element) {
            using T = decltype(element);
            std::vector<double> scaled = chosen;
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
