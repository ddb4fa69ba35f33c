// Names out of files, made fit for a one-line message.
#pragma once
#include <string>
#include <string_view>

namespace lathe {

// `text` in single quotes; control characters and bytes that are not ASCII become \xNN, and only the first 120 bytes
// are shown: a hostile file must not choose what the terminal does or how long the message is.
std::string quote(std::string_view text);

}  // namespace lathe
