#include "generate/block_manager.h"

#include <algorithm>

#include "tensor/errors.h"

namespace lathe {

int64_t peak_pages(int64_t window, int64_t tokens, int64_t chunk) {
  const int64_t all = pages_for(tokens);
  if (window == 0) return all;
  // Positions [cached - window, cached + chunk), wherever they lie between page borders.
  const int64_t positions = window + std::min(chunk, tokens);
  return std::min(all, (positions + kPageTokens - 2) / kPageTokens + 1);
}

BlockManager::BlockManager(const std::vector<PageGroup>& groups) {
  for (const PageGroup& g : groups) {
    Group& group = groups_.emplace_back();
    group.window = g.window;
    group.references.assign(static_cast<size_t>(g.pages), 0);
    for (int64_t page = g.pages - 1; page >= 0; --page) group.free.push_back(static_cast<int32_t>(page));
  }
}

int32_t BlockManager::take(Group& group) {
  const int32_t page = group.free.back();
  group.free.pop_back();
  group.references[static_cast<size_t>(page)] = 1;
  return page;
}

void BlockManager::give_back(Group& group, int32_t page) {
  if (--group.references[static_cast<size_t>(page)] == 0) group.free.push_back(page);
}

bool BlockManager::reserve(SequencePages& pages, int64_t cached, int64_t tokens, std::vector<PageCopy>& copies) {
  pages.resize(groups_.size());
  const auto wanted = static_cast<size_t>(pages_for(tokens)), first = static_cast<size_t>(cached / kPageTokens);
  for (size_t g = 0; g < groups_.size(); ++g) {
    size_t needed = wanted - std::min(wanted, pages[g].size());
    for (size_t i = first; i < pages[g].size(); ++i) needed += shared(g, pages[g][i]);
    if (needed > groups_[g].free.size()) return false;
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (size_t i = first; i < pages[g].size(); ++i) {
      if (!shared(g, pages[g][i])) continue;
      const int32_t copy = take(groups_[g]);
      copies.push_back({g, pages[g][i], copy});
      give_back(groups_[g], pages[g][i]);
      pages[g][i] = copy;
    }
    while (pages[g].size() < wanted) pages[g].push_back(take(groups_[g]));
  }
  return true;
}

bool BlockManager::fork(const SequencePages& source, int64_t tokens, SequencePages& target) {
  const auto end = static_cast<size_t>(pages_for(tokens));
  const auto first_seen = [&](const Group& group) {
    return group.window == 0 ? size_t{0}
                             : static_cast<size_t>(std::max<int64_t>(0, tokens - group.window + 1) / kPageTokens);
  };
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (g >= source.size() || source[g].size() < end) return false;
    for (size_t i = first_seen(groups_[g]); i < end; ++i)
      if (source[g][i] < 0) return false;
  }
  target.assign(groups_.size(), {});
  for (size_t g = 0; g < groups_.size(); ++g) {
    target[g].assign(end, -1);
    for (size_t i = first_seen(groups_[g]); i < end; ++i) {
      target[g][i] = source[g][i];
      ++groups_[g].references[static_cast<size_t>(source[g][i])];
    }
  }
  return true;
}

void BlockManager::release_unseen(SequencePages& pages, int64_t cached) {
  for (size_t g = 0; g < pages.size(); ++g) {
    if (groups_[g].window == 0) continue;
    const auto end = static_cast<size_t>(std::max<int64_t>(0, cached - groups_[g].window) / kPageTokens);
    for (size_t i = std::min(end, pages[g].size()); i > 0 && pages[g][i - 1] >= 0; --i) {
      give_back(groups_[g], pages[g][i - 1]);
      pages[g][i - 1] = -1;
    }
  }
}

void BlockManager::release(SequencePages& pages) {
  for (size_t g = 0; g < pages.size(); ++g)
    for (size_t i = pages[g].size(); i > 0; --i)
      if (pages[g][i - 1] >= 0) give_back(groups_[g], pages[g][i - 1]);
  pages.clear();
}

bool BlockManager::has_room(const SequencePages& pages, int64_t tokens, int64_t chunk, int64_t spare) const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    int64_t needed = peak_pages(groups_[g].window, tokens, chunk) + spare;
    if (g < pages.size() && !pages[g].empty()) {
      for (const int32_t page : pages[g]) needed -= page >= 0;
      needed += shared(g, pages[g].back());
    }
    if (needed > free_pages(g)) return false;
  }
  return true;
}

}  // namespace lathe
