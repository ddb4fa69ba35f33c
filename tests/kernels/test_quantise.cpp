#include <cmath>
#include <cstring>
#include <map>

#include "formats/safetensors.h"
#include "kernels/packed_linear.h"
#include "kernels/quantise.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;

namespace {

std::vector<float> there_and_back(const std::vector<float>& x, DType dtype) {
  const int64_t n = static_cast<int64_t>(x.size());
  std::vector<uint8_t> row(bytes_of(dtype, n));
  std::vector<float> y(x.size());
  quantise_row(row.data(), x.data(), dtype, n);
  dequantise_row(y.data(), row.data(), dtype, n);
  return y;
}

}  // namespace

TEST_CASE("quantised rows are off by half a step at most") {
  const std::vector<float> x = random_floats(1024, 3);
  for (DType dtype : {DType::q8_0, DType::q4_0, DType::q4_1}) {
    const std::vector<float> y = there_and_back(x, dtype);
    for (size_t b = 0; b < x.size(); b += 32) {
      float least = x[b], most = x[b], amax = 0;
      for (size_t i = b; i < b + 32; ++i) {
        least = std::min(least, x[i]);
        most = std::max(most, x[i]);
        amax = std::max(amax, std::abs(x[i]));
      }
      const float step = dtype == DType::q8_0 ? amax / 127 : dtype == DType::q4_0 ? amax / 8 : (most - least) / 15;
      // q4_0 reaches -8 steps on one side and 7 on the other, so the other end is off by a whole one. The scale and
      // the minimum are f16: 2^-11 of 127 steps, and of the largest value.
      const float limit = (dtype == DType::q4_0 ? 1.01f : 0.51f) * step + amax * 0x1p-10f;
      for (size_t i = b; i < b + 32; ++i) CHECK(std::abs(x[i] - y[i]) <= limit);
    }
  }
}

TEST_CASE("blocks of every format mean what the reference says") {
  std::map<std::string, StoredTensor> file;
  const auto path = source_dir() / "tests" / "goldens" / "block_formats" / "expected.safetensors";
  for (StoredTensor& tensor : read_safetensors(path.string())) file.emplace(tensor.name, std::move(tensor));
  int formats = 0;
  for (const DTypeInfo& format : kDTypes) {
    if (format.block_size == 1) continue;
    INFO(format.name);
    const StoredTensor& bytes = file.at(std::string(format.name) + ".bytes");
    const StoredTensor& values = file.at(std::string(format.name) + ".values");
    std::vector<uint8_t> row;
    for (size_t i = 0; i < bytes.bytes; i += 4) row.push_back(bytes.data[i]);  // an int32 a byte
    std::vector<float> y(values.bytes / 4);
    dequantise_row(y.data(), row.data(), static_cast<DType>(&format - kDTypes), static_cast<int64_t>(y.size()));
    CHECK(std::memcmp(y.data(), values.data, values.bytes) == 0);
    ++formats;
  }
  CHECK(formats == 12);
}

TEST_CASE("formats with more bits lose less") {
  const std::vector<float> x = random_floats(4096, 3);
  const auto error = [&](DType dtype) {
    const std::vector<float> y = there_and_back(x, dtype);
    double squares = 0, size = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      squares += std::pow(static_cast<double>(x[i]) - y[i], 2);
      size += std::pow(static_cast<double>(x[i]), 2);
    }
    return std::sqrt(squares / size);
  };
  // 32 normal values span some 4.1 deviations: 15 steps of that, each off by step / sqrt(12), are 0.079; with five bits
  // 0.038. Sixteen values reach 1.8 deviations to each side: 32 steps of that, 0.016. The search gains what rounded
  // scales lose.
  CHECK(error(DType::q4_k) < 0.08);
  CHECK(error(DType::q5_k) < 0.04);
  CHECK(error(DType::q6_k) < 0.02);
  CHECK(error(DType::q4_k) < error(DType::q4_0));
  // Sixteen numbers that stand where normal values are; a scale that is a search's choice.
  CHECK(error(DType::iq4_nl) < error(DType::q4_0));
  CHECK(error(DType::iq4_xs) < error(DType::q4_0));
  CHECK(error(DType::q5_1) < 0.5 * error(DType::q4_1) * 1.05);
  CHECK(error(DType::q5_0) < 0.5 * error(DType::q4_0) * 1.05);
}

