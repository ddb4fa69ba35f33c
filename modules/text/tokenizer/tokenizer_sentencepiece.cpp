// Sentencepiece models (.model), encoded by the library itself.
//
// Decoding is ours, so that it can stream; it gives what the library's Decode gives: control tokens show nothing, the
// unknown token its surface, a broken byte one U+FFFD, and the space that encoding put first is taken away.
#include <sentencepiece_processor.h>

#include "formats/mapped_file.h"
#include "text/tokenizer/sentencepiece_check.h"
#include "text/tokenizer/tokenizer_config.h"
#include "text/unicode/unicode.h"

namespace lathe {
namespace {

class SentencePieceModel : public TokenModel {
 public:
  SentencePieceModel(std::shared_ptr<const sentencepiece::SentencePieceProcessor> processor, bool unigram)
      : processor_(std::move(processor)), unigram_(unigram) {}
  void tokenize(std::string_view piece, std::vector<int32_t>& ids) const override {
    std::vector<int> encoded;
    const auto status = processor_->Encode({piece.data(), piece.size()}, &encoded);
    check(status.ok(), "sentencepiece", "{}", status.ToString());
    ids.insert(ids.end(), encoded.begin(), encoded.end());
  }
  // The library tells what it chose, not in which order it merged.
  std::vector<ModelStep> explain(std::string_view piece, std::vector<int32_t>& ids) const override {
    std::vector<ModelStep> steps;
    const auto chosen = processor_->EncodeAsImmutableProto({piece.data(), piece.size()});
    for (size_t i = 0; i < chosen.pieces_size(); ++i) {
      const auto part = chosen.pieces(static_cast<int>(i));
      const auto id = static_cast<int32_t>(part.id());
      steps.push_back({ModelStep::Kind::token, part.begin(), 0, part.end(), id, processor_->GetScore(part.id())});
      ids.push_back(id);
    }
    return steps;
  }
  std::optional<PublishedModel> publish() const override {
    if (unigram_) return std::nullopt;
    PublishedModel model;
    for (int id = 0; id < processor_->GetPieceSize(); ++id) model.scores.push_back(processor_->GetScore(id));
    model.unknown = processor_->unk_id();
    return model;
  }
  const char* measure() const override { return unigram_ ? "log probability" : "score"; }

 private:
  std::shared_ptr<const sentencepiece::SentencePieceProcessor> processor_;
  bool unigram_;
};

std::shared_ptr<sentencepiece::SentencePieceProcessor> load_processor(std::string_view bytes, const std::string& path) {
  auto processor = std::make_shared<sentencepiece::SentencePieceProcessor>();
  std::string failure;
  try {
    const auto status = processor->LoadFromSerializedProto({bytes.data(), bytes.size()});
    if (!status.ok()) failure = status.ToString();
  } catch (const std::exception& error) {  // its trie has exceptions of its own: for a piece with a zero byte, say
    failure = error.what();
  }
  check(failure.empty(), path.c_str(), "no sentencepiece model: {}", failure);
  return processor;
}

}  // namespace

TokenizerParts load_sentencepiece(const std::string& path, const TokenizerConfig& config) {
  const auto file = MappedFile::open(path);
  const std::string_view bytes{reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()};
  const bool unigram = check_sentencepiece_model(bytes, path);
  auto processor = load_processor(bytes, path);

  TokenizerParts parts;
  parts.kind = "sentencepiece";
  parts.reads_special = false;
  auto vocabulary = std::make_shared<Vocabulary>();
  for (int id = 0; id < processor->GetPieceSize(); ++id) {
    const std::string& piece = processor->IdToPiece(id);
    check(!first_invalid_utf8(piece), path.c_str(), "piece {} is not valid UTF-8", id);
    vocabulary->add(piece, id);
    if (!processor->IsControl(id) && !processor->IsUnknown(id)) continue;
    AddedToken token;
    token.content = piece;
    token.id = id;
    token.special = true;
    parts.added.push_back(std::move(token));
    if (processor->IsControl(id)) parts.shown_as[id] = "";
  }
  parts.vocabulary = std::move(vocabulary);
  if (processor->unk_id() >= 0) {
    const std::string shown = processor->DecodeIds({processor->unk_id()});
    check(!first_invalid_utf8(shown), path.c_str(), "the text of the unknown token is not valid UTF-8");
    parts.shown_as[processor->unk_id()] = shown;
  }
  if (processor->bos_id() >= 0) parts.bos = processor->bos_id();
  if (processor->eos_id() >= 0) parts.eos = processor->eos_id();
  if (parts.bos) parts.before = {*parts.bos};  // tokenizer_config.json may say otherwise

  // Whether the model takes away the first space, or all that come first, is asked of the library: its options are not
  // in its interface.
  const std::string two_spaces = processor->DecodePieces(std::vector<std::string>{kSpaceSymbol, kSpaceSymbol});
  std::vector<std::unique_ptr<Decoder>> stages;
  if (two_spaces.size() < 2) stages.push_back(make_leading_symbol_strip(kSpaceSymbol, two_spaces.empty()));
  stages.push_back(make_literal_replacer(kSpaceSymbol, " "));
  stages.push_back(make_byte_fallback_decoder(BrokenBytes::each_byte));
  parts.decoder = make_decoder_sequence(std::move(stages));
  parts.model = std::make_unique<SentencePieceModel>(processor, unigram);
  std::vector<NamedToken> usual;
  for (const auto& [name, id] : {std::pair{"bos_token", parts.bos.value_or(-1)},
                                 {"eos_token", parts.eos.value_or(-1)},
                                 {"unk_token", processor->unk_id()}})
    if (id >= 0)
      usual.emplace_back(name, AddedToken{.content = std::string(parts.vocabulary->text(id)), .special = true});
  config.add_tokens(parts, TokenizerConfig::ListedIds::ids, std::move(usual));
  return parts;
}

}  // namespace lathe
