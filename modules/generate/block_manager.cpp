#include "generate/block_manager.h"

#include <algorithm>
#include <utility>

#include "tensor/errors.h"

namespace lathe {

int64_t peak_pages(int64_t window, int64_t tokens, int64_t chunk) {
  const int64_t all = pages_for(tokens);
  if (window == 0) return all;
  // Positions [cached - window, cached + chunk), wherever they lie between page borders.
  const int64_t positions = window + std::min(chunk, tokens);
  return std::min(all, (positions + kPageTokens - 2) / kPageTokens + 1);
}

BlockManager::BlockManager(const std::vector<PageGroup>& groups) : prefixes_(groups.size()) {
  for (const PageGroup& g : groups) {
    Group& group = groups_.emplace_back();
    group.window = g.window;
    const auto pages = static_cast<size_t>(g.pages);
    group.references.assign(pages, 0);
    group.node.assign(pages, nullptr);
    group.place.assign(pages, group.unused.end());
    for (int64_t page = g.pages - 1; page >= 0; --page) group.free.push_back(static_cast<int32_t>(page));
  }
}

size_t BlockManager::first_seen(const Group& group, int64_t tokens) {
  return group.window == 0 ? 0 : static_cast<size_t>(std::max<int64_t>(0, tokens - group.window + 1) / kPageTokens);
}

int32_t BlockManager::take(size_t g) {
  Group& group = groups_[g];
  int32_t page;
  if (!group.free.empty()) {
    page = group.free.back();
    group.free.pop_back();
  } else {
    page = group.unused.front();
    group.unused.pop_front();
    prefixes_.clear_page(std::exchange(group.node[static_cast<size_t>(page)], nullptr), g);
  }
  group.references[static_cast<size_t>(page)] = 1;
  return page;
}

void BlockManager::refer(size_t g, int32_t page) {
  Group& group = groups_[g];
  if (group.references[static_cast<size_t>(page)]++ == 0) group.unused.erase(group.place[static_cast<size_t>(page)]);
}

void BlockManager::give_back(size_t g, int32_t page) {
  Group& group = groups_[g];
  const auto at = static_cast<size_t>(page);
  if (--group.references[at] > 0) return;
  if (group.node[at] == nullptr)
    group.free.push_back(page);
  else
    group.place[at] = group.unused.insert(group.unused.end(), page);
}

bool BlockManager::reserve(SequencePages& pages, int64_t cached, int64_t tokens, std::vector<PageCopy>& copies) {
  pages.resize(groups_.size());
  const auto wanted = static_cast<size_t>(pages_for(tokens)), first = static_cast<size_t>(cached / kPageTokens);
  for (size_t g = 0; g < groups_.size(); ++g) {
    size_t needed = wanted - std::min(wanted, pages[g].size());
    for (size_t i = first; i < pages[g].size(); ++i) needed += shared(g, pages[g][i]);
    if (static_cast<int64_t>(needed) > free_pages(g)) return false;
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (size_t i = first; i < pages[g].size(); ++i) {
      if (!shared(g, pages[g][i])) continue;
      const int32_t copy = take(g);
      copies.push_back({g, pages[g][i], copy});
      give_back(g, pages[g][i]);
      pages[g][i] = copy;
    }
    while (pages[g].size() < wanted) pages[g].push_back(take(g));
  }
  return true;
}

bool BlockManager::fork(const SequencePages& source, int64_t tokens, SequencePages& target) {
  const auto end = static_cast<size_t>(pages_for(tokens));
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (g >= source.size() || source[g].size() < end) return false;
    for (size_t i = first_seen(groups_[g], tokens); i < end; ++i)
      if (source[g][i] < 0) return false;
  }
  target.assign(groups_.size(), {});
  for (size_t g = 0; g < groups_.size(); ++g) {
    target[g].assign(end, -1);
    for (size_t i = first_seen(groups_[g], tokens); i < end; ++i) {
      target[g][i] = source[g][i];
      refer(g, source[g][i]);
    }
  }
  return true;
}

