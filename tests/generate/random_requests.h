// Random requests to the engine, and what must be the same however it serves them.
#pragma once
#include <string>
#include <vector>

#include "generate/generate.h"
#include "tests/generate/tiny_models.h"

namespace lathe::test {

// Greedy and sampled requests of many lengths, multiples of the page among them.
std::vector<Request> random_requests(int64_t count, uint64_t seed);

// Everything that is promised to be the same, of one sequence and of all in order.
std::string fingerprint(const Completion& completion);
std::vector<std::string> fingerprints(const GenerationResult& result);

// One request after another, each in an engine with room for all of it: nothing is shared, chunked or preempted.
std::vector<std::string> one_by_one(const CausalLM& model, const std::vector<Request>& requests, DType cache_dtype);

// Bytes of a cache with so many pages in every layer group.
size_t memory_for(const ModelSizes& config, DType dtype, int64_t pages);

}  // namespace lathe::test
