// Tensor parallelism: a model whose weights ranks share out by rows: the heads of attention, the columns inside the
// feed-forward nets, what is added to the residual stream, the vocabulary of the output head.
//
// No family says how it is cut. A family is asked for its model with a rank's numbers of heads and widths in the
// configuration; where a parameter has fewer rows than that of the whole model, the rank has these rows. Where it has
// fewer columns (o_proj, down_proj), Megatron-LM (Shoeybi et al. 2019, section 3) multiplies by these columns and adds
// up what ranks give, which rounds otherwise than one sum. Here ranks join the inputs, multiply by rows of the weight
// and join the outputs: a product has the bits that one process gives it, whatever its arithmetic, and blocks of
// quantised rows are never cut. What modules do with parts is in autograd/ranks.cpp.
#pragma once
#include <memory>

#include "llm/family.h"

namespace lathe {

// The model of this rank, all of it where there is one; weights have no values yet. Throws Error where there are fewer
// key-value heads, columns or tokens than ranks, and where a parameter of the family cannot be cut.
std::unique_ptr<CausalLM> make_rank_model(const Family& family, const ModelConfig& config, Communicator& ranks);
// Takes the adapter of the whole model over, with its values: B has the rows of the weight that it changes. Tables are
// looked up whole.
void share_adapter(CausalLM& own, CausalLM& whole);

}  // namespace lathe
