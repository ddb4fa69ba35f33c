// What the arithmetic units reach: the ceiling of prefill, as the read bandwidth (tensor/memory_bandwidth.h) is that of
// decoding.
#pragma once

namespace lathe {

// Operations per second of the whole thread team; a product and its sum count as two.
struct PeakRates {
  double floats = 0;    // f32 multiply-adds
  double bf16 = 0;      // the same where bf16 has no units of its own
  double integers = 0;  // sums of products of 8-bit activations with weights of up to 4 bits, without their scales
};

// Under cpu_isa(): the inner loops of the linears' tiles on what lies in registers and the first-level cache, the best
// of several rounds. Takes some 20 ms.
PeakRates measure_peak_rates();

}  // namespace lathe
