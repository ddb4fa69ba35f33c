// What kernels refuse (kernels/checks.h), on the CPU and on a device alike.
#include "kernels/attention.h"
#include "kernels/packed_linear.h"
#include "kernels/qk_norm_rope_write.h"
#include "tests/cuda/cuda_cases.h"

namespace lathe::test {
namespace {

auto says(const std::string& text) { return Catch::Matchers::ContainsSubstring(text); }

template <class Device>
void refuse_caches(Device on) {
  const CacheLayer pages{nullptr, nullptr, DType::q4_0, 0};
  const ConstRows<float> none{nullptr, 0};
  CHECK_THROWS_WITH(kernel::write_kv(on, pages, none, none, nullptr, 1, 1, 32),
                    says("write_kv: cache is q4_0, expected f32, f16, bf16 or q8_0"));
  CHECK_THROWS_WITH(kernel::paged_attention(on, nullptr, none, pages, {}, 1, 1, 32, {}, nullptr),
                    says("paged_attention: cache is q4_0, expected f32, f16, bf16 or q8_0"));
  CHECK_THROWS_WITH(kernel::qk_norm_rope_write(on, nullptr, pages, none, none, none, nullptr, {}, 1, 1, 1, 32),
                    says("qk_norm_rope_write: cache is q4_0, expected f32, f16, bf16 or q8_0"));
}

template <class Device>
void refuse_parts(Device on) {
  const std::vector<LinearPart> parts(9, LinearPart{{DType::f32, 16, 16}});
  for (const int count : {0, 9})
    CHECK_THROWS_WITH(kernel::packed_linear(on, parts.data(), count, 16, {nullptr, 16}, 1, Arithmetic::f32, nullptr),
                      says("packed_linear: " + std::to_string(count) + " parts, expected 1 to 8"));
}

TEST_CASE("Caches of other dtypes are refused") {
  refuse_caches(Cpu{});
  refuse_caches(kOnDevice);
}

TEST_CASE("Linears of no parts or too many are refused") {
  refuse_parts(Cpu{});
  refuse_parts(kOnDevice);
}

TEST_CASE("Heads that are too wide for a device are refused") {
  const CacheLayer pages{nullptr, nullptr, DType::f32, 0};
  const ConstRows<float> in{nullptr, 0};
  const Rows<float> out{nullptr, 0};
  const PackedSequences s{nullptr, 1, 1, 1, 1, 257};
  const auto refused = [](const std::string& where) {
    return says(where + ": heads have 257 components, expected at most 256 on CUDA");
  };
  CHECK_THROWS_WITH(kernel::attention<float>(kOnDevice, nullptr, nullptr, in, in, in, s, {}), refused("attention"));
  CHECK_THROWS_WITH(
      kernel::attention_backward<float>(kOnDevice, out, out, out, nullptr, nullptr, nullptr, in, in, in, s, {}),
      refused("attention_backward"));
  CHECK_THROWS_WITH(kernel::paged_attention(kOnDevice, nullptr, in, pages, {}, 1, 1, 257, {}, nullptr),
                    refused("paged_attention"));
  CHECK_THROWS_WITH(kernel::qk_norm_rope_write(kOnDevice, nullptr, pages, in, in, in, nullptr, {}, 1, 1, 1, 257),
                    refused("qk_norm_rope_write"));
}

}  // namespace
}  // namespace lathe::test
