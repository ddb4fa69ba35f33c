#include "text/grammar/grammar_matcher.h"

#include <algorithm>
#include <numeric>

#include "tensor/errors.h"

namespace lathe {

VocabularyTrie::VocabularyTrie(const Tokenizer& tokenizer, int64_t size) : bytes_(static_cast<size_t>(size)) {
  std::vector<int32_t> order;
  for (int32_t id = 0; id < size; ++id) {
    std::string& bytes = bytes_[static_cast<size_t>(id)];
    bytes = tokenizer.token_bytes(id);
    const bool special = tokenizer.is_special(id);
    if (!special && bytes.find(Grammar::kSpecial) != std::string::npos) bytes.clear();
    if (bytes.empty()) continue;
    if (special) bytes.insert(bytes.begin(), Grammar::kSpecial);
    order.push_back(id);
    longest_ = std::max(longest_, static_cast<uint32_t>(bytes.size()));
  }
  std::sort(order.begin(), order.end(), [this](int32_t a, int32_t b) { return bytes(a) < bytes(b); });

  std::vector<uint32_t> path = {0};  // to the token before
  nodes_.push_back({0, 0, 0, 0});
  const auto close = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back()) nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
  };
  std::string_view before;
  for (const int32_t id : order) {
    const std::string_view text = bytes(id);
    const auto shared = static_cast<size_t>(
        std::mismatch(before.begin(), before.end(), text.begin(), text.end()).first - before.begin());
    close(shared + 1);
    for (size_t i = shared; i < text.size(); ++i) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back(
          {0, static_cast<uint32_t>(tokens_.size()), static_cast<uint32_t>(i + 1), static_cast<uint8_t>(text[i])});
    }
    tokens_.push_back(id);
    before = text;
  }
  close(0);
  nodes_.push_back({0, static_cast<uint32_t>(tokens_.size()), 0, 0});
}

size_t GrammarMatcher::Hash::mix(std::span<const uint32_t> words) {
  uint64_t hash = words.size();
  for (const uint32_t word : words) {
    hash = (hash ^ word) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 29;
  }
  return hash;
}

template <class Value>
uint32_t GrammarMatcher::Pool<Value>::add(const Value& value) {
  const auto [found, added] = places.try_emplace(value, static_cast<uint32_t>(values.size()));
  if (added) values.push_back(value);
  return found->second;
}

GrammarMatcher::GrammarMatcher(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const VocabularyTrie> vocabulary)
    : grammar_(std::move(grammar)), vocabulary_(std::move(vocabulary)) {
  begin_ = {thread(local(grammar_->root, 0), 0)};
}

void GrammarMatcher::work(int64_t steps) {
  work_ += steps;
  check(work_ <= kMostWork && threads_.size() + locals_.size() < 16 * kWorn, "grammar",
        "it allows so many ways to read what was written that the next token takes too long to find");
}

// The state's threads down to the bytes that they need.
GrammarMatcher::Expanded GrammarMatcher::expand(const State& state) {
  Expanded found;
  ++expansion_;
  std::vector<uint32_t> open = state;
  while (!open.empty()) {
    const uint32_t top = open.back();
    open.pop_back();
    if (top == 0) {
      found.complete = true;
      continue;
    }
    if (met_.size() <= top) met_.resize(threads_.size() + top);
    if (met_[top] == expansion_) continue;
    met_[top] = expansion_;
    expand_top(top, open, found);
  }
  return found;
}

