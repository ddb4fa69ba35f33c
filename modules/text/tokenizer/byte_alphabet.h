// GPT-2's spelling of bytes as printable characters (openai/gpt-2, src/encoder.py, bytes_to_unicode): printable Latin-1
// stands for itself, the other 68 bytes become U+0100, U+0101, ... in their order. A space is U+0120.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace lathe {

std::string bytes_to_alphabet(std::string_view bytes);
void append_to_alphabet(std::string& text, std::string_view bytes);
// The bytes that `text` spells; empty when one of its characters is not of the alphabet.
std::optional<std::string> alphabet_to_bytes(std::string_view text);

}  // namespace lathe
