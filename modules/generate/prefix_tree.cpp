#include "generate/prefix_tree.h"

#include <algorithm>
#include <functional>
#include <string_view>

namespace lathe {

size_t PrefixTree::Hash::operator()(const Key& key) const {
  const std::string_view bytes(reinterpret_cast<const char*>(key.tokens.data()), sizeof key.tokens);
  return std::hash<std::string_view>{}(bytes) ^ std::hash<const Node*>{}(key.parent) * 0x9e3779b97f4a7c15u;
}

PrefixTree::Key PrefixTree::key_of(const Node* parent, std::span<const int32_t> tokens) {
  Key key{parent, {}};
  std::copy_n(tokens.begin(), key.tokens.size(), key.tokens.begin());
  return key;
}

PrefixTree::Node* PrefixTree::root(int32_t kind) {
  const std::array<int32_t, kPageTokens> tokens = {kind};
  Node* node = add(nullptr, tokens);
  if (node->uses == 0) hold(node);
  return node;
}

PrefixTree::Node* PrefixTree::find(Node* parent, std::span<const int32_t> tokens) const {
  const auto found = nodes_.find(key_of(parent, tokens));
  return found == nodes_.end() ? nullptr : found->second.get();
}

PrefixTree::Node* PrefixTree::add(Node* parent, std::span<const int32_t> tokens) {
  const auto [place, is_new] = nodes_.try_emplace(key_of(parent, tokens));
  if (is_new) {
    place->second = std::make_unique<Node>(Node{parent, place->first.tokens, std::vector<int32_t>(groups_, -1), 0});
    if (parent != nullptr) hold(parent);
  }
  return place->second.get();
}

void PrefixTree::drop(Node* node) {
  --node->uses;
  collect(node);
}

void PrefixTree::clear_page(Node* node, size_t group) {
  node->pages[group] = -1;
  collect(node);
}

// Removes what nothing needs any more, upwards.
void PrefixTree::collect(Node* node) {
  const auto holds_page = [](int32_t page) { return page >= 0; };
  while (node != nullptr && node->uses == 0 && std::none_of(node->pages.begin(), node->pages.end(), holds_page)) {
    Node* parent = node->parent;
    nodes_.erase(Key{parent, node->tokens});
    if (parent != nullptr) --parent->uses;
    node = parent;
  }
}

}  // namespace lathe
