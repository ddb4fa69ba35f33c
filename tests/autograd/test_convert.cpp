// Narrowing: a value beyond the range of the new type is an error that names the tensor, the row and the value.
#include <cmath>
#include <limits>

#include "autograd/convert.h"
#include "tensor/errors.h"
#include "tests/catch.h"

using namespace lathe;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
constexpr DType kBlocks[] = {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0,   DType::q5_1,
                             DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl, DType::iq4_xs};

// Two rows of 256 small values, and one of its own.
Tensor with(float value) {
  Tensor x = Tensor::empty({2, 256});
  for (int64_t i = 0; i < x.elements(); ++i) x.data<float>()[i] = 0.01f * static_cast<float>(i % 19 - 9);
  x.data<float>()[300] = value;
  return x;
}

std::string refusal(const Tensor& x, DType dtype) {
  try {
    convert(x, dtype, "up_proj");
    return {};
  } catch (const Error& e) {
    return e.what();
  }
}

}  // namespace

TEST_CASE("convert: the largest f16 is kept, the next value that would round to infinity is refused") {
  // 65520 lies in the middle between 65504, the largest f16, and 2^16.
  CHECK(f16_to_f32(static_cast<const uint16_t*>(convert(with(65519.0f), DType::f16).raw())[300]) == 65504.0f);
  CHECK_THAT(refusal(with(65520.0f), DType::f16),
             ContainsSubstring("up_proj: row 1 holds 65520, which f16 cannot hold"));
  CHECK_THAT(refusal(with(-7e4f), DType::f16), ContainsSubstring("holds -70000"));
}

TEST_CASE("convert: bf16 reaches nearly as far as f32") {
  CHECK(refusal(with(3.38e38f), DType::bf16).empty());
  CHECK_THAT(refusal(with(std::numeric_limits<float>::max()), DType::bf16),
             ContainsSubstring("which bf16 cannot hold"));
}

TEST_CASE("convert: what is not finite stays so in f64 and is refused where it is narrowed") {
  CHECK(convert(convert(with(kInfinity), DType::f64), DType::f32).data<float>()[300] == kInfinity);
  CHECK(std::isnan(convert(convert(with(kNan), DType::f64), DType::f32).data<float>()[300]));
  for (const DType dtype : {DType::f16, DType::bf16})
    for (const float value : {kNan, kInfinity, -kInfinity})
      CHECK_THAT(refusal(with(value), dtype), ContainsSubstring("up_proj: row 1 holds"));
}

TEST_CASE("convert: f64 beyond f32") {
  Tensor x = Tensor::zeros({3, 2}, DType::f64);
  x.data<double>()[5] = 1e39;
  CHECK_THAT(refusal(x, DType::f32), ContainsSubstring("up_proj: row 2 holds 1e+39, which f32 cannot hold"));
  CHECK_THAT(refusal(x, DType::f16), ContainsSubstring("holds 1e+39"));
  x.data<double>()[5] = 1.0 / 3.0;
  CHECK(convert(x, DType::f32).data<float>()[5] == 1.0f / 3.0f);
}

TEST_CASE("convert: no block format holds what is not finite, or has no f16 scale") {
  for (const DType dtype : kBlocks) {
    INFO(name(dtype));
    CHECK(refusal(with(100.0f), dtype).empty());
    for (const float value : {kNan, kInfinity, -kInfinity, 1e30f, 1e12f, -1e12f})
      CHECK_THAT(refusal(with(value), dtype), ContainsSubstring("up_proj: row 1 holds"));
  }
}

TEST_CASE("convert: the ends of the block formats follow from their f16 scales") {
  // q8_0: 127 scales; q4_0: 8; q5_0: 16; q4_1 and q5_1 hold the least value as f16.
  for (const auto& [dtype, most] : {std::pair(DType::q8_0, 127.0f * 65504), std::pair(DType::q4_0, 8.0f * 65504),
                                    std::pair(DType::q5_0, 16.0f * 65504)}) {
    INFO(name(dtype));
    CHECK(refusal(with(most), dtype).empty());
    CHECK_FALSE(refusal(with(1.001f * most), dtype).empty());
  }
  for (const DType dtype : {DType::q4_1, DType::q5_1}) {
    INFO(name(dtype));
    CHECK(refusal(with(-65504.0f), dtype).empty());
    CHECK_FALSE(refusal(with(-65600.0f), dtype).empty());
  }
}
