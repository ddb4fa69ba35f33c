// Which kind of values most of a file's bytes have.
#pragma once
#include <cstddef>
#include <map>

namespace lathe {

template <class Kind>
class ByteCount {
 public:
  void add(const Kind& kind, size_t bytes) { bytes_[kind] += bytes; }
  // The kind of most bytes, the first of several; `otherwise` where there are none.
  Kind most(Kind otherwise) const {
    size_t most = 0;
    for (const auto& [kind, bytes] : bytes_)
      if (bytes > most) otherwise = kind, most = bytes;
    return otherwise;
  }

 private:
  std::map<Kind, size_t> bytes_;
};

}  // namespace lathe
