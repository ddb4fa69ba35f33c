// The training kernels, compiled for avx512.
#include "kernels/cpu/training.h"

#if defined(__AVX512F__)
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/gemm_tiles.h"
#include "kernels/cpu/optimizer_kernels.h"
#include "kernels/cpu/row_gradients.h"
#include "kernels/cpu/simd_avx512.h"

namespace lathe::cpu {
namespace {
constexpr TrainingKernels kTraining{
    {GemmTiles<Avx512, GemmForm::exact>::kKernels, GemmTiles<Avx512, GemmForm::rounded>::kKernels},
    SequenceAttention<Avx512>::kKernels,
    RowGradients<Avx512>::kTable,
    OptimizerKernels<Avx512>::kTable};
}
const TrainingKernels* training_avx512() { return &kTraining; }
}  // namespace lathe::cpu
#else
namespace lathe::cpu {
const TrainingKernels* training_avx512() { return nullptr; }
}  // namespace lathe::cpu
#endif
