// What a decoding step reads of the weights, and how fast the machine delivers it.
#pragma once
#include <cstddef>

#include "llm/causal_lm.h"

namespace lathe {

// Bytes that one decoding step of one sequence reads: all packed weights, norms and biases, the head among them, but
// not the tables that are only looked up, and of a mixture's experts only those that a token passes through.
size_t decode_weight_bytes(CausalLM& model);

// Bytes per second at which the thread team reads the packed weights themselves, as many of them as take about
// `seconds`: for this model on this machine at this moment, caches included where the weights fit into them. 0 where
// nothing is packed (training, f64).
double measure_weight_bandwidth(CausalLM& model, double seconds);

}  // namespace lathe
