// Which kind of values most of the bytes of some tensors have.
#pragma once
#include <cstddef>
#include <map>

namespace lathe {

// `count` gives a tensor's kind and its bytes. Of kinds with as many bytes the first; `otherwise` where there are none.
template <class Tensors, class Kind, class Count>
Kind most_common(const Tensors& tensors, Kind otherwise, const Count& count) {
  std::map<Kind, size_t> bytes_of;
  for (const auto& tensor : tensors) {
    const auto [kind, bytes] = count(tensor);
    bytes_of[kind] += bytes;
  }
  size_t most = 0;
  for (const auto& [kind, bytes] : bytes_of)
    if (bytes > most) otherwise = kind, most = bytes;
  return otherwise;
}

}  // namespace lathe
