// What turns tokens back into text: the `decoder` of tokenizer.json, as a chain of small machines that take their input
// bit by bit.
//
// Decoding a list and decoding a stream run the same machines, so the concatenation of a stream is the whole by
// construction. A machine holds back only what a later token can still change: an incomplete character, a run of byte
// tokens, blanks that a later end would strip.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json_node.h"

namespace lathe {

// Receives tokens: any number of calls of `text` and then `end_token` for each, `finish` once at the end. All text is
// valid UTF-8 in whole characters.
class DecoderStage {
 public:
  virtual ~DecoderStage() = default;
  virtual void text(std::string_view part) = 0;
  virtual void end_token() = 0;
  virtual void finish() = 0;
};

class Decoder {
 public:
  virtual ~Decoder() = default;
  // A machine in its first state that hands its output to `next`, which must outlive it.
  virtual std::unique_ptr<DecoderStage> start(DecoderStage& next) const = 0;
  // The bytes that one token stands for when nothing around it matters: no repair, no stripping.
  virtual std::string token_bytes(std::string token) const { return token; }
};

// How bytes from byte tokens <0x00> to <0xFF> that are no valid UTF-8 are shown.
enum class BrokenBytes {
  whole_run,        // one U+FFFD a byte, for all bytes of a run in which anything is broken (`tokenizers`)
  each_byte,        // one U+FFFD a broken byte (sentencepiece)
  maximal_subpart,  // as Python's errors="replace" (llama.cpp's bytes, made printable)
};

std::unique_ptr<Decoder> make_decoder_sequence(std::vector<std::unique_ptr<Decoder>> stages);
std::unique_ptr<Decoder> make_byte_level_decoder();
std::unique_ptr<Decoder> make_byte_fallback_decoder(BrokenBytes broken);
std::unique_ptr<Decoder> make_literal_replacer(std::string from, std::string to);
std::unique_ptr<Decoder> make_fuse();
// Strips up to `start` times `character` from the start of each token, up to `stop` times from its end.
std::unique_ptr<Decoder> make_strip(std::string character, int64_t start, int64_t stop);
// Strips `symbol` once from the first token that shows anything (byte tokens do); with `all`, from each token until one
// shows anything. Sentencepiece's rule for the space that encoding puts first.
std::unique_ptr<Decoder> make_leading_symbol_strip(std::string symbol, bool all);
// What `tokenizers` does without a decoder: a space between tokens.
std::unique_ptr<Decoder> make_space_joiner();

// The decoder that `node` describes, the space joiner for JSON's null. Throws Error for a type that is not supported.
std::unique_ptr<Decoder> make_decoder(const JsonNode& node);

}  // namespace lathe
