// Norms on a CUDA device against the loops in double.
#include "kernels/norm.h"
#include "tests/cuda/cuda_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

constexpr double kEps = 1e-5, kOffset = 1.0;

struct NormShape {
  int64_t rows, n, stride, shift;
};

// Odd, primes, a warp's and a block's limits and one more; strides and bases that four elements do not fit.
const NormShape kNormShapes[] = {{1, 1, 1, 0},       {3, 3, 5, 1},       {5, 64, 64, 0},     {2, 127, 131, 0},
                                 {7, 132, 136, 0},   {4, 128, 128, 1},   {2, 768, 768, 0},   {3, 769, 769, 0},
                                 {2, 1024, 1024, 0}, {1, 1025, 1025, 0}, {3, 1028, 1032, 0}, {1, 8203, 8204, 0}};

// A row's sum is a tree over a thread's elements, then threads: no more than 64 deep for rows of 8,203. Relative to the
// largest |x rstd w| each step errs by half an ulp, and some ten steps follow.
double tolerance(double scale) { return scale * 74 * kEpsilon; }

struct Data {
  NormShape s;
  std::vector<float> x, addend, w, bias, dy;
  std::vector<double> x64, w64, bias64, dy64;
  explicit Data(const NormShape& s)
      : s(s),
        x(random_floats(s.rows * s.stride, 1, 2.0f, 0.5f)),
        addend(random_floats(s.rows * s.n, 2)),
        w(random_floats(s.n, 3, 0.5f, 1.0f)),
        bias(random_floats(s.n, 4)),
        dy(random_floats(s.rows * s.n, 5)),
        x64(widened(x)),
        w64(widened(w)),
        bias64(widened(bias)),
        dy64(widened(dy)) {}
  std::vector<double> statistics() const { return std::vector<double>(static_cast<size_t>(s.rows)); }
  std::vector<double> matrix(double value = 0) const {
    return std::vector<double>(static_cast<size_t>(s.rows * s.n), value);
  }
};

}  // namespace

TEST_CASE("norms on a CUDA device are those in double") {
  const InOrder order(any_order());
  const NormShape s = GENERATE(from_range(std::begin(kNormShapes), std::end(kNormShapes)));
  CAPTURE(s.rows, s.n, s.stride, s.shift);
  Data d(s);
  Input x(d.x, s.shift), w(d.w, s.shift), bias(d.bias, s.shift);
  std::vector<double> y64 = d.matrix(), mean64 = d.statistics(), rstd64 = d.statistics();

  SECTION("rms_norm") {
    Output y(s.rows, s.n, s.n, s.shift), rstd(s.rows);
    kernel::rms_norm<float>(kOnDevice, y.data(), rstd.data(), {x.data(), s.stride}, w.data(), s.rows, s.n, kEps,
                            kOffset);
    kernel::rms_norm<double>(Cpu{}, y64.data(), rstd64.data(), {d.x64.data(), s.stride}, d.w64.data(), s.rows, s.n,
                             kEps, kOffset);
    CHECK(y.error(y64) <= tolerance(largest(y64)));
    CHECK(rstd.error(rstd64) <= tolerance(largest(rstd64)));
    Output again(s.rows, s.n, s.n, s.shift);
    kernel::rms_norm<float>(kOnDevice, again.data(), nullptr, {x.data(), s.stride}, w.data(), s.rows, s.n, kEps,
                            kOffset);
    CHECK(again.error(y64) <= tolerance(largest(y64)));
  }
  SECTION("layer_norm") {
    const bool biased = GENERATE(false, true);
    Output y(s.rows, s.n, s.n, s.shift), mean(s.rows), rstd(s.rows);
    kernel::layer_norm<float>(kOnDevice, y.data(), mean.data(), rstd.data(), {x.data(), s.stride}, w.data(),
                              biased ? bias.data() : nullptr, s.rows, s.n, kEps);
    kernel::layer_norm<double>(Cpu{}, y64.data(), mean64.data(), rstd64.data(), {d.x64.data(), s.stride}, d.w64.data(),
                               biased ? d.bias64.data() : nullptr, s.rows, s.n, kEps);
    // What is taken from x is as large as x: its error is multiplied by rstd.
    const double scale = largest(y64) + largest(d.x64) * largest(rstd64) * (s.n == 1 ? 0 : 1);
    CHECK(y.error(y64) <= tolerance(scale));
    CHECK(mean.error(mean64) <= tolerance(largest(d.x64)));
    CHECK(rstd.error(rstd64) <= tolerance(largest(rstd64)));
    Output again(s.rows, s.n, s.n, s.shift);
    kernel::layer_norm<float>(kOnDevice, again.data(), nullptr, nullptr, {x.data(), s.stride}, w.data(),
                              biased ? bias.data() : nullptr, s.rows, s.n, kEps);
    CHECK(std::equal(y.data(), y.data() + s.rows * s.n, again.data()));
  }
}

