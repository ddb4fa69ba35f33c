// GPTQ and AWQ checkpoints: the values are those of the published formula, and what is not read is refused by name.
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "autograd/convert.h"
#include "formats/safetensors.h"
#include "llm/load.h"
#include "load_model/gptq_awq.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

namespace {

constexpr int64_t kRows = 16, kColumns = 128, kGroup = 64;

uint32_t quant(int64_t row, int64_t column) { return static_cast<uint32_t>(row * 7 + column * 5 + row * column) % 16; }
uint32_t zero(int64_t row, int64_t group) { return static_cast<uint32_t>(row * 3 + group * 5) % 15 + 1; }
uint32_t eight(int64_t, int64_t) { return 8; }
float scale(int64_t row, int64_t group) { return 0.01f * static_cast<float>(1 + row + 3 * group); }

using Zero = uint32_t (*)(int64_t, int64_t);

void put_nibble(Tensor& words, int64_t word, int64_t nibble, uint32_t value) {
  words.data<int32_t>()[word] |= static_cast<int32_t>(value << (4 * nibble));
}

// The tensors of one matrix "w", packed as AutoGPTQ or AutoAWQ does it; `stored_less` is taken off the zeros.
NamedTensors packed(bool awq, Zero zeros, uint32_t stored_less) {
  static constexpr int64_t kPlace[] = {0, 4, 1, 5, 2, 6, 3, 7};  // of a row in AWQ's words
  const auto place = [&](int64_t row) { return awq ? kPlace[row % 8] : row % 8; };
  Tensor qweight =
      awq ? Tensor::zeros({kColumns, kRows / 8}, DType::i32) : Tensor::zeros({kColumns / 8, kRows}, DType::i32);
  Tensor qzeros = Tensor::zeros({kColumns / kGroup, kRows / 8}, DType::i32);
  Tensor scales = Tensor::empty({kColumns / kGroup, kRows});
  Tensor order = Tensor::empty({kColumns}, DType::i32);
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t k = 0; k < kColumns; ++k) {
      if (awq)
        put_nibble(qweight, k * (kRows / 8) + row / 8, place(row), quant(row, k));
      else
        put_nibble(qweight, k / 8 * kRows + row, k % 8, quant(row, k));
      order.data<int32_t>()[k] = static_cast<int32_t>(k / kGroup);
    }
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t g = 0; g < kColumns / kGroup; ++g) {
      put_nibble(qzeros, g * (kRows / 8) + row / 8, place(row), zeros(row, g) - stored_less);
      scales.data<float>()[g * kRows + row] = scale(row, g);
    }
  NamedTensors tensors = {{"w.qweight", qweight}, {"w.qzeros", qzeros}, {"w.scales", convert(scales, DType::f16)}};
  if (!awq) tensors.emplace_back("w.g_idx", order);
  return tensors;
}

json settings(const char* method) { return {{"quant_method", method}, {"bits", 4}, {"group_size", kGroup}}; }

Checkpoint open(const TemporaryDirectory& folder, const NamedTensors& tensors, const json& quantization) {
  const json config = {{"architectures", {"LlamaForCausalLM"}},
                       {"vocab_size", 8},
                       {"hidden_size", 4},
                       {"intermediate_size", 4},
                       {"num_hidden_layers", 1},
                       {"num_attention_heads", 1},
                       {"quantization_config", quantization}};
  write_file(folder.path() / "config.json", config.dump());
  write_safetensors((folder.path() / "model.safetensors").string(), tensors);
  return open_checkpoint(folder.path().string(), family_configs());
}

