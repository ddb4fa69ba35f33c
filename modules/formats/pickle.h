// Python's pickle, read as data and never run (specification: Lib/pickletools.py of CPython; protocols 2 to 5).
//
// A pickle is a program for a stack machine whose instructions can import any function and call it. Here an import is
// looked up in a short list and refused by name when it is not there, and a call is only written down: the result is a
// graph of values in which "call function g with arguments a" is one more kind of value. What it means is decided by
// whoever reads the graph.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lathe {

// A global that a pickle may name.
struct PickleGlobal {
  std::string_view module, name;
  bool callable = false;  // whether a pickle may write down a call of it
};

// A value; other values are named by their number. Containers may hold themselves, so whoever walks them bounds depth.
struct PickleValue {
  enum class Kind : uint8_t { none, boolean, integer, real, text, bytes, tuple, list, dict, global, call, persistent };
  Kind kind = Kind::none;
  int64_t integer = 0;          // boolean, integer; global: its place in the list of allowed ones
  std::string_view text;        // text and bytes: a part of the input
  std::vector<uint32_t> items;  // tuple, list; dict: key, value, key, value, ...; call: function, arguments,
                                // then keys and values set on its result; persistent: the identifier
};

class Pickle {
 public:
  // Reads one pickle from the start of `bytes`, which must outlive the result. `source` names the file for messages.
  // Throws Error naming the file, the offset and the instruction, and the global where one is not allowed. Memory is
  // proportional to the bytes read, at most 64 MiB of which are accepted.
  Pickle(std::span<const uint8_t> bytes, std::span<const PickleGlobal> allowed, const std::string& source);

  const PickleValue& root() const { return at(root_); }
  const PickleValue& at(uint32_t number) const { return values_[number]; }
  size_t size() const { return size_; }  // bytes that the pickle took

 private:
  friend class PickleMachine;
  std::vector<PickleValue> values_;
  uint32_t root_ = 0;
  size_t size_ = 0;
};

}  // namespace lathe
