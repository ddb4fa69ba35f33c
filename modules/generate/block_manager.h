// Which pages of the key-value cache belong to which sequence.
//
// A page holds 16 positions of all layers of one group; groups differ in their window, and each has its own pages.
// Pages are counted references: sequences that share a prompt share its pages, and the one that writes into a shared
// page gets a copy first. Callers hand in ranges of positions and get page lists; which free page is taken, and which
// cached one is evicted, is decided here alone.
//
// Prefix cache: whole pages whose contents are computed are published under their tokens. A published page is never
// written again. When nobody refers to it any more it stays findable until its room is needed, least recently used
// first; of one sequence, the last page first, because a prefix is of use without what follows it and not otherwise.
#pragma once
#include <cstddef>
#include <cstdint>
#include <list>
#include <span>
#include <vector>

#include "generate/prefix_tree.h"

namespace lathe {

// By layer group: the page of each 16 positions from 0 on; -1 where it was given back because no query sees it again.
using SequencePages = std::vector<std::vector<int32_t>>;

struct PageGroup {
  int64_t window = 0;  // keys that a query sees, itself included; 0: all
  int64_t pages = 0;
};

// The contents of page `from` are to be copied to page `to`, in every layer of the group, before anything is written.
struct PageCopy {
  size_t group = 0;
  int32_t from = 0, to = 0;
};

// How far a sequence's whole pages stand in the prefix tree.
struct PublishedPrefix {
  PrefixTree::Node* node = nullptr;  // of its last published page, or the root; null: nothing yet
  int64_t pages = 0;
};

// The most pages that a sequence alone holds at any time on its way to `tokens` tokens, `chunk` of them a step at most.
int64_t peak_pages(int64_t window, int64_t tokens, int64_t chunk);

class BlockManager {
 public:
  explicit BlockManager(const std::vector<PageGroup>& groups);

  size_t groups() const { return groups_.size(); }
  int64_t window(size_t group) const { return groups_[group].window; }
  int64_t pages(size_t group) const { return static_cast<int64_t>(groups_[group].references.size()); }
  // Pages that nobody refers to, those that are only kept for their contents among them.
  int64_t free_pages(size_t group) const {
    return static_cast<int64_t>(groups_[group].free.size() + groups_[group].unused.size());
  }
  int64_t cached_pages(size_t group) const { return static_cast<int64_t>(groups_[group].unused.size()); }
  int64_t references(size_t group, int32_t page) const { return groups_[group].references[static_cast<size_t>(page)]; }
  // Whether the page's contents can be found by their tokens.
  bool published(size_t group, int32_t page) const { return groups_[group].node[static_cast<size_t>(page)] != nullptr; }

  // Makes positions [cached, tokens) of a sequence writable: takes new pages, and replaces a shared page among them by
  // a copy (appended to `copies`; the caller performs them in order). False, and nothing changed, when pages are too
  // few.
  bool reserve(SequencePages& pages, int64_t cached, int64_t tokens, std::vector<PageCopy>& copies);

  // Lets `target` (which holds nothing) share the pages of the first `tokens` positions of `source`, whose contents
  // must be there. False, and nothing changed, where source has given back a page that the next query would see.
  bool fork(const SequencePages& source, int64_t tokens, SequencePages& target);

  // Lets `pages` (of a sequence that holds nothing) share the longest published prefix of `tokens`: whole pages, all of
  // which the next query still sees, at least one token short of all (its logits are needed). Returns the tokens
  // shared. `kind`: see PrefixTree::root.
  int64_t share_prefix(int32_t kind, std::span<const int32_t> tokens, SequencePages& pages);
  // Makes the whole pages of the first `cached` positions findable, which must be computed. `published` is the
  // sequence's own; retract it when the sequence gives its pages back.
  void publish(int32_t kind, std::span<const int32_t> tokens, int64_t cached, const SequencePages& pages,
               PublishedPrefix& published);
  void retract(PublishedPrefix& published);

  // Gives back pages that neither the query at `cached` nor the one before it sees: the latter lets a fork compute the
  // last token again.
  void release_unseen(SequencePages& pages, int64_t cached);
  void release(SequencePages& pages);

  // Whether a sequence that holds `pages` for `cached` positions could go on to `tokens` now, `chunk` tokens a step,
  // and leave `spare` pages of each group free.
  bool has_room(const SequencePages& pages, int64_t cached, int64_t tokens, int64_t chunk, int64_t spare) const;

 private:
  struct Group {
    int64_t window;
    std::vector<int32_t> references;  // by page
    std::vector<int32_t> free;        // a stack, lowest page on top at first: untouched pages cost no resident memory
    std::list<int32_t> unused;        // published pages without references, least recently used first
    std::vector<PrefixTree::Node*> node;              // by page; null: not published
    std::vector<std::list<int32_t>::iterator> place;  // by page, in `unused`
  };
  // Whether a write into the page must go to a copy.
  bool shared(size_t group, int32_t page) const {
    return page >= 0 && (references(group, page) > 1 || groups_[group].node[static_cast<size_t>(page)] != nullptr);
  }
  // The first page that the query after `tokens` positions sees.
  static size_t first_seen(const Group& group, int64_t tokens);
  int32_t take(size_t group);
  void refer(size_t group, int32_t page);
  void give_back(size_t group, int32_t page);

  std::vector<Group> groups_;
  PrefixTree prefixes_;
};

}  // namespace lathe
