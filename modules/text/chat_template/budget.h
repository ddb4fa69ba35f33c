// What one render may use: steps of work, bytes that live at once, and nesting.
//
// A chat template is a program that comes with a model file, so it is not trusted: an endless loop, a gigabyte of
// output or a list nested in itself a million times must end in an Error. Everything that costs time charges steps,
// everything that holds memory is a `Tracked` object. The surprising decision: the active budget is its thread's (as
// the tape is), so that values can be made anywhere without being handed it; values made while none is active are not
// counted.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "tensor/active.h"

namespace lathe::jinja {

struct Limits {
  std::int64_t steps = 5'000'000;  // evaluated nodes, copied elements, and a share of each byte of text touched
  std::size_t bytes = 32u << 20;   // values alive and output written so far, together
  int evaluation_depth = 1000;     // nodes within nodes, through macros
};

// The nesting that parsing and values may have. Small enough that recursion over them stays within a 1 MiB stack.
inline constexpr int maximum_parse_depth = 400;  // of grammar rules that nest: brackets take four each, blocks two
inline constexpr int maximum_value_depth = 300;
inline constexpr std::size_t maximum_template_bytes = 1u << 20;

struct Budget {
  void check_room(std::size_t bytes) const;  // throws Error when so many more bytes would be too many

  Limits limits;
  std::int64_t steps_used = 0;
  std::size_t bytes_used = 0;
};

// A level of nesting for as long as it lives; beyond `maximum` it calls `fail`, which throws.
class Nested {
 public:
  template <class Fail>
  Nested(int& depth, int maximum, Fail&& fail) : depth_(depth) {
    if (depth_ >= maximum) fail();
    ++depth_;
  }
  ~Nested() { --depth_; }
  Nested(const Nested&) = delete;
  Nested& operator=(const Nested&) = delete;

 private:
  int& depth_;
};

// A variable has another value for as long as this lives.
template <class T>
class Restored {
 public:
  Restored(T& variable, T value) : variable_(variable), outer_(std::exchange(variable, std::move(value))) {}
  ~Restored() { variable_ = std::move(outer_); }
  Restored(const Restored&) = delete;
  Restored& operator=(const Restored&) = delete;
  const T& outer() const { return outer_; }

 private:
  T& variable_;
  T outer_;
};

// On the active budget, throwing Error when it is spent; without one they do nothing.
void charge(std::int64_t steps);
void charge_text(std::size_t bytes);     // work on so many bytes of text
void charge_unicode(std::size_t bytes);  // where each character is looked up in Unicode's tables
void check_room(std::size_t bytes);      // before building something large

// Base of what lives on the heap: counts its bytes for as long as it lives.
class Tracked {
 public:
  explicit Tracked(std::size_t bytes);
  ~Tracked();
  Tracked(const Tracked&) = delete;
  Tracked& operator=(const Tracked&) = delete;

 protected:
  void grow(std::size_t bytes);

 private:
  Budget* budget_;
  std::size_t bytes_ = 0;
};

// Text being written, counted while it grows.
class TextBuilder : private Tracked {
 public:
  TextBuilder() : Tracked(0) {}
  void append(std::string_view text);
  void append(std::size_t count, char character);
  std::string take() { return std::move(text_); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace lathe::jinja