TEST_CASE("a norm of a sum on a CUDA device has the bits of the two operations") {
  const NormShape s = GENERATE(from_range(std::begin(kNormShapes), std::end(kNormShapes)));
  CAPTURE(s.rows, s.n, s.shift);
  const Data d({s.rows, s.n, s.n, s.shift});
  Input a(d.x, s.shift), b(d.addend, s.shift), w(d.w, s.shift), bias(d.bias, s.shift);
  Output sum(s.rows, s.n, s.n, s.shift), y(s.rows, s.n, s.n, s.shift), mean(s.rows), rstd(s.rows);
  Output y2(s.rows, s.n, s.n, 0), mean2(s.rows), rstd2(s.rows);
  const auto same = [](const Output& p, const Output& q, int64_t n) {
    for (int64_t i = 0; i < n; ++i)
      if (p[i] != q[i]) return false;
    return p.intact() && q.intact();
  };
  SECTION("rms_norm") {
    kernel::add_rms_norm(kOnDevice, sum.data(), y.data(), rstd.data(), a.data(), b.data(), w.data(), s.rows, s.n, kEps,
                         kOffset);
    kernel::rms_norm<float>(kOnDevice, y2.data(), rstd2.data(), {sum.data(), s.n}, w.data(), s.rows, s.n, kEps,
                            kOffset);
  }
  SECTION("layer_norm") {
    kernel::add_layer_norm(kOnDevice, sum.data(), y.data(), mean.data(), rstd.data(), a.data(), b.data(), w.data(),
                           bias.data(), s.rows, s.n, kEps);
    kernel::layer_norm<float>(kOnDevice, y2.data(), mean2.data(), rstd2.data(), {sum.data(), s.n}, w.data(),
                              bias.data(), s.rows, s.n, kEps);
    CHECK(same(mean, mean2, s.rows));
  }
  for (int64_t i = 0; i < s.rows * s.n; ++i)
    REQUIRE(sum[i] == d.x[static_cast<size_t>(i)] + d.addend[static_cast<size_t>(i)]);
  CHECK(sum.intact());
  CHECK(same(y, y2, s.rows * s.n));
  CHECK(same(rstd, rstd2, s.rows));
}

TEST_CASE("a row's norm on a CUDA device has the same bits in any batch and at any alignment") {
  const int64_t n = GENERATE(36, 772);
  const auto values = random_floats(257 * n, 1), weights = random_floats(n, 2);
  Input x(values), shifted(values, 1), w(weights);
  Output all(257, n, n);
  kernel::rms_norm<float>(kOnDevice, all.data(), nullptr, {x.data(), n}, w.data(), 257, n, kEps, 0.0);
  for (const int64_t rows : {1, 255, 256}) {
    Output some(rows, n, n, 1);
    const int64_t from = 257 - rows;
    kernel::rms_norm<float>(kOnDevice, some.data(), nullptr, {shifted.data() + from * n, n}, w.data(), rows, n, kEps,
                            0.0);
    CHECK(std::equal(some.data(), some.data() + rows * n, all.data() + from * n));
  }
}

