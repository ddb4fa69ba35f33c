// Vocabularies small enough to be read, made by the tests themselves: as tokenizer.json and as GGUF files.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace lathe::test {

using Json = nlohmann::json;
inline constexpr EncodeOptions kBare = {.add_special_tokens = false};

// The 256 bytes in GPT-2's alphabet (id = byte), then what the merges make, 256 first.
Json byte_level_json(const std::vector<std::pair<std::string, std::string>>& merges);
// <unk> <s> </s>, 256 byte tokens (id = byte + 3), U+2581 and a to z (from 259), then what the merges make, 286 first;
// normaliser and decoder as in Llama 2.
Json metaspace_json(const std::vector<std::pair<std::string, std::string>>& merges);
Json added_token(int64_t id, const std::string& content, Json flags = Json::object());

std::filesystem::path write_json(const std::filesystem::path& folder, const Json& json,
                                 const char* name = "tokenizer.json");
std::shared_ptr<const Tokenizer> load_json(const Json& json);

using GgufTestValue =
    std::variant<uint32_t, bool, std::string, std::vector<std::string>, std::vector<float>, std::vector<int32_t>>;
// The bytes of a GGUF file of version 3 that has metadata and no tensors.
std::string gguf_bytes(const std::vector<std::pair<std::string, GgufTestValue>>& metadata);

// What loading `path` complains about; empty when it does not.
std::string load_error(const std::filesystem::path& path);

// What a stream of `ids` shows, each part checked to be whole characters.
std::string stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids);

}  // namespace lathe::test
