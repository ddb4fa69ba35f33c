// The loop that both kinds of byte-pair encoding share: symbols in a doubly linked list, the candidate pairs in a heap.
//
// The best pair merges first, the leftmost of equals; a symbol that merged away has length 0. A candidate is stale when
// one of its symbols has merged since: their lengths then no longer add up to what they did. O(n log n) for n symbols.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "text/tokenizer/model.h"

namespace lathe {

struct Symbol {
  int32_t id;              // or Vocabulary::kNone
  uint32_t begin;          // where it stands in the piece, in bytes
  uint32_t length;         // in bytes; 0: merged into a symbol to its left
  int32_t previous, next;  // indices of the neighbours, -1 at the ends
};

// Links the symbols in their order.
inline void link(std::vector<Symbol>& symbols) {
  for (size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].previous = static_cast<int32_t>(i) - 1;
    symbols[i].next = i + 1 < symbols.size() ? static_cast<int32_t>(i) + 1 : -1;
  }
}

// Rank: an ordered type, smaller merges first.
// Lookup: bool(const Symbol& left, const Symbol& right, Rank& rank, int32_t& id): whether the two merge, how early,
// into which token. With `steps`, what happens is written down; a weight is the rank.
template <class Rank, class Lookup>
void merge_symbols(std::vector<Symbol>& symbols, const Lookup& lookup, std::vector<ModelStep>* steps = nullptr) {
  struct Candidate {
    Rank rank;
    int32_t left;
    uint32_t length;
    int32_t id;
  };
  auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  };
  std::vector<Candidate> heap;
  auto candidate = [&](int32_t left) {
    const Symbol& a = symbols[static_cast<size_t>(left)];
    const Symbol& b = symbols[static_cast<size_t>(a.next)];
    Candidate c{{}, left, a.length + b.length, 0};
    if (!lookup(a, b, c.rank, c.id)) return false;
    heap.push_back(c);
    return true;
  };
  if (steps)
    for (const Symbol& symbol : symbols)
      steps->push_back({ModelStep::Kind::symbol, symbol.begin, 0, symbol.begin + symbol.length, symbol.id});
  heap.reserve(symbols.size());
  for (size_t i = 0; i + 1 < symbols.size(); ++i) candidate(static_cast<int32_t>(i));
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = symbols[static_cast<size_t>(best.left)];
    if (left.length == 0 || left.next < 0) continue;
    Symbol& right = symbols[static_cast<size_t>(left.next)];
    if (left.length + right.length != best.length) continue;
    if (steps)
      steps->push_back({ModelStep::Kind::merge, left.begin, right.begin, right.begin + right.length, best.id,
                        static_cast<double>(best.rank)});
    left.id = best.id;
    left.length = best.length;
    right.length = 0;
    left.next = right.next;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = best.left;
    if (left.previous >= 0 && candidate(left.previous)) std::push_heap(heap.begin(), heap.end(), later);
    if (left.next >= 0 && candidate(best.left)) std::push_heap(heap.begin(), heap.end(), later);
  }
}

}  // namespace lathe
