// Base64 as RFC 4648, section 4, has it: the standard alphabet, padded, nothing else between.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace lathe {

// The bytes that `text` spells; empty where it is not base64.
std::optional<std::string> decode_base64(std::string_view text);
std::string encode_base64(std::string_view bytes);

}  // namespace lathe
