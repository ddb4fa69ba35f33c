// Which pages hold which tokens: a tree in which a node is one page's worth of tokens after those of its parent.
//
// Prefixes are compared token by token, never by a hash alone: two prompts that collide would answer each other's
// questions. A node lives while a page holds its tokens in some layer group, a child stands on it, or somebody holds
// it.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "kernels/paged_attention.h"

namespace lathe {

class PrefixTree {
 public:
  struct Node {
    Node* parent = nullptr;
    std::array<int32_t, kPageTokens> tokens = {};
    std::vector<int32_t> pages;  // by layer group; -1: none
    int64_t uses = 0;            // children and holders
  };

  explicit PrefixTree(size_t groups) : groups_(groups) {}

  // The node before the first token. Sequences whose keys would differ for the same tokens (other rope frequencies,
  // another adapter) have roots of their own. Lives as long as the tree.
  Node* root(int32_t kind);
  // The child that continues `parent` with one page of tokens; null where there is none.
  Node* find(Node* parent, std::span<const int32_t> tokens) const;
  // The same, made where there is none; to be held, or given a page, before anything is dropped.
  Node* add(Node* parent, std::span<const int32_t> tokens);
  void hold(Node* node) { ++node->uses; }
  void drop(Node* node);
  // The page of `group` no longer holds the node's tokens.
  void clear_page(Node* node, size_t group);

  size_t size() const { return nodes_.size(); }  // roots included

 private:
  struct Key {
    const Node* parent;
    std::array<int32_t, kPageTokens> tokens;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& key) const;
  };
  static Key key_of(const Node* parent, std::span<const int32_t> tokens);
  void collect(Node* node);

  size_t groups_;
  std::unordered_map<Key, std::unique_ptr<Node>, Hash> nodes_;
};

}  // namespace lathe
