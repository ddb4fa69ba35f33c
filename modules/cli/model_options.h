// The options that every command with a model shares, and what follows from them.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "llm/load.h"
#include "text/chat_template/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe {

class Command;

struct ModelOptions {
  std::string model, adapter, dtype = "auto", kv_cache_dtype, kv_memory, quantize, device;
  std::map<std::string, std::string> request_adapters;  // LoadOptions'
  int threads = 0;
  int64_t context = 0;
  bool profile = false;
  std::string profile_trace;  // --profile's file; empty: the table alone
  std::string output;         // a file that the command writes, where it does
  bool verbose = false;
  bool deterministic = false;     // all devices compute so in any case
  Communicator* ranks = nullptr;  // that share the model out; null: all that were started together

  void declare(const Command& command);
  // Loads the model, refuses an output that is one of its files before it reads the weights, prints warnings and the
  // start line on standard error: threads, instruction set, dtype, weights, how fast this machine reads them just now,
  // and the tokens per second that this allows. On a rank other than the first, all that the command says is dropped
  // but errors.
  LoadedModel load(bool trainable = false) const;
  // --dtype, --quantize, --device and the adapters.
  LoadOptions load_options() const;
  // Checks --device and takes --threads over.
  void apply_machine_options() const;
  // The cache's dtype: --kv-cache-dtype, or what the model's dtype suggests.
  DType cache_dtype(const LoadedModel& loaded) const;
  // --context checked against the model's limit: rotary models may be taken further with a warning, learned positions
  // not.
  int64_t context_limit(const ModelSizes& config) const;
  // --kv-memory in bytes; 0: the engine's choice.
  size_t kv_memory_bytes() const;
};

// --device, of commands with a model and of train.
void declare_device(const Command& command, std::string& device);
// What it says; empty: the first CUDA device where the build and the machine have one, else the CPU. Throws UsageError,
// and Error where the device is not there, which says why.
Device chosen_device(const std::string& text);

// "1,2,3" as ids; throws UsageError naming the option and the part that is no number.
std::vector<int32_t> parse_tokens(const std::string& text, const char* option = "--tokens");
// Throws Error naming the first id outside the vocabulary.
void check_tokens(const std::vector<int32_t>& tokens, int64_t vocab_size);
// Throws Error with both counts.
void check_context(int64_t tokens, int64_t limit);
// "512MiB", "2GB", "1073741824"; throws UsageError.
size_t parse_size(const std::string& text, const char* option);
// The whole of a file, or of standard input for "-", which is the first rank's. Throws Error naming the file.
std::string read_text(const std::string& path);
// A tokenizer from its file or folder, its warnings printed on standard error; `pattern` as Tokenizer::load takes it.
std::shared_ptr<const Tokenizer> load_tokenizer_file(const std::string& path, const std::string& pattern = {});
// The tokenizer that lies with the checkpoint. Throws Error naming what was looked for.
std::shared_ptr<const Tokenizer> load_tokenizer(const Checkpoint& checkpoint);
// The same by what `--model` names, without opening the weights.
std::shared_ptr<const Tokenizer> load_tokenizer_of(const std::string& model, const std::string& pattern = {});

}  // namespace lathe