TEST_CASE("gradients of norms on a CUDA device are those in double") {
  const simt::Order order = any_order();
  const InOrder in_order(order);
  const NormShape s = GENERATE(from_range(std::begin(kNormShapes), std::end(kNormShapes)), NormShape{1600, 4, 4, 0},
                               NormShape{270, 772, 772, 0});
  const bool layer = GENERATE(false, true), accumulate = GENERATE(false, true);
  CAPTURE(s.rows, s.n, s.stride, s.shift, layer, accumulate);
  if (s.n > 700 && (order != simt::Order::random || accumulate == layer)) return;  // the same, and dear
  Data d(s);
  std::vector<double> y64 = d.matrix(), mean64 = d.statistics(), rstd64 = d.statistics(), dx64 = d.matrix(1.0);
  std::vector<double> dw64(static_cast<size_t>(s.n), 1.0), db64(static_cast<size_t>(s.n), 1.0);
  const Rows<const double> x_rows{d.x64.data(), s.stride};
  if (layer)
    kernel::layer_norm<double>(Cpu{}, y64.data(), mean64.data(), rstd64.data(), x_rows, d.w64.data(), nullptr, s.rows,
                               s.n, kEps);
  else
    kernel::rms_norm<double>(Cpu{}, y64.data(), rstd64.data(), x_rows, d.w64.data(), s.rows, s.n, kEps, kOffset);
  Input x(d.x, s.shift), w(d.w, s.shift), dy(d.dy, s.shift);
  Input mean({mean64.begin(), mean64.end()}), rstd({rstd64.begin(), rstd64.end()});
  // With scratch dw and db come of the pass that makes dx.
  const auto run = [&](float* dx, float* dw, float* db, float* scratch = nullptr) {
    if (layer)
      kernel::layer_norm_backward<float>(kOnDevice, dx, accumulate, dw, db, dy.data(), {x.data(), s.stride}, w.data(),
                                         mean.data(), rstd.data(), s.rows, s.n, scratch);
    else
      kernel::rms_norm_backward<float>(kOnDevice, dx, accumulate, dw, dy.data(), {x.data(), s.stride}, w.data(),
                                       rstd.data(), s.rows, s.n, kOffset, scratch);
  };
  if (layer)
    kernel::layer_norm_backward<double>(Cpu{}, dx64.data(), accumulate, dw64.data(), db64.data(), d.dy64.data(), x_rows,
                                        d.w64.data(), mean64.data(), rstd64.data(), s.rows, s.n);
  else
    kernel::rms_norm_backward<double>(Cpu{}, dx64.data(), accumulate, dw64.data(), d.dy64.data(), x_rows, d.w64.data(),
                                      rstd64.data(), s.rows, s.n, kOffset);
  // z is as large as x rstd before the mean is taken off; its product with dy and w is what the sums are made of.
  const double z = largest(d.x64) * largest(rstd64), g = largest(d.dy64) * (largest(d.w64) + kOffset);
  const double dx_scale = 1 + largest(rstd64) * g * (1 + z * z),
               dw_scale = 1 + static_cast<double>(s.rows) * largest(d.dy64) * z;
  const int64_t elements = kernel::norm_backward_scratch(kOnDevice, s.rows, s.n);
  CHECK(elements == (s.n > 6144 ? 0 : 2 * s.n * std::min(s.rows, s.n > 768 ? int64_t{264} : int64_t{1584})));
  Output dx(s.rows, s.n, s.n, s.shift, accumulate ? 1.0f : NAN);
  run(dx.data(), nullptr, nullptr);
  CHECK(dx.error(dx64) <= tolerance(dx_scale));
  if (elements > 0) {
    Output scratch(elements, s.shift), dx3(s.rows, s.n, s.n, s.shift, accumulate ? 1.0f : NAN);
    Output dw3(s.n, 0, 1.0f), db3(s.n, 0, 1.0f);
    run(dx3.data(), dw3.data(), layer ? db3.data() : nullptr, scratch.data());
    CHECK(std::equal(dx.data(), dx.data() + s.rows * s.n, dx3.data()));
    CHECK(dx3.intact());
    CHECK(scratch.intact());
    CHECK(dw3.error(dw64) <= tolerance(dw_scale));
    if (layer) CHECK(db3.error(db64) <= tolerance(dw_scale));
  }
  Output dx2(s.rows, s.n, s.n, 0, accumulate ? 1.0f : NAN), dw(s.n, 0, 1.0f), db(s.n, 0, 1.0f);
  run(dx2.data(), dw.data(), db.data());
  CHECK(dx2.error(dx64) <= tolerance(dx_scale));
  CHECK(dw.error(dw64) <= tolerance(dw_scale));
  if (!layer) return;
  CHECK(db.error(db64) <= tolerance(dw_scale));
  Output db2(s.n, 1, 1.0f);
  run(nullptr, nullptr, db2.data());
  CHECK(db2.error(db64) <= tolerance(dw_scale));
}
