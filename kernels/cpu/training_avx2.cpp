// The training kernels, compiled for avx2.
#include "kernels/cpu/training.h"

#if defined(__AVX2__)
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/gemm_tiles.h"
#include "kernels/cpu/optimizer_kernels.h"
#include "kernels/cpu/row_gradients.h"
#include "kernels/cpu/simd_avx2.h"

namespace lathe::cpu {
namespace {
constexpr TrainingKernels kTraining{
    {GemmTiles<Avx2, GemmForm::exact>::kKernels, GemmTiles<Avx2, GemmForm::rounded>::kKernels},
    SequenceAttention<Avx2>::kKernels,
    RowGradients<Avx2>::kTable,
    OptimizerKernels<Avx2>::kTable};
}
const TrainingKernels* training_avx2() { return &kTraining; }
}  // namespace lathe::cpu
#else
namespace lathe::cpu {
const TrainingKernels* training_avx2() { return nullptr; }
}  // namespace lathe::cpu
#endif
