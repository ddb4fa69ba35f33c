// Embedding, row selection and conversions of stored rows on a CUDA device: the CPU's bits.
#include "kernels/embedding.h"
#include "kernels/quantise.h"
#include "tests/cuda/cuda_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// Rows in `dtype`; of what is only read, random bytes with finite factors.
Aligned stored_rows(DType dtype, int64_t rows, int64_t columns) {
  const size_t row_bytes = bytes_of(dtype, columns);
  Aligned bytes(static_cast<size_t>(rows) * row_bytes);
  const auto values = random_floats(rows * columns, 7);
  std::mt19937 random(8);
  for (int64_t row = 0; row < rows; ++row) {
    uint8_t* p = bytes.data() + static_cast<size_t>(row) * row_bytes;
    if (dtype != DType::q2_k && dtype != DType::q3_k) {
      quantise_row(p, values.data() + row * columns, dtype, columns);
      continue;
    }
    for (size_t i = 0; i < row_bytes; ++i) p[i] = static_cast<uint8_t>(random());
    const auto block = static_cast<size_t>(info(dtype).block_bytes);
    for (size_t i = 0; i < row_bytes; i += block) {  // f16 at the end of a block: two of q2_k, one of q3_k
      p[i + block - 1] &= 0x3b;
      if (dtype == DType::q2_k) p[i + block - 3] &= 0x3b;
    }
  }
  return bytes;
}

const DType kStored[] = {DType::f32,  DType::bf16, DType::f16,  DType::q8_0,   DType::q4_0,
                         DType::q4_1, DType::q5_0, DType::q5_1, DType::q2_k,   DType::q3_k,
                         DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl, DType::iq4_xs};

}  // namespace

TEST_CASE("rows of every stored dtype on a CUDA device are the CPU's") {
  const DType dtype = GENERATE(from_range(std::begin(kStored), std::end(kStored)));
  const int64_t columns = GENERATE(1, 35, 512), rows = 5;
  if (columns % info(dtype).block_size != 0) return;
  const int64_t shift = GENERATE(0, 1);
  CAPTURE(name(dtype), columns, shift);
  Aligned table = stored_rows(dtype, rows, columns);
  const size_t row_bytes = bytes_of(dtype, columns);
  const std::vector<int32_t> ids{4, 0, 2, 2, 1, 3, 0};
  std::vector<float> expected(ids.size() * static_cast<size_t>(columns));
  const auto tokens = static_cast<int64_t>(ids.size());
  kernel::embedding(Cpu{}, expected.data(), table.data(), dtype, row_bytes, ids.data(), tokens, columns);
  Output y(tokens, columns, columns, shift);
  kernel::embedding(kOnDevice, y.data(), table.data(), dtype, row_bytes, ids.data(), tokens, columns);
  CHECK(y.error(widened(expected)) == 0);

  Output all(rows, columns, columns, shift);
  kernel::dequantise_rows(kOnDevice, all.data(), table.data(), dtype, rows, columns);
  for (int64_t row = 0; row < rows; ++row)
    dequantise_row(expected.data() + row * columns, table.data() + static_cast<size_t>(row) * row_bytes, dtype,
                   columns);
  expected.resize(static_cast<size_t>(rows * columns));
  CHECK(all.error(widened(expected)) == 0);
}

TEST_CASE("rounding to bf16 and f16 on a CUDA device is the CPU's") {
  const DType dtype = GENERATE(DType::bf16, DType::f16);
  const int64_t columns = GENERATE(1, 24, 35), rows = 4, shift = GENERATE(0, 1);
  CAPTURE(name(dtype), columns, shift);
  // Exponents from -25 to 14, both signs; ties and their neighbours.
  std::vector<float> values(static_cast<size_t>(rows * columns));
  std::mt19937 random(3);
  for (float& v : values) {
    const uint32_t bits = static_cast<uint32_t>(random()), nudge = static_cast<uint32_t>(random()) % 3;
    const uint32_t all =
        (bits & 0x80000000u) | ((0x33000000u + (bits & 0x7fffffffu) % 0x14000000u) / 4096 * 4096 - 1 + nudge);
    std::memcpy(&v, &all, 4);
  }
  Input x(values, shift);
  std::vector<uint16_t> expected(values.size()), out(values.size() + 8, 0x1234);
  int32_t first = 1 << 30, lost = 1 << 30;
  for (int64_t row = 0; row < rows; ++row) {
    const float* in = values.data() + row * columns;
    quantise_row(expected.data() + row * columns, in, dtype, columns);
    if (!row_holds(expected.data() + row * columns, in, dtype, columns))
      first = std::min(first, static_cast<int32_t>(row));
  }
  kernel::quantise_rows(kOnDevice, out.data() + shift, x.data(), dtype, rows, columns, &lost);
  CHECK(std::equal(expected.begin(), expected.end(), out.begin() + shift));
  CHECK(out[expected.size() + static_cast<size_t>(shift)] == 0x1234);
  CHECK(lost == first);
  kernel::quantise_rows(kOnDevice, out.data() + shift, x.data(), dtype, rows, columns, nullptr);
  CHECK(std::equal(expected.begin(), expected.end(), out.begin() + shift));
}

