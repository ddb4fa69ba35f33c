#include "text/grammar/grammar.h"

#include <algorithm>
#include <map>

#include "tensor/errors.h"

namespace lathe {
namespace {

using Kind = Grammar::Kind;

// All that an expression is, as a key.
std::string key_of(const Grammar::Expression& e) {
  std::string key = fmt::format("{} {}", static_cast<int>(e.kind), e.text);
  if (e.kind == Kind::bytes) key += e.bytes.to_string();
  for (const GrammarPart& p : e.parts) key += fmt::format(" {},{},{}", p.expression, p.next, p.most);
  return key;
}

}  // namespace

GrammarPart GrammarBuilder::add(Grammar::Expression expression) {
  const auto [found, added] = places_.try_emplace(key_of(expression), static_cast<uint32_t>(expressions_.size()));
  if (added) {
    check(expressions_.size() < kMostExpressions, "grammar", "it has more than {} parts", kMostExpressions);
    const auto empty = [this](GrammarPart p) { return may_be_empty(p); };
    const auto& parts = expression.parts;
    if (expression.kind == Kind::text) expression.may_be_empty = expression.text.empty();
    if (expression.kind == Kind::sequence) expression.may_be_empty = std::all_of(parts.begin(), parts.end(), empty);
    if (expression.kind == Kind::choice) expression.may_be_empty = std::any_of(parts.begin(), parts.end(), empty);
    expressions_.push_back(std::move(expression));
  }
  return {found->second, 0, 0};
}

GrammarPart GrammarBuilder::text(std::string_view bytes) {
  return add({.kind = Kind::text, .text = std::string(bytes)});
}

GrammarPart GrammarBuilder::token(std::string_view name) {
  return any_of({text(name), text(Grammar::kSpecial + std::string(name))});
}

GrammarPart GrammarBuilder::one_of(std::vector<std::string> texts) {
  std::sort(texts.begin(), texts.end());
  std::vector<GrammarPart> parts;
  for (size_t begin = 0, end = 0; begin < texts.size(); begin = end) {
    const std::string& first = texts[begin];
    end = begin + 1;
    if (!first.empty())
      while (end < texts.size() && texts[end][0] == first[0]) ++end;
    const std::string& last = texts[end - 1];
    const auto shared =
        static_cast<size_t>(std::mismatch(first.begin(), first.end(), last.begin(), last.end()).first - first.begin());
    GrammarPart part = text(first.substr(0, shared));
    std::vector<std::string> rests;
    for (size_t i = begin; i < end; ++i) rests.push_back(texts[i].substr(shared));
    rests.erase(std::unique(rests.begin(), rests.end()), rests.end());
    if (rests.size() > 1) part = sequence({part, one_of(std::move(rests))});
    parts.push_back(part);
  }
  return any_of(std::move(parts));
}

GrammarPart GrammarBuilder::bytes(const ByteSet& set) { return add({.kind = Kind::bytes, .bytes = set}); }

GrammarPart GrammarBuilder::bytes(uint8_t lowest, uint8_t highest) {
  ByteSet set;
  for (size_t b = lowest; b <= highest; ++b) set.set(b);
  return bytes(set);
}

GrammarPart GrammarBuilder::sequence(std::vector<GrammarPart> parts) {
  return add({.kind = Kind::sequence, .parts = std::move(parts)});
}

GrammarPart GrammarBuilder::any_of(std::vector<GrammarPart> parts) {
  return parts.size() == 1 ? parts[0] : add({.kind = Kind::choice, .parts = std::move(parts)});
}

GrammarPart GrammarBuilder::repeat(GrammarPart part, uint32_t least, uint32_t most) {
  check(!may_be_empty(part), "grammar", "a repetition of what may be empty");
  check(least <= most, "grammar", "a repetition of at least {} and at most {}", least, most);
  GrammarPart repeated = add({.kind = Kind::repeat, .parts = {part}});
  repeated.next = least;
  repeated.most = most;
  return repeated;
}

// The automaton of Knuth, Morris and Pratt 1977: a rule for each number of the marker's bytes that were just read.
GrammarPart GrammarBuilder::up_to(std::string_view marker) {
  check(!marker.empty() && marker.size() <= 256, "grammar", "a marker has 1 to 256 bytes, found {}", marker.size());
  std::vector<GrammarPart> read;
  for (size_t i = 0; i < marker.size(); ++i) read.push_back(rule());
  for (size_t i = 0; i < marker.size(); ++i) {
    std::map<size_t, ByteSet> bytes_to;  // by the number of bytes that are read then
    for (size_t b = 0; b < 256; ++b) {
      const std::string text = std::string(marker.substr(0, i)) + static_cast<char>(b);
      size_t length = text.size();
      while (!marker.starts_with(std::string_view(text).substr(text.size() - length))) --length;
      bytes_to[length].set(b);
    }
    std::vector<GrammarPart> parts;
    for (const auto& [length, set] : bytes_to)
      parts.push_back(length == marker.size() ? bytes(set) : sequence({bytes(set), read[length]}));
    define(read[i], any_of(std::move(parts)));
  }
  return read[0];
}

GrammarPart GrammarBuilder::rule() {
  check(expressions_.size() < kMostExpressions, "grammar", "it has more than {} parts", kMostExpressions);
  expressions_.push_back({.kind = Kind::rule});
  return {static_cast<uint32_t>(expressions_.size() - 1), 0, 0};
}

bool GrammarBuilder::may_be_empty(GrammarPart part) const {
  const Grammar::Expression& e = expressions_[part.expression];
  return e.kind == Kind::repeat ? part.next == 0 : e.may_be_empty;
}

// By what is known of its parts so far.
bool GrammarBuilder::possible(GrammarPart part) const {
  const Grammar::Expression& e = expressions_[part.expression];
  const auto known = [this](GrammarPart p) { return Grammar::possible(expressions_[p.expression], p); };
  switch (e.kind) {
    case Kind::bytes: return e.bytes.any();
    case Kind::text: return true;
    case Kind::choice: return std::any_of(e.parts.begin(), e.parts.end(), known);
    case Kind::rule: return !e.parts.empty() && known(e.parts[0]);
    case Kind::sequence:
    case Kind::repeat: return std::all_of(e.parts.begin(), e.parts.end(), known);
  }
  return false;
}

std::shared_ptr<const Grammar> GrammarBuilder::finish(GrammarPart root) {
  auto grammar = std::make_shared<Grammar>();
  root = sequence({root});
  for (Grammar::Expression& e : expressions_) e.possible = false;
  for (bool changed = true; changed;) {  // from below: what contains itself becomes possible by another way
    changed = false;
    for (uint32_t i = 0; i < expressions_.size(); ++i) {
      if (expressions_[i].possible || !possible({i, 1, 1})) continue;
      expressions_[i].possible = changed = true;
    }
  }
  check(expressions_[root.expression].possible, "grammar", "no finite text satisfies it");
  grammar->expressions = expressions_;
  grammar->root = root;
  return grammar;
}

}  // namespace lathe
