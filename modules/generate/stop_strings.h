// Stop strings in a text that arrives piece by piece.
//
// A text ends before the stop string that is complete first (of two that end together, the longer one), wherever the
// borders of the pieces lie; what may be the beginning of a stop string is held back until it is decided.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

class StopStrings {
 public:
  StopStrings() = default;
  // Throws Error for an empty string, and for one that is no valid UTF-8: it could never occur in a text.
  explicit StopStrings(std::vector<std::string> stops);

  // Takes a piece (whole characters); returns what is certain to belong to the text. Nothing once found().
  std::string push(std::string_view piece);
  // No more pieces follow: returns what was held back.
  std::string finish();
  bool found() const { return found_; }
  const std::string& which() const { return which_; }  // was found

 private:
  size_t held_back() const;

  std::vector<std::string> stops_;
  std::string held_, which_;
  bool found_ = false;
};

}  // namespace lathe