// A rule's last part leaves nothing behind, so a rule that goes on with itself (a tail call) lets no stack grow.
void GrammarMatcher::expand_top(uint32_t top, std::vector<uint32_t>& open, Expanded& found) {
  const auto [on_top, below] = threads_[top];
  const auto [part, rest] = locals_[on_top];
  const Grammar::Expression& e = grammar_->expressions[part.expression];
  const auto push = [&, rest_below = below](GrammarPart next, uint32_t under) {
    open.push_back(thread(local(next, under), rest_below));
  };
  work(kPartWork * (1 + static_cast<int64_t>(e.parts.size())));
  switch (e.kind) {
    case Grammar::Kind::bytes: found.leaves.push_back({part, rest, below}); break;
    case Grammar::Kind::text:
      if (e.text.empty())
        open.push_back(thread(rest, below));
      else
        found.leaves.push_back({part, rest, below});
      break;
    case Grammar::Kind::sequence:
      if (part.next == e.parts.size())
        open.push_back(thread(rest, below));
      else
        push(e.parts[part.next],
             part.next + 1 < e.parts.size() ? local({part.expression, part.next + 1, 0}, rest) : rest);
      break;
    case Grammar::Kind::choice:
      for (const GrammarPart& p : e.parts)
        if (Grammar::possible(grammar_->expressions[p.expression], p)) push(p, rest);
      break;
    case Grammar::Kind::repeat:
      if (part.next == 0) open.push_back(thread(rest, below));
      if (part.most > 0 && e.possible) {
        const uint32_t least = part.next > 0 ? part.next - 1 : 0;
        const uint32_t most = part.most == Grammar::kUnbounded ? part.most : part.most - 1;
        push(e.parts[0], most == 0 ? rest : local({part.expression, least, most}, rest));
      }
      break;
    case Grammar::Kind::rule: open.push_back(thread(local(e.parts[0], 0), thread(rest, below))); break;
  }
}

GrammarMatcher::State GrammarMatcher::consume(const Expanded& from, uint8_t byte) {
  State state;
  work(static_cast<int64_t>(from.leaves.size()));
  for (const Leaf& leaf : from.leaves) {
    const Grammar::Expression& e = grammar_->expressions[leaf.part.expression];
    uint32_t rest = leaf.rest;
    if (e.kind == Grammar::Kind::bytes) {
      if (!e.bytes[byte]) continue;
    } else {
      if (static_cast<uint8_t>(e.text[leaf.part.next]) != byte) continue;
      if (leaf.part.next + 1 < e.text.size()) rest = local({leaf.part.expression, leaf.part.next + 1, 0}, rest);
    }
    state.push_back(thread(rest, leaf.below));
  }
  std::sort(state.begin(), state.end());
  state.erase(std::unique(state.begin(), state.end()), state.end());
  return state;
}

GrammarMatcher::State GrammarMatcher::after(State state, std::string_view bytes) {
  work_ = 0;
  if (bytes.empty()) return {};
  for (const char byte : bytes) state = consume(expand(state), static_cast<uint8_t>(byte));
  return state;
}

bool GrammarMatcher::may_end(const State& state) {
  work_ = 0;
  return expand(state).complete;
}

bool GrammarMatcher::must_end(const State& state) {
  work_ = 0;
  const Expanded e = expand(state);
  return e.complete && e.leaves.empty();
}

// The same for all tokens: no token is long enough to see that more is needed or allowed.
uint32_t GrammarMatcher::clamped(uint32_t stack) {
  if (stack == 0) return 0;
  auto [part, below] = locals_[stack];
  const uint32_t longest = vocabulary_->longest();
  if (grammar_->expressions[part.expression].kind == Grammar::Kind::repeat) {
    part.next = std::min(part.next, longest + 1);
    if (part.most > longest) part.most = Grammar::kUnbounded;
  }
  return local(part, clamped(below));
}

uint32_t GrammarMatcher::walk_state(const State& state) {
  if (state.empty()) return kDead;
  if (const auto found = walk_places_.find(state); found != walk_places_.end()) return found->second;
  work(256);  // its table
  walk_states_.push_back({expand(state), std::make_unique<std::array<uint32_t, 256>>()});
  walk_states_.back().next->fill(kUnknown);
  return walk_places_[state] = static_cast<uint32_t>(walk_states_.size() - 1);
}

uint32_t GrammarMatcher::follow(uint32_t from, uint8_t byte) {
  WalkState& state = walk_states_[from];
  uint32_t& next = (*state.next)[byte];
  if (next == kUnknown) next = walk_state(consume(state.expanded, byte));
  return next;
}

