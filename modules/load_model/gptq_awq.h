// Checkpoints of GPTQ (Frantar et al. 2022) and AWQ (Lin et al. 2023) with 4 bits: their packed matrices as block
// formats that the kernels have.
//
// Both hold w[n, k] = scale[g, n] (q[n, k] - zero[g, n]) with g the group of column k, 4 bits a q, f16 scales. A block
// of q4_1 is 32 columns of w = d q + m: d is the scale, exactly, and m = -scale zero rounded to f16, off by at most
// 2^-11 of itself. Where all zeros are 8 (GPTQ's symmetric form) the matrix becomes q4_0, which is exact.
#pragma once
#include "load_model/checkpoint.h"

namespace lathe {

// Replaces `X.qweight`, `X.qzeros`, `X.scales` and `X.g_idx` by `X.weight`, as `quantization_config` says; nothing
// happens to a checkpoint without one. The new tensors have memory of their own, which is filled by
// `Checkpoint::unpack`: until then no weight has been read. Throws Error naming the tensor for groups that are no
// multiple of 32 columns, for columns in another order than their groups (`desc_act`), and for shapes that do not fit
// together.
void unpack_gptq_awq(Checkpoint& checkpoint);

}  // namespace lathe
