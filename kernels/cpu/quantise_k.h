// Rounding one block to the formats with five bits, the K formats and those of IQ4; layouts in block_formats.h. `block`
// has info(dtype).block_bytes bytes, `x` info(dtype).block_size finite values.
#pragma once
#include <cstdint>

namespace lathe::cpu {

void quantise_q5_0(uint8_t* block, const float* x);
void quantise_q5_1(uint8_t* block, const float* x);
void quantise_q4_k(uint8_t* block, const float* x);
void quantise_q5_k(uint8_t* block, const float* x);
void quantise_q6_k(uint8_t* block, const float* x);
void quantise_iq4_nl(uint8_t* block, const float* x);
void quantise_iq4_xs(uint8_t* block, const float* x);

}  // namespace lathe::cpu
