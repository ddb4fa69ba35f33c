// A token's values are the same bits among 1, 255, 256 and 257 rows: no operation chooses its algorithm, or the order
// of a sum, by the size of the batch. What --deterministic promises, on every device, operation by operation; attention
// beside other sequences is in tests/cuda and tests/generate, and a sampled token has a block of its own.
#include <cstring>

#include "autograd/precision.h"
#include "tests/autograd/gradient_check.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;

namespace {

constexpr int64_t kMost = 257, kWidth = 32, kOut = 24, kExperts = 4;

// An operation over rows (N, kWidth), each of whose outputs belongs to one of them.
struct RowOperation {
  std::string name;
  std::function<Tensor(const Tensor& x)> of;
};

Parameter on(Device device, Shape shape, uint64_t seed, DType dtype = DType::f32) {
  Parameter p = random_parameter(shape, seed);
  p.value = convert(convert(p.value, DType::f32), dtype).to(device);
  p.trainable = false;
  return p;
}

Tensor some_ids(int64_t count, Device device) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) ids[static_cast<size_t>(i)] = static_cast<int32_t>(i * 7 % kOut);
  return ids_of(ids).to(device);
}

void check_rows(const RowOperation& operation, Device device) {
  INFO(operation.name << " on " << to_string(device));
  const Tensor x = random_tensor({kMost, kWidth}, 1, DType::f32).to(device);
  const Tensor all = operation.of(x).to(Device{});
  REQUIRE(all.dim(0) == kMost);
  const size_t row = all.bytes() / kMost;
  for (const int64_t rows : {1, 255, 256}) {
    INFO(rows << " rows");
    const Tensor some = operation.of(x.row_range(kMost - rows, kMost)).to(Device{});
    REQUIRE(some.dim(0) == rows);
    const char* expected = static_cast<const char*>(all.raw()) + static_cast<size_t>(kMost - rows) * row;
    CHECK(std::memcmp(some.raw(), expected, some.bytes()) == 0);
  }
}

std::vector<RowOperation> operations_without_products(Device device) {
  const Parameter scale = on(device, {kWidth}, 2), shift = on(device, {kWidth}, 3),
                  table = on(device, {kOut, kWidth}, 4);
  return {
      {"rms_norm", [=](const Tensor& x) { return rms_norm(x, scale, 1e-5); }},
      {"layer_norm", [=](const Tensor& x) { return layer_norm(x, scale, &shift, 1e-5); }},
      {"add_rms_norm", [=](const Tensor& x) { return add_rms_norm(x, x, scale, 1e-5).normal; }},
      {"activation", [](const Tensor& x) { return activation(x, Activation::gelu_tanh); }},
      {"gated_activation", [](const Tensor& x) { return gated_activation(x, x, Activation::silu); }},
      {"add", [](const Tensor& x) { return add(x, x); }},
      {"embedding, added",
       [=](const Tensor& x) {
         // Ids of the last rows, whatever the number of rows.
         return add(x, embedding(table, some_ids(kMost, device).row_range(kMost - x.dim(0), kMost)));
       }},
      {"route_experts", [](const Tensor& x) { return route_experts(slice_columns(x, 0, kExperts), 2, true).weights; }},
  };
}

// A product with weights of one dtype in one arithmetic, alone, gated and as the last of a mixture of experts.
std::vector<RowOperation> products(Device device, DType dtype, Arithmetic arithmetic, bool packed) {
  const auto weight = [&](Shape shape, uint64_t seed) {
    Parameter p = on(Device{}, shape, seed, dtype);
    if (!packed) p.value = p.value.to(device);
    return p;
  };
  const auto all = std::make_shared<Parameters>();
  all->push_back(weight({kOut, kWidth}, 5));
  for (uint64_t e = 0; e < kExperts; ++e) all->push_back(weight({kWidth, kWidth}, 6 + e));
  for (Parameter& p : *all) {
    if (!packed) continue;
    p.value = p.value.to(device);
    p.prepare_for_inference(arithmetic);
  }
  const auto scoped = [=](auto&& f) {
    const Precision products(arithmetic);
    return f();
  };
  const std::string form = fmt::format(" with {} weights, {}, {}", name(dtype), packed ? "packed" : "as stored",
                                       arithmetic == Arithmetic::bf16 ? "bf16" : "f32");
  return {
      {"linear" + form, [=](const Tensor& x) { return scoped([&] {
                                                 return linear(x, {&all->front(), nullptr});
                                               }); }},
      {"activated_linear" + form,
       [=](const Tensor& x) {
         return scoped([&] { return activated_linear(x, x, Activation::silu, {&all->front(), nullptr}); });
       }},
      {"a mixture of experts" + form,
       [=](const Tensor& x) {
         return scoped([&] {
           std::vector<LinearWeight> experts;
           for (size_t e = 1; e < all->size(); ++e) experts.push_back({&(*all)[e], nullptr});
           const ExpertRoutes routes = route_experts(slice_columns(x, 0, kExperts), 2, true);
           return combine_experts(grouped_linear(select_rows(x, routes.rows), routes.starts, experts), routes);
         });
       }},
  };
}

}  // namespace

TEST_CASE("a row's bits do not depend on how many rows there are: norms, activations, tables, routes") {
  for (const Device device : tested_devices())
    for (const RowOperation& operation : operations_without_products(device)) check_rows(operation, device);
}

TEST_CASE("a row's bits do not depend on how many rows there are: products with weights of every kind") {
  static constexpr DType kDtypes[] = {DType::f32,  DType::bf16, DType::f16,   DType::q8_0,
                                      DType::q4_0, DType::q4_1, DType::iq4_nl};
  for (const Device device : tested_devices())
    for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::bf16})
      for (const DType dtype : tried<DType>(kDtypes, 3))
        for (const bool packed : {true, false}) {
          if (!packed && dtype != DType::f32) continue;  // what is not packed is multiplied as f32
          for (const RowOperation& operation : products(device, dtype, arithmetic, packed))
            check_rows(operation, device);
        }
}
