// The way back: a ModelConfig as config.json and as GGUF metadata, by the family's description that reads them.
#pragma once
#include <string>
#include <vector>

#include "config/model_sizes.h"
#include "formats/gguf.h"

namespace lathe {

// The metadata of a file that is being written, by the keys below its architecture's name.
class GgufKeys {
 public:
  GgufKeys(GgufMetadata& metadata, const std::string& architecture)
      : metadata_(metadata), prefix_(architecture + ".") {}
  void set(const std::string& key, GgufValue value);  // in the place of an older value, else at the end
  void erase(const std::string& key);

 private:
  GgufMetadata& metadata_;
  std::string prefix_;
};

// For a checkpoint that brings no config.json (GGUF): what the family's table names, under its names, and nothing else.
// The text is read again, and an Error names every field that came back with another value: nothing is lost in silence.
std::string to_config_json(const ModelConfig& config, const FamilyConfig& family);

// Metadata `general.architecture` and `<architecture>.*`, in the order of the specification. What the format cannot say
// is left out. llama3's factors are a tensor there, `rope_freqs.weight`, which is not made here.
GgufMetadata to_config_gguf(const ModelConfig& config, const FamilyConfig& family);

// Holds what a GGUF file is read as against the config that it was written from. Throws Error naming every field that
// the format of this architecture cannot say; returns remarks on what is lost beyond the trained context alone.
std::vector<std::string> check_config_gguf(const ModelConfig& config, const FamilyConfig& family,
                                           const ModelConfig& read);

}  // namespace lathe