void check_values(const json& quantization, bool awq, Zero zeros, uint32_t stored_less, DType expected) {
  const TemporaryDirectory folder;
  Checkpoint c = open(folder, packed(awq, zeros, stored_less), quantization);
  REQUIRE(c.tensors.size() == 1);
  const StoredTensor& t = c.tensors[0];
  CHECK(t.name == "w.weight");
  CHECK(t.dtype == expected);
  CHECK(t.shape == std::vector<int64_t>{kRows, kColumns});
  c.unpack();
  const Tensor values = convert(Tensor::wrap(t.data, {kRows, kColumns}, *t.dtype, t.file), DType::f32);
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t k = 0; k < kColumns; ++k) {
      const double d = f16_to_f32(f32_to_f16(scale(row, k / kGroup))), z = zeros(row, k / kGroup);
      // The minimum is rounded to f16, to half of 2^-10 of itself; with zeros of 8 it is a power of two of the scale.
      const double bound = expected == DType::q4_0 ? 0.0 : d * z * 0x1p-11 + 1e-7;
      const double error = std::abs(values.data<float>()[row * kColumns + k] - d * (quant(row, k) - z));
      if (error > bound) FAIL("row " << row << ", column " << k << ": error " << error << ", at most " << bound);
    }
}

std::string refusal(const NamedTensors& tensors, const json& quantization) {
  const TemporaryDirectory folder;
  try {
    open(folder, tensors, quantization);
    return {};
  } catch (const Error& e) {
    return e.what();
  }
}

}  // namespace

TEST_CASE("gptq and awq: the values of the published formula") {
  check_values(settings("gptq"), false, zero, 1, DType::q4_1);
  check_values(settings("gptq"), false, eight, 1, DType::q4_0);
  json second = settings("gptq");
  second["checkpoint_format"] = "gptq_v2";
  check_values(second, false, zero, 0, DType::q4_1);
  check_values(settings("awq"), true, zero, 0, DType::q4_1);
  check_values(settings("awq"), true, eight, 0, DType::q4_0);
}

TEST_CASE("gptq and awq: a scale or a minimum beyond f16 is named") {
  const TemporaryDirectory folder;
  NamedTensors tensors = packed(true, zero, 0);
  Tensor wide = Tensor::empty({kColumns / kGroup, kRows});
  for (int64_t i = 0; i < wide.elements(); ++i) wide.data<float>()[i] = 1.0f;
  const auto message = [&] {
    tensors[2].second = convert(wide, DType::bf16);
    try {
      open(folder, tensors, settings("awq")).unpack();
      return std::string();
    } catch (const Error& e) {
      return std::string(e.what());
    }
  };
  CHECK(message().empty());
  wide.data<float>()[3] = 60000.0f;  // times the zero of row 3, 10
  CHECK_THAT(message(),
             ContainsSubstring("'w.weight': a scale, or a scale times its zero, is beyond the range of f16"));
  wide.data<float>()[3] = 1e6f;
  CHECK_THAT(message(), ContainsSubstring("'w.weight'"));
}

TEST_CASE("gptq and awq: other methods and forms are refused by name") {
  const NamedTensors good = packed(false, zero, 1);
  CHECK(refusal(good, settings("gptq")).empty());
  const auto with = [](const char* key, const json& value) {
    json changed = settings("gptq");
    changed[key] = value;
    return changed;
  };
  CHECK_THAT(refusal(good, with("quant_method", "bitsandbytes")), ContainsSubstring("bitsandbytes"));
  CHECK_THAT(refusal(good, with("quant_method", "fp8")), ContainsSubstring("fp8"));
  CHECK_THAT(refusal(good, with("bits", 8)), ContainsSubstring("with bits '8'"));
  CHECK_THAT(refusal(good, with("checkpoint_format", "marlin")), ContainsSubstring("expected GPTQ or AWQ"));
  CHECK_THAT(refusal(good, with("version", "gemv")), ContainsSubstring("expected GPTQ or AWQ"));
  CHECK_THAT(refusal(good, with("group_size", 16)), ContainsSubstring("groups of 16"));
  CHECK_THAT(refusal(good, with("group_size", 0)), ContainsSubstring("groups of 0"));
  CHECK_THAT(refusal(good, with("group_size", 32)), ContainsSubstring("'w.qzeros' is (2, 2), expected (4, 2)"));
  CHECK_THAT(refusal(good, json::array()), ContainsSubstring("quantization_config"));
  NamedTensors ordered = packed(false, zero, 1);
  ordered[3].second.data<int32_t>()[5] = 1;
  CHECK_THAT(refusal(ordered, settings("gptq")), ContainsSubstring("desc_act"));
  CHECK_THAT(refusal({good[0], good[1]}, settings("gptq")), ContainsSubstring("'w.scales' is missing"));
}