int64_t BlockManager::share_prefix(int32_t kind, std::span<const int32_t> tokens, SequencePages& pages) {
  std::vector<const PrefixTree::Node*> nodes;
  PrefixTree::Node* node = prefixes_.root(kind);
  while (static_cast<int64_t>(tokens.size()) > (std::ssize(nodes) + 1) * kPageTokens) {
    node = prefixes_.find(node, tokens.subspan(nodes.size() * kPageTokens, kPageTokens));
    if (node == nullptr) break;
    nodes.push_back(node);
  }
  const auto usable = [&](size_t count) {
    for (size_t g = 0; g < groups_.size(); ++g)
      for (size_t i = first_seen(groups_[g], static_cast<int64_t>(count) * kPageTokens); i < count; ++i)
        if (nodes[i]->pages[g] < 0) return false;
    return true;
  };
  size_t count = nodes.size();
  while (count > 0 && !usable(count)) --count;
  if (count == 0) return 0;
  const int64_t shared_tokens = static_cast<int64_t>(count) * kPageTokens;
  pages.assign(groups_.size(), std::vector<int32_t>(count, -1));
  for (size_t g = 0; g < groups_.size(); ++g)
    for (size_t i = first_seen(groups_[g], shared_tokens); i < count; ++i) refer(g, pages[g][i] = nodes[i]->pages[g]);
  return shared_tokens;
}

void BlockManager::publish(int32_t kind, std::span<const int32_t> tokens, int64_t cached, const SequencePages& pages,
                           PublishedPrefix& published) {
  if (published.node == nullptr) prefixes_.hold(published.node = prefixes_.root(kind));
  for (; (published.pages + 1) * kPageTokens <= cached; ++published.pages) {
    const auto i = static_cast<size_t>(published.pages);
    PrefixTree::Node* node = prefixes_.add(published.node, tokens.subspan(i * kPageTokens, kPageTokens));
    prefixes_.hold(node);
    prefixes_.drop(std::exchange(published.node, node));
    for (size_t g = 0; g < groups_.size(); ++g) {
      const int32_t page = pages[g][i];
      if (page < 0 || node->pages[g] >= 0) continue;  // given back, or another sequence's page holds the same
      node->pages[g] = page;
      groups_[g].node[static_cast<size_t>(page)] = node;
    }
  }
}

void BlockManager::retract(PublishedPrefix& published) {
  if (published.node != nullptr) prefixes_.drop(published.node);
  published = {};
}

void BlockManager::release_unseen(SequencePages& pages, int64_t cached) {
  for (size_t g = 0; g < pages.size(); ++g) {
    if (groups_[g].window == 0) continue;
    const auto end = static_cast<size_t>(std::max<int64_t>(0, cached - groups_[g].window) / kPageTokens);
    for (size_t i = std::min(end, pages[g].size()); i > 0 && pages[g][i - 1] >= 0; --i) {
      give_back(g, pages[g][i - 1]);
      pages[g][i - 1] = -1;
    }
  }
}

void BlockManager::release(SequencePages& pages) {
  for (size_t g = 0; g < pages.size(); ++g)
    for (size_t i = pages[g].size(); i > 0; --i)
      if (pages[g][i - 1] >= 0) give_back(g, pages[g][i - 1]);
  pages.clear();
}

bool BlockManager::has_room(const SequencePages& pages, int64_t cached, int64_t tokens, int64_t chunk,
                            int64_t spare) const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    int64_t needed = peak_pages(groups_[g].window, tokens, chunk) + spare;
    if (g < pages.size() && !pages[g].empty()) {
      for (const int32_t page : pages[g]) needed -= page >= 0;
      needed += cached % kPageTokens != 0 && shared(g, pages[g].back());  // a whole page is not written again
    }
    if (needed > free_pages(g)) return false;
  }
  return true;
}

}  // namespace lathe