TEST_CASE("a CUDA device tells of the first row that f16 cannot hold") {
  std::vector<float> values(5 * 3, 1.0f);
  values[3 * 3 + 2] = 65520.0f;  // rounds to infinity
  values[4 * 3] = NAN;
  std::vector<uint16_t> out(values.size());
  int32_t lost = 1000;
  kernel::quantise_rows(kOnDevice, out.data(), values.data(), DType::f16, 5, 3, &lost);
  CHECK(lost == 3);
  CHECK(out[3 * 3 + 2] == 0x7c00);
  kernel::quantise_rows(kOnDevice, out.data(), values.data(), DType::f16, 5, 3, nullptr);  // nobody asks
  lost = 1000;
  kernel::quantise_rows(kOnDevice, out.data(), values.data(), DType::bf16, 4, 3, &lost);
  CHECK(lost == 1000);
}

TEST_CASE("rows selected on a CUDA device") {
  const int64_t columns = GENERATE(1, 36, 1027), shift = GENERATE(0, 1), stride = columns + 4;
  const auto values = random_floats(6 * stride, 1);
  Input x(values, shift);
  const std::vector<int32_t> ids{5, 5, 0, 3};
  std::vector<float> expected(4 * static_cast<size_t>(columns));
  Output y(4, columns, columns, shift);
  kernel::select_rows<float>(kOnDevice, y.data(), {x.data(), stride}, ids.data(), 4, columns);
  kernel::select_rows<float>(Cpu{}, expected.data(), {values.data(), stride}, ids.data(), 4, columns);
  CHECK(y.error(widened(expected)) == 0);
}

TEST_CASE("the gradient of an embedding on a CUDA device adds the tokens of an id") {
  const InOrder order(any_order());
  const int64_t n = GENERATE(1, 7, 2500), columns = GENERATE(1, 8, 1029), shift = GENERATE(0, 1);
  if (n > 7 && columns > 8) return;  // the same in few columns
  CAPTURE(n, columns, shift);
  constexpr int64_t kRows = 11;
  std::mt19937 random(5);
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (int32_t& id : ids)
    id = static_cast<int32_t>(random() % 3 == 0 ? 4 : random() % (kRows - 1));  // none of the last
  const auto dys = random_floats(n * columns, 2);
  Input dy(dys, shift);
  Output dtable(kRows, columns, columns, shift, 0.25f);
  std::vector<double> expected(static_cast<size_t>(kRows * columns), 0.25);
  auto dy64 = widened(dys);
  kernel::embedding_backward<float>(kOnDevice, dtable.data(), dy.data(), ids.data(), n, columns);
  kernel::embedding_backward<double>(Cpu{}, expected.data(), dy64.data(), ids.data(), n, columns);
  // An eighth of the tokens by each warp, then eight sums, none larger than the sum of magnitudes.
  const double most = static_cast<double>(n) * largest(dy64);
  CHECK(dtable.error(expected) <= static_cast<double>(n / 8 + 9) * kEpsilon * most);
  Output again(kRows, columns, columns, 0, 0.25f);
  kernel::embedding_backward<float>(kOnDevice, again.data(), dy.data(), ids.data(), n, columns);
  for (int64_t i = 0; i < kRows * columns; ++i) REQUIRE(again[i] == dtable[i]);
}
