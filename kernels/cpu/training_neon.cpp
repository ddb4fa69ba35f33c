// The training kernels, compiled for neon.
#include "kernels/cpu/training.h"

#if defined(__aarch64__)
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/gemm_tiles.h"
#include "kernels/cpu/optimizer_kernels.h"
#include "kernels/cpu/row_gradients.h"
#include "kernels/cpu/simd_neon.h"

namespace lathe::cpu {
namespace {
constexpr TrainingKernels kTraining{
    {GemmTiles<Neon, GemmForm::exact>::kKernels, GemmTiles<Neon, GemmForm::rounded>::kKernels},
    SequenceAttention<Neon>::kKernels,
    RowGradients<Neon>::kTable,
    OptimizerKernels<Neon>::kTable};
}
const TrainingKernels* training_neon() { return &kTraining; }
}  // namespace lathe::cpu
#else
namespace lathe::cpu {
const TrainingKernels* training_neon() { return nullptr; }
}  // namespace lathe::cpu
#endif
