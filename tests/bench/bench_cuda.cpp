// bench_cuda [--toy]: how long the CUDA kernels take that models spend their time in, one JSON object a line. It is no
// test: scripts/gpu_check.py runs it on a GPU, beside torch's twins of the same names and shapes. --toy: one call each
// at sizes that the emulator runs at once.
//
// A round queues calls for some 20 ms and waits once, so that what the host does is hidden; a figure is the median of
// rounds. Weights take turns with copies of themselves until they exceed the second-level cache, as the cache of keys
// does alone.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <vector>

#include "kernels/attention.h"
#include "kernels/gemm.h"
#include "kernels/norm.h"
#include "kernels/packed_linear.h"
#include "kernels/paged_attention.h"
#include "kernels/quantise.h"
#include "tensor/device_memory.h"
#include "tensor/stream.h"
#include "tests/kernels/kernel_data.h"

namespace lathe::bench {
namespace {

constexpr Device kDevice{Device::Kind::cuda};
bool toy = false;

Cuda on() { return {Stream::current(kDevice)}; }

// The toy size of a dimension in place of its own.
int64_t size(int64_t real, int64_t small) { return toy ? small : real; }

// Random floats on the device; a period of a million values, which is made at once.
Tensor floats(int64_t n, unsigned seed) {
  const std::vector<float> period = test::random_floats(std::min<int64_t>(n, 1 << 20), seed);
  Tensor host = Tensor::empty({n});
  for (int64_t i = 0; i < n; i += std::ssize(period))
    std::copy_n(period.data(), std::min<int64_t>(n - i, std::ssize(period)), host.data<float>() + i);
  return host.to(kDevice);
}
Tensor integers(const std::vector<int32_t>& values) {
  return Tensor::of({std::ssize(values)}, values.data()).to(kDevice);
}
Tensor bytes(size_t n) { return Tensor::empty({static_cast<int64_t>(n / 4 + 1)}, DType::f32, kDevice); }

using Call = std::function<void(int64_t copy)>;

double seconds_of(const Call& call, int64_t calls) {
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < calls; ++i) call(i);
  Stream::synchronise(kDevice);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / static_cast<double>(calls);
}

// Bytes that must move and operations, from which gpu_check.py tells the share of the ceilings.
void time(const char* kernel, const std::string& shape, double bytes, double operations, const Call& call) {
  std::vector<double> rounds{seconds_of(call, 1)};
  if (!toy) {
    const auto calls = static_cast<int64_t>(std::clamp(0.02 / seconds_of(call, 3), 3.0, 2000.0));
    rounds.clear();
    for (int round = 0; round < 7; ++round) rounds.push_back(seconds_of(call, calls));
  }
  std::sort(rounds.begin(), rounds.end());
  fmt::print(R"({{"kernel": "{}", "shape": "{}", "bytes": {}, "operations": {}, "microseconds": {:.3f}}})"
             "\n",
             kernel, shape, bytes, operations, 1e6 * rounds[rounds.size() / 2]);
}

void norms() {
  const int64_t rows = size(16384, 3), n = size(4096, 64);
  const Tensor x = floats(rows * n, 1), w = floats(n, 2), y = like(x);
  time("rms_norm", fmt::format("{} x {}", rows, n), 8.0 * static_cast<double>(rows * n), 0, [&](int64_t) {
    kernel::rms_norm<float>(on(), y.data<float>(), nullptr, {x.data<float>(), n}, w.data<float>(), rows, n, 1e-6, 0.0);
  });
}

void products() {
  const int64_t n = size(8192, 64);
  const Tensor a = floats(n * n, 1), b = floats(n * n, 2), c = like(a);
  const double elements = static_cast<double>(n * n);
  time("gemm_bf16", fmt::format("{0} x {0} x {0}", n), 12 * elements, 2 * elements * static_cast<double>(n),
       [&](int64_t) {
         kernel::gemm<float>(on(), {c.data<float>(), n}, {a.data<float>(), n}, false, {b.data<float>(), n}, true, n, n,
                             n, false, {.arithmetic = Arithmetic::bf16});
       });
}

// Causal, of the shape of a layer of Qwen3-0.6B.
void attention_of_training() {
  const int64_t sequences = size(8, 2), length = size(1024, 20), heads = size(16, 2), kv_heads = size(8, 1),
                d = size(128, 16);
  const int64_t tokens = sequences * length, width = heads * d, kv_width = kv_heads * d;
  const Tensor q = floats(tokens * width, 1), k = floats(tokens * kv_width, 2), v = floats(tokens * kv_width, 3);
  const Tensor dout = floats(tokens * width, 4), out = like(q),
               lse = Tensor::empty({tokens * heads}, DType::f32, kDevice);
  const Tensor dq = like(q), dk = like(k), dv = like(v);
  std::vector<int32_t> starts;
  for (int64_t s = 0; s <= sequences; ++s) starts.push_back(static_cast<int32_t>(s * length));
  const Tensor start = integers(starts);
  const PackedSequences packed{start.data<int32_t>(), sequences, tokens, heads, kv_heads, d};
  const ScoreOptions options{.scale = 0.1f, .products = Arithmetic::bf16};
  const ConstRows<float> qs{q.data<float>(), width}, ks{k.data<float>(), kv_width}, vs{v.data<float>(), kv_width};
  const std::string shape = fmt::format("{} x {}, {} heads of {}, {} for keys", sequences, length, heads, d, kv_heads);
  const double products = 2.0 * static_cast<double>(tokens * length * width);  // two of a half of the scores each
  const double moved = 8.0 * static_cast<double>(tokens * (width + kv_width));
  time("attention_bf16", shape, moved, products, [&](int64_t) {
    kernel::attention<float>(on(), out.data<float>(), lse.data<float>(), qs, ks, vs, packed, options);
  });
  time("attention_backward_bf16", shape, 2 * moved, 2.5 * products, [&](int64_t) {
    kernel::attention_backward<float>(on(), {dq.data<float>(), width}, {dk.data<float>(), kv_width},
                                      {dv.data<float>(), kv_width}, dout.data<float>(), out.data<float>(),
                                      lse.data<float>(), qs, ks, vs, packed, options);
  });
}

// One token a sequence over a bf16 cache.
void paged_decode() {
  const int64_t sequences = size(64, 3), context = size(2048, 40), heads = size(16, 2), kv_heads = size(8, 1),
                d = size(128, 16), pages = pages_for(context), width = heads * d;
  const int64_t page_stride = kv_heads * page_head_bytes(DType::bf16, d);
  const Tensor keys = bytes(static_cast<size_t>(sequences * pages * page_stride)), values = like(keys);
  zero_bytes(kDevice, keys.raw(), keys.bytes());
  zero_bytes(kDevice, values.raw(), values.bytes());
  const Tensor q = floats(sequences * width, 1), out = like(q);
  const Tensor table = integers(test::counted(sequences * pages)), start = integers(test::counted(sequences + 1));
  const Tensor length = integers(std::vector<int32_t>(static_cast<size_t>(sequences), static_cast<int32_t>(context)));
  const Tensor scratch = bytes(kernel::paged_attention_scratch_bytes(on(), DType::bf16, sequences, heads, d, context));
  const PagedBatch batch{
      start.data<int32_t>(), length.data<int32_t>(), table.data<int32_t>(), sequences, pages, sequences, context};
  time("paged_decode_bf16", fmt::format("{} x {}, {} heads of {}, {} for keys", sequences, context, heads, d, kv_heads),
       4.0 * static_cast<double>(sequences * context * kv_heads * d),
       4.0 * static_cast<double>(sequences * context * width), [&](int64_t) {
         kernel::paged_attention(on(), out.data<float>(), {q.data<float>(), width},
                                 {keys.raw(), values.raw(), DType::bf16, page_stride}, batch, heads, kv_heads, d,
                                 {.scale = 0.1f}, scratch.raw());
       });
}

// Weights packed for the device from rows of the dtype, which repeat.
Tensor packed_weights(DType dtype, int64_t rows, int64_t columns) {
  const size_t row_bytes = bytes_of(dtype, columns);
  const int64_t period = std::min<int64_t>(rows, 64);
  const std::vector<float> values = test::random_floats(period * columns, 5);
  std::vector<uint8_t> host(static_cast<size_t>(rows) * row_bytes);
  for (int64_t row = 0; row < rows; ++row) {
    uint8_t* to = host.data() + static_cast<size_t>(row) * row_bytes;
    if (row < period)
      quantise_row(to, values.data() + row * columns, dtype, columns);
    else
      std::memcpy(to, host.data() + static_cast<size_t>(row % period) * row_bytes, row_bytes);
  }
  const Tensor source = bytes(host.size());
  copy_rows({kDevice, source.raw(), host.size()}, {Device{}, host.data(), host.size()}, host.size(), 1);
  const Tensor packed = bytes(kernel::packed_bytes(on(), dtype, rows, columns));
  kernel::pack(on(), reinterpret_cast<uint8_t*>(packed.raw()), source.raw(), dtype, rows, columns);
  Stream::synchronise(kDevice);
  return packed;
}

void linears() {
  const int64_t n = size(12288, 48), k = size(4096, 256);
  for (const DType dtype : {DType::bf16, DType::q8_0, DType::q4_0, DType::q4_k}) {
    const double weight = static_cast<double>(bytes_of(dtype, n * k));
    std::vector<Tensor> copies;
    for (double all = 0; copies.empty() || (!toy && all < 400e6); all += weight)
      copies.push_back(packed_weights(dtype, n, k));
    for (const int64_t m : {int64_t{1}, int64_t{8}, size(512, 33)}) {
      const Tensor x = floats(m * k, 1), y = Tensor::empty({m * n}, DType::f32, kDevice);
      std::vector<LinearPart> parts;
      for (const Tensor& copy : copies)
        parts.push_back({{dtype, n, k, static_cast<const uint8_t*>(copy.raw())}, nullptr, y.data<float>()});
      const Tensor scratch = bytes(kernel::packed_linear_scratch_bytes(on(), parts.data(), 1, m, Arithmetic::bf16));
      time(fmt::format("linear_{}", name(dtype)).c_str(), fmt::format("{} x {} x {}", m, n, k),
           weight + 4.0 * static_cast<double>(m * (n + k)), 2.0 * static_cast<double>(m * n * k), [&](int64_t copy) {
             kernel::packed_linear(on(), &parts[static_cast<size_t>(copy % std::ssize(parts))], 1, n,
                                   {x.data<float>(), k}, m, Arithmetic::bf16, scratch.raw());
           });
    }
  }
}

int run(int argc, char** argv) {
  toy = argc > 1 && std::strcmp(argv[1], "--toy") == 0;
  if (Stream::devices() == 0) {
    fmt::print(stderr, "bench_cuda: {}\n", Stream::why_not(kDevice));
    return 1;
  }
  norms();
  products();
  attention_of_training();
  paged_decode();
  linears();
  return 0;
}

}  // namespace
}  // namespace lathe::bench

int main(int argc, char** argv) { return lathe::bench::run(argc, argv); }