// The descendants of a node to which a state leads: take(node) for each, and those at which the state is complete.
template <class Take>
void GrammarMatcher::walk(uint32_t from, uint32_t node, const Take& take, std::vector<uint32_t>& exits) {
  const std::vector<VocabularyTrie::Node>& nodes = vocabulary_->nodes();
  const uint32_t depth = nodes[node].depth;
  path_.resize(vocabulary_->longest() + 1);
  path_[0] = from;
  if (walk_states_[from].expanded.complete) exits.push_back(node);
  int64_t steps = 0;
  for (uint32_t i = node + 1; i < nodes[node].end; ++steps) {
    const uint32_t below = nodes[i].depth - depth;
    const uint32_t state = follow(path_[below - 1], nodes[i].byte);
    if (state == kDead) {
      i = nodes[i].end;
      continue;
    }
    path_[below] = state;
    take(i);
    if (walk_states_[state].expanded.complete) exits.push_back(i);
    ++i;
  }
  work(steps);
}

const GrammarMatcher::LocalTokens& GrammarMatcher::local_tokens(uint32_t stack) {
  const auto [found, added] = local_tokens_.try_emplace(stack);
  LocalTokens& list = found->second;
  if (!added) return list;
  try {
    walk(
        walk_state({thread(stack, 0)}), 0,
        [&](uint32_t node) {
          for (const int32_t token : vocabulary_->tokens(node)) list.tokens.push_back(token);
        },
        list.exits);
  } catch (...) {
    local_tokens_.erase(stack);
    throw;
  }
  if (list.tokens.size() > vocabulary_->size() / 32) {
    list.bits.resize(words());
    for (const int32_t token : std::exchange(list.tokens, {}))
      list.bits[static_cast<size_t>(token) / 32] |= 1u << token % 32;
  }
  kept_bytes_ += 4 * (list.tokens.size() + list.bits.size() + list.exits.size()) + sizeof list;
  return list;
}

// All tokens that may follow in a thread.
void GrammarMatcher::add_tokens(uint32_t top, std::vector<uint32_t>& bits) {
  if (top == 0) return;
  const auto [stack, below] = threads_[top];
  const LocalTokens& list = local_tokens(clamped(stack));
  for (size_t i = 0; i < list.bits.size(); ++i) bits[i] |= list.bits[i];
  for (const int32_t token : list.tokens) bits[static_cast<size_t>(token) / 32] |= 1u << token % 32;
  work(static_cast<int64_t>(list.tokens.size() + list.bits.size() + list.exits.size()));
  add_tokens(below, list.exits, bits);
}

// Those that begin with the bytes of one of these nodes, and then go on as the thread does.
void GrammarMatcher::add_tokens(uint32_t top, const std::vector<uint32_t>& nodes, std::vector<uint32_t>& bits) {
  if (top == 0 || nodes.empty()) return;
  const auto [stack, below] = threads_[top];
  const uint32_t from = walk_state({thread(clamped(stack), 0)});
  std::vector<uint32_t> exits;
  for (const uint32_t node : nodes) {
    if (node == 0) {
      add_tokens(top, bits);
      continue;
    }
    walk(
        from, node,
        [&](uint32_t at) {
          for (const int32_t token : vocabulary_->tokens(at)) bits[static_cast<size_t>(token) / 32] |= 1u << token % 32;
        },
        exits);
  }
  std::sort(exits.begin(), exits.end());
  exits.erase(std::unique(exits.begin(), exits.end()), exits.end());
  add_tokens(below, exits, bits);
}

std::vector<uint32_t> GrammarMatcher::allowed(const State& state) {
  work_ = 0;
  if (walk_states_.size() > kKeptStates) {
    walk_states_.clear();
    walk_places_.clear();
  }
  if (kept_bytes_ > kKeptBytes) {
    local_tokens_.clear();
    kept_bytes_ = 0;
  }
  std::vector<uint32_t> bits(words());
  for (const uint32_t thread : state) add_tokens(thread, bits);
  return bits;
}

}  // namespace lathe
