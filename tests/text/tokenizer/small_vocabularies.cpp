#include "tests/text/tokenizer/small_vocabularies.h"

#include <fmt/format.h>

#include <cstring>

#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/unicode/unicode.h"

namespace lathe::test {
namespace {

Json bpe_json(Json vocabulary, const std::vector<std::pair<std::string, std::string>>& merges) {
  Json rules = Json::array();
  for (const auto& [left, right] : merges) {
    rules.push_back({left, right});
    if (!vocabulary.contains(left + right)) vocabulary[left + right] = vocabulary.size();
  }
  return {{"version", "1.0"},
          {"added_tokens", Json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", nullptr},
          {"post_processor", nullptr},
          {"decoder", nullptr},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", rules}}}};
}

template <class T>
void put(std::string& out, T value) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  out.append(bytes, sizeof value);
}
void put_string(std::string& out, const std::string& text) {
  put<uint64_t>(out, text.size());
  out += text;
}

struct ValueWriter {
  std::string& out;
  void operator()(uint32_t v) { put<uint32_t>(out, 4), put(out, v); }
  void operator()(bool v) { put<uint32_t>(out, 7), put<uint8_t>(out, v); }
  void operator()(const std::string& v) { put<uint32_t>(out, 8), put_string(out, v); }
  void operator()(const std::vector<std::string>& v) {
    array(8, v.size());
    for (const auto& text : v) put_string(out, text);
  }
  void operator()(const std::vector<float>& v) {
    array(6, v.size());
    for (float x : v) put(out, x);
  }
  void operator()(const std::vector<int32_t>& v) {
    array(5, v.size());
    for (int32_t x : v) put(out, x);
  }
  void array(uint32_t type, uint64_t count) { put<uint32_t>(out, 9), put(out, type), put(out, count); }
};

}  // namespace

Json byte_level_json(const std::vector<std::pair<std::string, std::string>>& merges) {
  Json vocabulary = Json::object();
  for (int byte = 0; byte < 256; ++byte) vocabulary[bytes_to_alphabet(std::string(1, static_cast<char>(byte)))] = byte;
  Json json = bpe_json(std::move(vocabulary), merges);
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  json["decoder"] = {{"type", "ByteLevel"}};
  return json;
}

Json metaspace_json(const std::vector<std::pair<std::string, std::string>>& merges) {
  Json vocabulary = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) vocabulary[fmt::format("<0x{:02X}>", byte)] = byte + 3;
  vocabulary["▁"] = 259;
  for (char c = 'a'; c <= 'z'; ++c) vocabulary[std::string(1, c)] = 260 + c - 'a';
  Json json = bpe_json(std::move(vocabulary), merges);
  json["model"].update({{"unk_token", "<unk>"}, {"fuse_unk", true}, {"byte_fallback", true}});
  json["normalizer"] = Json::parse(R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})");
  json["decoder"] = Json::parse(R"({"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})");
  json["added_tokens"] = {added_token(0, "<unk>", {{"special", true}}), added_token(1, "<s>", {{"special", true}}),
                          added_token(2, "</s>", {{"special", true}})};
  return json;
}

Json added_token(int64_t id, const std::string& content, Json flags) {
  Json token = {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", false}};
  token.update(flags);
  return token;
}

std::filesystem::path write_json(const std::filesystem::path& folder, const Json& json, const char* name) {
  write_file(folder / name, json.dump());
  return folder / name;
}

std::shared_ptr<const Tokenizer> load_json(const Json& json) {
  TemporaryDirectory folder;
  return Tokenizer::load(write_json(folder.path(), json).string());
}

std::string gguf_bytes(const std::vector<std::pair<std::string, GgufTestValue>>& metadata) {
  std::string out = "GGUF";
  put<uint32_t>(out, 3);
  put<uint64_t>(out, 0);
  put<uint64_t>(out, metadata.size());
  for (const auto& [key, value] : metadata) {
    put_string(out, key);
    std::visit(ValueWriter{out}, value);
  }
  return out;
}

std::string load_error(const std::filesystem::path& path) {
  try {
    Tokenizer::load(path.string());
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

std::string stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  StreamDecoder decoder(tokenizer);
  std::string text;
  bool whole = true;
  for (int32_t id : ids) {
    const std::string part = decoder.push(id);
    whole = whole && !first_invalid_utf8(part);
    text += part;
  }
  CHECK(whole);
  return text + decoder.finish();
}

}  // namespace lathe::test
