// Attention of training whose products run on tensor cores, for heads of up to kBf16HeadDim: what attention.cu hands on
// where the options say so.
#pragma once
#include "kernels/attention.h"

namespace lathe::kernel {

void launch_attention_bf16(Cuda on, float* out, float* logsumexp, ConstRows<float> q, ConstRows<float> k,
                           ConstRows<float> v, const PackedSequences& sequences, const ScoreOptions& options);
void launch_attention_backward_bf16(Cuda on, Rows<float> dq, Rows<float> dk, Rows<float> dv, const float* dout,
                                    const float* out, const float* logsumexp, ConstRows<float> q, ConstRows<float> k,
                                    ConstRows<float> v, const PackedSequences& sequences, const ScoreOptions& options);

}  // namespace lathe::kernel
