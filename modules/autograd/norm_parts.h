// The records of a sum and of the norms, which the operations that compute both in one pass share. Internal to
// autograd/.
#pragma once
#include "autograd/ops.h"

namespace lathe {

void record_sum(Tensor& y, const Tensor& a, const Tensor& b);
// y = norm(x); weight, and rstd (rows) or statistics (2, rows: mean, rstd), as the forward had them.
void record_rms_norm(Tensor& y, const Tensor& x, const Parameter& w, const Tensor& weight, const Tensor& rstd,
                     double offset);
void record_layer_norm(Tensor& y, const Tensor& x, const Parameter& w, const Parameter* b, const Tensor& weight,
                       const Tensor& statistics);
// Scratch that the gradients of a norm of x need; nothing where none is.
Tensor norm_backward_scratch(const Tensor& x);

}  // namespace lathe