TEST_CASE("quantised blocks have the bytes that ggml writes") {
  std::vector<float> x(32);
  for (size_t i = 0; i < 32; ++i) x[i] = static_cast<float>(i) - 16.0f;
  std::vector<uint8_t> q8(34), q40(18), q41(20);
  quantise_row(q8.data(), x.data(), DType::q8_0, 32);
  quantise_row(q40.data(), x.data(), DType::q4_0, 32);
  quantise_row(q41.data(), x.data(), DType::q4_1, 32);
  // q8_0: scale 16 / 127, quants round(x * 127 / 16): -127, -119.06, ..., 0 at 16, 119.06 at 31.
  CHECK(static_cast<int8_t>(q8[2]) == -127);
  CHECK(static_cast<int8_t>(q8[3]) == -119);
  CHECK(q8[2 + 16] == 0);
  CHECK(q8[2 + 31] == 119);
  // q4_0: scale -16 / -8 = 2 (f16 0x4000), quants trunc(x / 2 + 8.5); byte j holds columns j and j + 16.
  CHECK((q40[0] == 0x00 && q40[1] == 0x40));
  CHECK(q40[2] == 0x80);   // 0.5 -> 0 and 8.5 -> 8
  CHECK(q40[17] == 0xf8);  // 8.0 -> 8 and 16.0 -> 15
  // q4_1: scale 31 / 15, minimum -16 (f16 0xcc00), quants trunc((x + 16) * 15 / 31 + 0.5).
  CHECK((q41[2] == 0x00 && q41[3] == 0xcc));
  CHECK(q41[4] == 0x80);   // 0.5 -> 0 and 8.24 -> 8
  CHECK(q41[19] == 0xf7);  // 7.76 -> 7 and 15.5 -> 15
}

TEST_CASE("rows of zeros and constants survive") {
  for (DType dtype : {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q4_k, DType::q5_k,
                      DType::q6_k, DType::iq4_nl, DType::iq4_xs, DType::f16, DType::bf16, DType::f32}) {
    CHECK(there_and_back(std::vector<float>(256, 0.0f), dtype) == std::vector<float>(256, 0.0f));
    CHECK(there_and_back(std::vector<float>(256, -2.0f), dtype)[63] == Catch::Approx(-2.0f).epsilon(2e-3));
  }
}

TEST_CASE("half precision of every instruction set is that of the scalar conversions") {
  // Every f16 through a packed weight of one column per row times 1: infinities and NaN apart.
  std::vector<uint16_t> bits;
  for (uint32_t h = 0; h < 0x10000; ++h)
    if ((h & 0x7c00u) != 0x7c00u) bits.push_back(static_cast<uint16_t>(h));
  const int64_t rows = static_cast<int64_t>(bits.size());
  Aligned packed(kernel::packed_bytes(Cpu{}, DType::f16, rows, 1));
  kernel::pack(Cpu{}, packed.data(), bits.data(), DType::f16, rows, 1);
  for_each_isa([&](CpuIsa) {
    Guarded y(rows);
    const float one = 1.0f;
    const LinearPart part{{DType::f16, rows, 1, packed.data()}, nullptr, y.data()};
    Aligned scratch(kernel::packed_linear_scratch_bytes(Cpu{}, &part, 1, 1, Arithmetic::f32));
    kernel::packed_linear(Cpu{}, &part, 1, rows, {&one, 1}, 1, Arithmetic::f32, scratch.data());
    int64_t wrong = 0;
    for (int64_t r = 0; r < rows; ++r) wrong += y[r] != f16_to_f32(bits[static_cast<size_t>(r)]);
    CHECK(wrong == 0);
  });
}
