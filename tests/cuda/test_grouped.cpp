// Products of groups on CUDA: each row has the bits of the product with its own weight alone.
#include <array>

#include "kernels/grouped.h"
#include "tests/cuda/cuda_cases.h"
#include "tests/kernels/linear_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// Every second one of `groups` groups has a row.
std::vector<int32_t> sparse(int32_t groups) {
  std::vector<int32_t> starts;
  for (int32_t e = 0; e <= groups; ++e) starts.push_back(e / 2);
  return starts;
}

// Groups without rows at the beginning, in the middle and at the end, of one row, of more than a tile of either size;
// more groups than the 128 that a launch takes.
const std::vector<int32_t> kBorders[] = {{0, 1},   {0, 0, 3, 3, 4}, {0, 70, 70, 75, 140, 140}, {0, 0, 0}, {0, 2, 5, 8},
                                         {0, 130}, sparse(130)};

template <class T>
std::vector<T*> pointers(std::vector<std::vector<std::remove_const_t<T>>>& v) {
  std::vector<T*> p;
  for (auto& x : v) p.push_back(x.data());
  return p;
}

}  // namespace

TEST_CASE("a grouped product on CUDA is gemm with each group's weight, forward and backward") {
  struct Case {
    std::vector<int32_t> starts;
    int64_t out = 37, in = 43;
  };
  std::vector<Case> cases;
  for (const std::vector<int32_t>& starts : kBorders) cases.push_back({starts});
  // Tiles of 128, which are taken where 132 multiprocessors have one each: of the rows, and of the weights.
  cases.push_back({{0, 0, 128 * 132 + 3}, 3, 2});
  cases.push_back({sparse(66), 130, 2});
  const int64_t gap = 2;
  for (const auto& [starts, out, in] : cases)
    for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::bf16}) {
      const int64_t groups = std::ssize(starts) - 1, rows = starts.back(), ldx = in + gap, ldy = out + gap;
      if (rows > 10000 && arithmetic == Arithmetic::bf16) continue;  // the same, and dear
      INFO(groups << " groups, " << rows << " rows");
      std::vector<std::vector<float>> w, bias, dw, db, dw0, db0;
      for (int64_t e = 0; e < groups; ++e) {
        w.push_back(random_floats(out * in, static_cast<unsigned>(e)));
        bias.push_back(random_floats(out, static_cast<unsigned>(e + 50)));
        dw.push_back(random_floats(out * in, 90));
        db.push_back(random_floats(out, 91));
      }
      dw0 = dw, db0 = db;
      const std::vector<float> x = random_floats(rows * ldx, 1), dy = random_floats(rows * ldy, 2);
      Guarded y(rows * ldy), y0(rows * ldy), dx(rows * ldx), dx0(rows * ldx);
      for (int64_t i = 0; i < rows * ldx; ++i) dx.data()[i] = dx0.data()[i] = 1.0f;
      kernel::grouped_gemm<float>(kOnDevice, {y.data(), ldy}, {x.data(), ldx}, pointers<const float>(w).data(), in,
                                  true, pointers<const float>(bias).data(), starts.data(), groups, rows, out, in, false,
                                  arithmetic);
      kernel::grouped_gemm<float>(kOnDevice, {dx.data(), ldx}, {dy.data(), ldy}, pointers<const float>(w).data(), in,
                                  false, nullptr, starts.data(), groups, rows, in, out, true, arithmetic);
      std::vector<float*> to = pointers<float>(dw), sums = pointers<float>(db);
      to.back() = nullptr;  // the last weight is frozen, the first bias too
      sums.front() = nullptr;
      kernel::grouped_gemm_weights_backward<float>(kOnDevice, to.data(), in, sums.data(), {dy.data(), ldy},
                                                   {x.data(), ldx}, starts.data(), groups, out, in, arithmetic);
      for (int64_t e = 0; e < groups; ++e) {
        const int64_t first = starts[static_cast<size_t>(e)], count = starts[static_cast<size_t>(e + 1)] - first;
        const auto g = static_cast<size_t>(e);
        if (count == 0) continue;
        const ConstRows<float> xe{x.data() + first * ldx, ldx}, dye{dy.data() + first * ldy, ldy};
        kernel::gemm<float>(kOnDevice, {y0.data() + first * ldy, ldy}, xe, false, {w[g].data(), in}, true, count, out,
                            in, false, {.arithmetic = arithmetic, .bias = bias[g].data()});
        kernel::gemm<float>(kOnDevice, {dx0.data() + first * ldx, ldx}, dye, false, {w[g].data(), in}, false, count, in,
                            out, true, {.arithmetic = arithmetic});
        std::vector<float> unwanted_dw = dw0[g], unwanted_db = db0[g];
        kernel::gemm<float>(kOnDevice, {e + 1 < groups ? dw0[g].data() : unwanted_dw.data(), in}, dye, true, xe, false,
                            out, in, count, true,
                            {.arithmetic = arithmetic, .row_sums = e > 0 ? db0[g].data() : unwanted_db.data()});
      }
      CHECK((y.same_bits(y0) && y.intact()));
      CHECK((dx.same_bits(dx0) && dx.intact()));
      CHECK(dw == dw0);
      CHECK(db == db0);
    }
}

TEST_CASE("a grouped product with packed weights on CUDA is the linear with each group's weight") {
  const int64_t out = 37, in = 96;
  for (const std::vector<int32_t>& starts : kBorders)
    for (const Arithmetic arithmetic : kArithmetics) {
      const int64_t groups = std::ssize(starts) - 1, rows = starts.back(), ldy = out + 1;
      INFO(groups << " groups, " << rows << " rows, " << name(arithmetic));
      std::vector<Weight> weights;
      std::vector<Aligned> packed;
      std::vector<PackedMatrix> matrices;
      std::vector<const float*> biases;
      weights.reserve(static_cast<size_t>(groups));
      packed.reserve(weights.capacity());
      for (int64_t e = 0; e < groups; ++e) {
        const DType type = e == 2 ? DType::q8_0 : DType::q4_0;
        Weight& w = weights.emplace_back(type, out, in, static_cast<unsigned>(e));
        packed.emplace_back(kernel::packed_bytes(kOnDevice, type, out, in));
        kernel::pack(kOnDevice, packed.back().data(), w.source.data(), type, out, in);
        matrices.push_back({type, out, in, packed.back().data()});
        biases.push_back(e == 1 ? nullptr : w.bias.data());
      }
      const std::vector<float> x = random_floats(rows * in, 1);
      Guarded y(rows * ldy), y0(rows * ldy);
      Aligned scratch(
          kernel::grouped_packed_linear_scratch_bytes(kOnDevice, matrices.data(), groups, rows, arithmetic) + 64);
      kernel::grouped_packed_linear(kOnDevice, {y.data(), ldy}, {x.data(), in}, matrices.data(), biases.data(),
                                    starts.data(), groups, rows, arithmetic, scratch.data());
      for (int64_t e = 0; e < groups; ++e) {
        const int64_t first = starts[static_cast<size_t>(e)], count = starts[static_cast<size_t>(e + 1)] - first;
        const auto g = static_cast<size_t>(e);
        const LinearPart part{matrices[g], biases[g], y0.data() + first * ldy};
        Aligned own(kernel::packed_linear_scratch_bytes(kOnDevice, &part, 1, count, arithmetic) + 64);
        kernel::packed_linear(kOnDevice, &part, 1, ldy, {x.data() + first * in, in}, count, arithmetic, own.data());
      }
      CHECK((y.same_bits(y0) && y.intact()));
    }
}
