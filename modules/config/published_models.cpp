// See published_models.h. Facts of the publishers' pages; only repositories whose class is registered are named.
#include "config/published_models.h"

#include <fmt/format.h>

#include <algorithm>

#include "config/nearest_name.h"
#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::string fill_size(std::string pattern, const std::string& size) {
  constexpr std::string_view kPlace = "{size}";
  if (const size_t at = pattern.find(kPlace); at != std::string::npos) pattern.replace(at, kPlace.size(), size);
  return pattern;
}

}  // namespace

const std::vector<PublishedModels>& published_models() {
  static const std::vector<PublishedModels> models = {
      {"gpt2", "gpt2", {"124M"}, {{"base", "openai-community/gpt2"}}},
      {"gpt2", "gpt2", {"355M"}, {{"base", "openai-community/gpt2-medium"}}},
      {"gpt2", "gpt2", {"774M"}, {{"base", "openai-community/gpt2-large"}}},
      {"gpt2", "gpt2", {"1558M"}, {{"base", "openai-community/gpt2-xl"}}},

      {"llama2",
       "llama",
       {"7b", "13b", "70b"},
       {{"chat", "meta-llama/Llama-2-{size}-chat-hf"}, {"base", "meta-llama/Llama-2-{size}-hf"}}},
      {"llama3",
       "llama",
       {"8B", "70B"},
       {{"instruct", "meta-llama/Meta-Llama-3-{size}-Instruct"}, {"base", "meta-llama/Meta-Llama-3-{size}"}}},
      {"llama3.1",
       "llama",
       {"8B", "70B", "405B"},
       {{"instruct", "meta-llama/Llama-3.1-{size}-Instruct"}, {"base", "meta-llama/Llama-3.1-{size}"}}},
      {"llama3.2",
       "llama",
       {"1B", "3B"},
       {{"instruct", "meta-llama/Llama-3.2-{size}-Instruct"}, {"base", "meta-llama/Llama-3.2-{size}"}}},
      {"llama3.3", "llama", {"70B"}, {{"instruct", "meta-llama/Llama-3.3-{size}-Instruct"}}},
      {"codellama",
       "llama",
       {"7b", "13b", "34b", "70b"},
       {{"instruct", "codellama/CodeLlama-{size}-Instruct-hf"}, {"base", "codellama/CodeLlama-{size}-hf"}}},
      {"smollm2",
       "llama",
       {"135M", "360M", "1.7B"},
       {{"instruct", "HuggingFaceTB/SmolLM2-{size}-Instruct"}, {"base", "HuggingFaceTB/SmolLM2-{size}"}}},
      {"tinyllama", "llama", {"1.1B"}, {{"chat", "TinyLlama/TinyLlama-{size}-Chat-v1.0"}}},
      {"deepseek-r1", "llama", {"8B", "70B"}, {{"reasoning", "deepseek-ai/DeepSeek-R1-Distill-Llama-{size}"}}},

      {"mistral",
       "mistral",
       {"7B"},
       {{"instruct", "mistralai/Mistral-{size}-Instruct-v0.3"}, {"base", "mistralai/Mistral-{size}-v0.3"}}},
      {"mistral-nemo",
       "mistral",
       {"12B"},
       {{"instruct", "mistralai/Mistral-Nemo-Instruct-2407"}, {"base", "mistralai/Mistral-Nemo-Base-2407"}}},
      {"mistral-small", "mistral", {"22B"}, {{"instruct", "mistralai/Mistral-Small-Instruct-2409"}}},
      {"mistral-small",
       "mistral",
       {"24B"},
       {{"instruct", "mistralai/Mistral-Small-{size}-Instruct-2501"},
        {"base", "mistralai/Mistral-Small-{size}-Base-2501"}}},
      {"mistral-large", "mistral", {"123B"}, {{"instruct", "mistralai/Mistral-Large-Instruct-2411"}}},
      {"ministral", "mistral", {"8B"}, {{"instruct", "mistralai/Ministral-{size}-Instruct-2410"}}},
      {"mixtral",
       "mixtral",
       {"8x7B", "8x22B"},
       {{"instruct", "mistralai/Mixtral-{size}-Instruct-v0.1"}, {"base", "mistralai/Mixtral-{size}-v0.1"}}},

      {"qwen", "qwen", {"1.8B"}, {{"chat", "Qwen/Qwen-1_8B-Chat"}, {"base", "Qwen/Qwen-1_8B"}}},
      {"qwen", "qwen", {"7B", "14B", "72B"}, {{"chat", "Qwen/Qwen-{size}-Chat"}, {"base", "Qwen/Qwen-{size}"}}},
      {"qwen1.5",
       "qwen2",
       {"0.5B", "1.8B", "4B", "7B", "14B", "32B", "72B", "110B"},
       {{"chat", "Qwen/Qwen1.5-{size}-Chat"}, {"base", "Qwen/Qwen1.5-{size}"}}},
      {"qwen2",
       "qwen2",
       {"0.5B", "1.5B", "7B", "72B"},
       {{"instruct", "Qwen/Qwen2-{size}-Instruct"}, {"base", "Qwen/Qwen2-{size}"}}},
      {"qwen2.5",
       "qwen2",
       {"0.5B", "1.5B", "3B", "7B", "14B", "32B", "72B"},
       {{"instruct", "Qwen/Qwen2.5-{size}-Instruct"}, {"base", "Qwen/Qwen2.5-{size}"}}},
      {"qwen2.5-coder",
       "qwen2",
       {"0.5B", "1.5B", "3B", "7B", "14B", "32B"},
       {{"instruct", "Qwen/Qwen2.5-Coder-{size}-Instruct"}, {"base", "Qwen/Qwen2.5-Coder-{size}"}}},
      {"qwq", "qwen2", {"32B"}, {{"reasoning", "Qwen/QwQ-{size}"}}},
      {"deepseek-r1",
       "qwen2",
       {"1.5B", "7B", "14B", "32B"},
       {{"reasoning", "deepseek-ai/DeepSeek-R1-Distill-Qwen-{size}"}}},
      {"qwen3",
       "qwen3",
       {"0.6B", "1.7B", "4B", "8B", "14B"},
       {{"chat", "Qwen/Qwen3-{size}"}, {"base", "Qwen/Qwen3-{size}-Base"}}},
      {"qwen3",
       "qwen3",
       {"4B"},
       {{"instruct", "Qwen/Qwen3-{size}-Instruct-2507"}, {"reasoning", "Qwen/Qwen3-{size}-Thinking-2507"}}},
      {"qwen3", "qwen3", {"32B"}, {{"chat", "Qwen/Qwen3-{size}"}}},
      {"qwen3-embedding", "qwen3", {"0.6B", "4B", "8B"}, {{"embedding", "Qwen/Qwen3-Embedding-{size}"}}},
      {"qwen3",
       "qwen3_moe",
       {"30B-A3B"},
       {{"chat", "Qwen/Qwen3-{size}"},
        {"base", "Qwen/Qwen3-{size}-Base"},
        {"instruct", "Qwen/Qwen3-{size}-Instruct-2507"},
        {"reasoning", "Qwen/Qwen3-{size}-Thinking-2507"}}},
      {"qwen3",
       "qwen3_moe",
       {"235B-A22B"},
       {{"chat", "Qwen/Qwen3-{size}"},
        {"instruct", "Qwen/Qwen3-{size}-Instruct-2507"},
        {"reasoning", "Qwen/Qwen3-{size}-Thinking-2507"}}},
      {"qwen3-coder", "qwen3_moe", {"30B-A3B", "480B-A35B"}, {{"instruct", "Qwen/Qwen3-Coder-{size}-Instruct"}}},

      {"gpt-neox", "gpt_neox", {"20b"}, {{"base", "EleutherAI/gpt-neox-{size}"}}},
      {"pythia",
       "gpt_neox",
       {"14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b"},
       {{"base", "EleutherAI/pythia-{size}"}}},
      {"redpajama-incite",
       "gpt_neox",
       {"3B"},
       {{"instruct", "togethercomputer/RedPajama-INCITE-Instruct-{size}-v1"},
        {"chat", "togethercomputer/RedPajama-INCITE-Chat-{size}-v1"},
        {"base", "togethercomputer/RedPajama-INCITE-Base-{size}-v1"}}},

      {"falcon",
       "falcon",
       {"7b", "40b"},
       {{"instruct", "tiiuae/falcon-{size}-instruct"}, {"base", "tiiuae/falcon-{size}"}}},
      {"falcon", "falcon", {"180B"}, {{"chat", "tiiuae/falcon-{size}-chat"}, {"base", "tiiuae/falcon-{size}"}}},
      {"falcon-rw", "falcon", {"1b", "7b"}, {{"base", "tiiuae/falcon-rw-{size}"}}},
      {"falcon2", "falcon", {"11B"}, {{"base", "tiiuae/falcon-{size}"}}},

      {"mpt",
       "mpt",
       {"7b", "30b"},
       {{"chat", "mosaicml/mpt-{size}-chat"},
        {"instruct", "mosaicml/mpt-{size}-instruct"},
        {"base", "mosaicml/mpt-{size}"}}},
      {"mpt", "mpt", {"7b"}, {{"storywriter", "mosaicml/mpt-{size}-storywriter"}}},
      {"mpt",
       "mpt",
       {"7b-8k"},
       {{"chat", "mosaicml/mpt-{size}-chat"},
        {"instruct", "mosaicml/mpt-{size}-instruct"},
        {"base", "mosaicml/mpt-{size}"}}},

      {"gemma3",
       "gemma3_text",
       {"270m"},
       {{"instruct", "google/gemma-3-{size}-it"}, {"base", "google/gemma-3-{size}"}}},
      {"gemma3",
       "gemma3_text",
       {"1b"},
       {{"instruct", "google/gemma-3-{size}-it"}, {"base", "google/gemma-3-{size}-pt"}}},

      {"olmo2",
       "olmo2",
       {"1B"},
       {{"instruct", "allenai/OLMo-2-0425-{size}-Instruct"}, {"base", "allenai/OLMo-2-0425-{size}"}}},
      {"olmo2",
       "olmo2",
       {"7B", "13B"},
       {{"instruct", "allenai/OLMo-2-1124-{size}-Instruct"}, {"base", "allenai/OLMo-2-1124-{size}"}}},
      {"olmo2",
       "olmo2",
       {"32B"},
       {{"instruct", "allenai/OLMo-2-0325-{size}-Instruct"}, {"base", "allenai/OLMo-2-0325-{size}"}}},

      {"phi3",
       "phi3",
       {"mini-4k", "mini-128k", "medium-4k", "medium-128k"},
       {{"instruct", "microsoft/Phi-3-{size}-instruct"}}},
      {"phi3.5", "phi3", {"mini"}, {{"instruct", "microsoft/Phi-3.5-{size}-instruct"}}},
      {"phi4", "phi3", {"14b"}, {{"chat", "microsoft/phi-4"}, {"reasoning", "microsoft/Phi-4-reasoning"}}},
      {"phi4",
       "phi3",
       {"mini"},
       {{"instruct", "microsoft/Phi-4-{size}-instruct"}, {"reasoning", "microsoft/Phi-4-{size}-reasoning"}}},
  };
  return models;
}

std::vector<PublishedName> names_of(const PublishedModels& models) {
  std::vector<PublishedName> names;
  for (const std::string& size : models.sizes)
    for (const PublishedVariant& v : models.variants)
      names.push_back({models.name + ":" + lower(size) + "-" + v.name, fill_size(v.repository, size)});
  return names;
}

std::optional<std::string> find_repository(std::string_view family, std::string_view size_and_variant) {
  const std::string wanted = lower(family) + ":" + lower(size_and_variant);
  std::vector<std::string> known;
  for (const PublishedModels& models : published_models()) {
    if (models.name != lower(family)) continue;
    for (const std::string& size : models.sizes)
      if (wanted == models.name + ":" + lower(size)) return fill_size(models.variants[0].repository, size);
    for (const PublishedName& named : names_of(models)) {
      if (named.name == wanted) return named.repository;
      known.push_back(named.name);
    }
  }
  if (known.empty()) return std::nullopt;
  const auto nearest = nearest_name(wanted, known);
  throw Error(fmt::format("load: {} is no published model, expected one of {}", quote(wanted), fmt::join(known, ", ")),
              nearest ? fmt::format("did you mean {}?", *nearest) : "");
}

}  // namespace lathe
