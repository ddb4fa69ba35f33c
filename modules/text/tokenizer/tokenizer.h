// Text to ids and ids to text: one class for every form of vocabulary file.
//
// A file is executed as data: the loaders build the same small machines (added tokens, normaliser, pre-tokeniser,
// model, decoder) from tokenizer.json, from GGUF metadata and from sentencepiece models; there is no table of known
// models.
//
//   auto tokenizer = Tokenizer::load("models/SmolLM2-135M");
//   std::vector<int32_t> ids = tokenizer->encode("Hello");
//   std::string text = tokenizer->decode(ids);
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

struct EncodeOptions {
  // Adds what the file says: BOS, EOS, or nothing.
  bool add_special_tokens = true;
  // Whether the text of a special token ("<|im_end|>") is read as that token. automatic: as the reference library of
  // the file's kind does: yes for tokenizer.json (`tokenizers`), vocab.json and vocab.txt (transformers) and Qwen 1's
  // ranks; no for sentencepiece, tekken (mistral-common), other ranks (tiktoken) and GGUF (the ids that llama.cpp
  // publishes for its vocabularies are made so). Added tokens that are not special, and GGUF's and sentencepiece's
  // user-defined ones, are always read.
  enum class ParseSpecial { automatic, yes, no } parse_special = ParseSpecial::automatic;
  // Offsets of bytes, ascending, that are no part of a special token whatever they spell: what a user wrote into a text
  // whose other special tokens are read. Must outlive the call.
  std::span<const size_t> plain_bytes = {};
};

struct Explanation;
struct TokenizerParts;
class DecoderStage;

// Immutable once loaded; every member may be called from many threads.
class Tokenizer {
 public:
  // `path`: a folder, of whose files the first of these counts: tokenizer.json, tekken.json, tokenizer.model
  // (sentencepiece or tiktoken ranks, told apart by their content), qwen.tiktoken, vocab.json with merges.txt,
  // vocab.bpe with encoder.json, vocab.txt, original/tokenizer.model; or one of these files, a GGUF file, or a
  // checkpoint (.safetensors, .bin) with its tokenizer beside it. tokenizer_config.json and what goes with it is read
  // from the same folder where it is. `pattern` is for files that do not say how text is cut, tiktoken's ranks and
  // vocab.json: "gpt2", "llama3", "qwen" (each with the special tokens that go with its ranks), or a regular
  // expression. Throws Error naming the file, the component and its type when something is missing, broken or not
  // supported; nothing is ignored in silence.
  static std::shared_ptr<const Tokenizer> load(const std::string& path, const std::string& pattern = {});

  explicit Tokenizer(TokenizerParts parts);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Throws Error naming the byte offset when `text` is not valid UTF-8, or is longer than 2 GiB.
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;
  // The same, step by step (tokenizer/explanation.h). The steps come from the code that encode runs, past its memory of
  // words.
  Explanation explain(std::string_view text, EncodeOptions options = {}) const;

  // What the reference decoder of the file's kind gives, special tokens kept (sentencepiece itself shows none). Always
  // valid UTF-8. Ids without a token (negative, beyond the vocabulary, in a hole: models have more rows than their
  // tokenizer has tokens) add nothing.
  std::string decode(std::span<const int32_t> ids) const;

  // The raw bytes that the token stands for, and the text as the vocabulary spells it. Empty for ids without a token.
  std::string token_bytes(int32_t id) const;
  std::string token_text(int32_t id) const;
  // The id of a token by the spelling of the vocabulary.
  std::optional<int32_t> token_id(std::string_view text) const;
  // Whether it is a control token: special in tokenizer.json, control or unknown elsewhere.
  bool is_special(int32_t id) const;
  // All of these, in the order of the file.
  std::vector<int32_t> special_tokens() const;
  // The largest id + 1.
  int64_t vocab_size() const;

  std::optional<int32_t> bos() const;
  std::optional<int32_t> eos() const;
  // The texts of the special tokens that have a name: "bos_token", "pad_token", and a model's own such as
  // "image_token".
  const std::map<std::string, std::string>& named_tokens() const;
  // The tokenizer's share of the stop set, ascending: eos, GGUF's eot and eom, and the special tokens that published
  // models end a turn with, such as <|im_end|>.
  std::vector<int32_t> end_of_turn_tokens() const;

  // The default chat template; all named ones ("default", "tool_use", ...).
  const std::optional<std::string>& chat_template() const;
  const std::map<std::string, std::string>& chat_templates() const;

  // What it is made of: tokenizer_parts.h, internal to modules/tokenizer.
  const TokenizerParts& parts() const { return *parts_; }
  // "tokenizer.json, BPE", for people.
  const std::string& kind() const;
  // What a person should know about this file: a GGUF without the name of its pre-tokeniser, for instance.
  const std::vector<std::string>& warnings() const;

 private:
  friend class StreamDecoder;
  // Hands everything that the text is cut into to `visitor`, from left to right.
  template <class Visitor>
  void walk(std::string_view text, const EncodeOptions& options, Visitor& visitor) const;
  std::optional<std::string_view> decoded_spelling(int32_t id) const;
  std::unique_ptr<const TokenizerParts> parts_;
};

// Decodes one token at a time. The concatenation of what `push` and `finish` return is what `decode` returns for all
// ids together, byte for byte, and no part ever ends within a character. The tokenizer must outlive it; one object, one
// thread.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;

  std::string push(int32_t id);
  std::string finish();

 private:
  class Output;
  const Tokenizer* tokenizer_;
  std::unique_ptr<Output> output_;
  std::unique_ptr<DecoderStage> stage_;
};

}  // namespace lathe
