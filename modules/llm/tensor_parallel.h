// Tensor parallelism: a model whose weights ranks share out by rows: the heads of attention, the columns inside the
// feed-forward nets, what is added to the residual stream, the vocabulary of the output head.
//
// No family says how it is cut. A family is asked for its model with a rank's numbers of heads and widths in the
// configuration; where a parameter has fewer rows than that of the whole model, the rank has these rows. Where it has
// fewer columns (o_proj, down_proj), Megatron-LM (Shoeybi et al. 2019, section 3) multiplies by these columns and adds
// up what ranks give, which rounds otherwise than one sum. Here ranks join the inputs, multiply by rows of the weight
// and join the outputs: a product has the bits that one process gives it, whatever its arithmetic, and blocks of
// quantised rows are never cut. What modules do with parts, and what their backward adds up, is in autograd/ranks.cpp.
#pragma once
#include <memory>

#include "llm/family.h"

namespace lathe {

// The model of this rank, all of it where there is one; weights have no values yet. Throws Error where there are fewer
// key-value heads, columns or tokens than ranks, and where a parameter of the family cannot be cut.
// `trains`: tables that are only looked up are shared out too, which otherwise stay in their file.
std::unique_ptr<CausalLM> make_rank_model(const Family& family, const ModelConfig& config, Communicator& ranks,
                                          bool trains = false);
// Takes the adapter of the whole model over, with its values: B has the rows of the weight that it changes. Tables are
// looked up whole.
void share_adapter(CausalLM& own, CausalLM& whole);

// All ranks together:
// Adds up the gradients of weights that each rank used for its own heads, which are those of norms over heads. The last
// step of backward passes, before the gradients are read; those of all other weights are whole by then.
void sum_head_gradients(CausalLM& own);
// Of the rows of `p` that ranks have (its values, or what an optimizer keeps of them) all, on the host of the first
// rank; on the others nothing that is of use. Of a parameter that all ranks have: `rows` itself.
Tensor gather_rows(const Parameter& p, const Tensor& rows);
// The model of all ranks with its values, on the host of the first one; null on the others.
std::unique_ptr<CausalLM> gather_model(CausalLM& own);

}  // namespace lathe
