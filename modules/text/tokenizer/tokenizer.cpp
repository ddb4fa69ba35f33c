#include "text/tokenizer/tokenizer.h"

#include <algorithm>
#include <array>
#include <limits>
#include <set>

#include "tensor/errors.h"
#include "text/tokenizer/explanation.h"
#include "text/tokenizer/tokenizer_parts.h"
#include "text/unicode/unicode.h"

namespace lathe {
namespace {

// What published chat templates end a turn with. A name counts only where the vocabulary has it as a special token.
constexpr std::array kEndOfTurn = {"<|im_end|>",
                                   "<|eot_id|>",
                                   "<|eom_id|>",
                                   "<|end_of_turn|>",
                                   "<end_of_turn>",
                                   "<|end|>",
                                   "<|endoftext|>",
                                   "<|end_of_text|>",
                                   "<|eot|>",
                                   "<|eom|>",
                                   "<|return|>",
                                   "<|call|>",
                                   "<|END_OF_TURN_TOKEN|>",
                                   "<turn|>",
                                   "<EOT>",
                                   "<end_of_utterance>",
                                   "<\xEF\xBD\x9C"
                                   "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"};

// Where those of the offsets into `text` that lie in its part `segment` are in the normalised segment.
std::vector<size_t> plain_bytes_within(std::string_view segment, std::string_view text, std::span<const size_t> offsets,
                                       const TokenizerParts& parts) {
  std::vector<size_t> result;
  if (parts.normalized.empty()) return result;
  const auto begin = static_cast<size_t>(segment.data() - text.data());
  auto next = std::lower_bound(offsets.begin(), offsets.end(), begin);
  for (; next != offsets.end() && *next < begin + segment.size(); ++next) {
    std::string before(segment.substr(0, *next - begin));
    if (parts.normalizer) parts.normalizer->apply(before);
    result.push_back(before.size());
  }
  return result;
}

}  // namespace

int32_t TokenizerParts::find(std::string_view text) const {
  for (const AddedToken& token : added)
    if (token.content == text) return token.id;
  return vocabulary->find(text);
}

Tokenizer::Tokenizer(TokenizerParts given) {
  auto parts = std::make_unique<TokenizerParts>(std::move(given));
  for (size_t i = 0; i < parts->added.size(); ++i) parts->added_by_id[parts->added[i].id] = i;
  for (const bool special : {true, false}) {  // of two tokens that are looked for alike the special one is found
    for (const AddedToken& token : parts->added) {
      if (token.special != special) continue;
      if (!token.normalized) {
        parts->plain.add(token.content, token);
        continue;
      }
      std::string pattern = token.content;
      if (parts->normalizer) parts->normalizer->apply(pattern);
      parts->normalized.add(pattern, token);
      if (pattern != token.content) parts->shown_as.emplace(token.id, std::move(pattern));
    }
  }
  for (const auto& [name, id] : {std::pair{"bos_token", parts->bos}, {"eos_token", parts->eos}}) {
    if (!id || parts->named.contains(name)) continue;
    const auto added = parts->added_by_id.find(*id);
    parts->named[name] = added == parts->added_by_id.end() ? std::string(parts->vocabulary->text(*id))
                                                           : parts->added[added->second].content;
  }
  if (auto found = parts->chat_templates.find("default"); found != parts->chat_templates.end())
    parts->chat_template = found->second;
  parts_ = std::move(parts);
}

Tokenizer::~Tokenizer() = default;

template <class Visitor>
void Tokenizer::walk(std::string_view text, const EncodeOptions& options, Visitor& visitor) const {
  check(text.size() < static_cast<size_t>(std::numeric_limits<int32_t>::max()), "encode",
        "the text has {} bytes, expected less than 2 GiB", text.size());
  check_utf8(text, "encode");
  using ParseSpecial = EncodeOptions::ParseSpecial;
  const bool reads_special = options.parse_special == ParseSpecial::automatic
                                 ? parts_->reads_special
                                 : options.parse_special == ParseSpecial::yes;
  const TokenizerParts& parts = *parts_;
  auto tokenize = [&](Piece piece) { visitor.piece(piece.text); };
  for (const auto& segment : parts.plain.split(text, !reads_special, options.plain_bytes)) {
    if (segment.id >= 0) {
      visitor.token(segment.text, segment.id);
      continue;
    }
    std::string normalized;
    std::string_view stretch = segment.text;
    if (parts.normalizer) {
      normalized = stretch;
      parts.normalizer->apply(normalized);
      stretch = normalized;
    }
    visitor.stretch(segment.text, stretch);
    bool first = segment.text.data() == text.data();
    const std::vector<size_t> plain = plain_bytes_within(segment.text, text, options.plain_bytes, parts);
    for (const auto& part : parts.normalized.split(stretch, !reads_special, plain)) {
      if (part.id >= 0) {
        visitor.normalized_token(part.text, part.id);
      } else if (parts.pre_tokenizer) {
        parts.pre_tokenizer->split({part.text, first}, tokenize);
      } else {
        tokenize({part.text, first});
      }
      first = false;
    }
  }
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  struct {
    const TokenModel& model;
    std::vector<int32_t> ids;
    void token(std::string_view, int32_t id) { ids.push_back(id); }
    void stretch(std::string_view, std::string_view) {}
    void normalized_token(std::string_view, int32_t id) { ids.push_back(id); }
    void piece(std::string_view piece) { model.tokenize(piece, ids); }
  } visitor{*parts_->model, {}};
  if (options.add_special_tokens) visitor.ids = parts_->before;
  walk(text, options, visitor);
  if (options.add_special_tokens) visitor.ids.insert(visitor.ids.end(), parts_->after.begin(), parts_->after.end());
  return std::move(visitor.ids);
}

Explanation Tokenizer::explain(std::string_view text, EncodeOptions options) const {
  struct {
    const TokenModel& model;
    Explanation result;
    void token(std::string_view found, int32_t id) { result.stretches.push_back({std::string(found), id, "", {}}); }
    void stretch(std::string_view given, std::string_view normalized) {
      result.stretches.push_back({std::string(given), -1, std::string(normalized), {}});
    }
    void normalized_token(std::string_view found, int32_t id) {
      result.stretches.back().pieces.push_back({std::string(found), true, {}, {id}});
    }
    void piece(std::string_view text) {
      Explanation::Piece piece{std::string(text), false, {}, {}};
      piece.steps = model.explain(text, piece.ids);
      result.stretches.back().pieces.push_back(std::move(piece));
    }
  } visitor{*parts_->model, {}};
  walk(text, options, visitor);
  visitor.result.measure = parts_->model->measure();
  if (options.add_special_tokens) {
    visitor.result.before = parts_->before;
    visitor.result.after = parts_->after;
  }
  return std::move(visitor.result);
}

std::vector<int32_t> Explanation::ids() const {
  std::vector<int32_t> ids = before;
  for (const Stretch& stretch : stretches) {
    if (stretch.token >= 0) ids.push_back(stretch.token);
    for (const Piece& piece : stretch.pieces) ids.insert(ids.end(), piece.ids.begin(), piece.ids.end());
  }
  ids.insert(ids.end(), after.begin(), after.end());
  return ids;
}

std::optional<std::string_view> Tokenizer::decoded_spelling(int32_t id) const {
  if (auto found = parts_->shown_as.find(id); found != parts_->shown_as.end()) return found->second;
  if (auto found = parts_->added_by_id.find(id); found != parts_->added_by_id.end())
    return parts_->added[found->second].content;
  if (!parts_->vocabulary->contains(id)) return std::nullopt;
  return parts_->vocabulary->text(id);
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  StreamDecoder decoder(*this);
  std::string text;
  for (int32_t id : ids) text += decoder.push(id);
  return text += decoder.finish();
}

std::string Tokenizer::token_text(int32_t id) const {
  if (auto found = parts_->added_by_id.find(id); found != parts_->added_by_id.end())
    return parts_->added[found->second].content;
  return std::string(parts_->vocabulary->text(id));
}

std::string Tokenizer::token_bytes(int32_t id) const {
  // The decoder would take an added token for one of its own spellings.
  if (auto found = parts_->added_by_id.find(id); found != parts_->added_by_id.end())
    return parts_->added[found->second].content;
  std::string text(parts_->vocabulary->text(id));
  return text.empty() ? text : parts_->decoder->token_bytes(std::move(text));
}

std::optional<int32_t> Tokenizer::token_id(std::string_view text) const {
  const int32_t id = parts_->find(text);
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

bool Tokenizer::is_special(int32_t id) const {
  auto found = parts_->added_by_id.find(id);
  return found != parts_->added_by_id.end() && parts_->added[found->second].special;
}

std::vector<int32_t> Tokenizer::special_tokens() const {
  std::vector<int32_t> ids;
  for (const AddedToken& token : parts_->added)
    if (token.special) ids.push_back(token.id);
  return ids;
}

int64_t Tokenizer::vocab_size() const {
  int64_t size = parts_->vocabulary->size();
  if (!parts_->added_by_id.empty()) size = std::max<int64_t>(size, parts_->added_by_id.rbegin()->first + int64_t{1});
  return size;
}

std::optional<int32_t> Tokenizer::bos() const { return parts_->bos; }
std::optional<int32_t> Tokenizer::eos() const { return parts_->eos; }

std::vector<int32_t> Tokenizer::end_of_turn_tokens() const {
  std::set<int32_t> ids(parts_->end_of_turn.begin(), parts_->end_of_turn.end());
  if (parts_->eos) ids.insert(*parts_->eos);
  for (const char* name : kEndOfTurn)
    if (auto id = token_id(name); id && is_special(*id)) ids.insert(*id);
  return {ids.begin(), ids.end()};
}

const std::map<std::string, std::string>& Tokenizer::named_tokens() const { return parts_->named; }
const std::optional<std::string>& Tokenizer::chat_template() const { return parts_->chat_template; }
const std::map<std::string, std::string>& Tokenizer::chat_templates() const { return parts_->chat_templates; }
const std::string& Tokenizer::kind() const { return parts_->kind; }
const std::vector<std::string>& Tokenizer::warnings() const { return parts_->warnings; }

// The end of the chain: gathers what has come out since the last call.
class StreamDecoder::Output : public DecoderStage {
 public:
  void text(std::string_view part) override { text_ += part; }
  void end_token() override {}
  void finish() override {}
  std::string take() { return std::exchange(text_, {}); }

 private:
  std::string text_;
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer)
    : tokenizer_(&tokenizer), output_(std::make_unique<Output>()), stage_(tokenizer.parts_->decoder->start(*output_)) {}
StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::push(int32_t id) {
  if (const auto token = tokenizer_->decoded_spelling(id)) {
    stage_->text(*token);
    stage_->end_token();
  }
  return output_->take();
}

std::string StreamDecoder::finish() {
  stage_->finish();
  return output_->take();
}

}  // namespace lathe
