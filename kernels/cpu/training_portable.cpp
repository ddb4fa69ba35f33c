// The training kernels, compiled for portable.
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/gemm_tiles.h"
#include "kernels/cpu/optimizer_kernels.h"
#include "kernels/cpu/row_gradients.h"
#include "kernels/cpu/simd_portable.h"

namespace lathe::cpu {
namespace {
constexpr TrainingKernels kTraining{
    {GemmTiles<Portable, GemmForm::exact>::kKernels, GemmTiles<Portable, GemmForm::rounded>::kKernels},
    SequenceAttention<Portable>::kKernels,
    RowGradients<Portable>::kTable,
    OptimizerKernels<Portable>::kTable};
}
const TrainingKernels* training_portable() { return &kTraining; }
}  // namespace lathe::cpu
