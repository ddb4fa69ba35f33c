// Adapters in files, as PEFT has them: a folder with adapter_config.json and adapter_model.safetensors.
#pragma once
#include <functional>
#include <string>

#include "llm/adapter.h"

namespace lathe {

// Where an adapter comes from: the name of its base model, and the fingerprint of its weights (fingerprint_of), empty
// where it is not known.
struct AdapterBase {
  std::string name, fingerprint;
};

// Attaches the adapter of a folder, with its values in f32. Strictly: each tensor is used, each target matched, and a
// key of its configuration that would change the result is honoured or refused by name. `stored_table` gives the
// model's own value of a weight by name, f32, to be compared with the one that PEFT writes beside changes of tables.
// Throws Error naming the file, and the key or the tensor.
AdapterBase read_adapter(CausalLM& model, const std::string& folder,
                         const std::function<Tensor(const std::string& name)>& stored_table);
// Writes the model's adapter into `folder`, new or empty.
void write_adapter(const CausalLM& model, const AdapterBase& base, const std::string& folder);

}  // namespace lathe
