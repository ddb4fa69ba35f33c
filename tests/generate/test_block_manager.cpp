// Pages, references, copies on write and windows, one by one.
#include "generate/block_manager.h"
#include "tests/catch.h"

using namespace lathe;

TEST_CASE("pages are taken as positions need them and come back") {
  BlockManager blocks({{0, 4}});
  SequencePages a, b;
  std::vector<PageCopy> copies;
  REQUIRE(blocks.reserve(a, 0, 1, copies));
  CHECK(a == SequencePages{{0}});  // lowest first
  REQUIRE(blocks.reserve(a, 1, 16, copies));
  CHECK(a[0].size() == 1);
  REQUIRE(blocks.reserve(a, 16, 17, copies));
  CHECK(a == SequencePages{{0, 1}});
  REQUIRE(blocks.reserve(b, 0, 32, copies));
  CHECK(blocks.free_pages(0) == 0);
  CHECK_FALSE(blocks.reserve(a, 32, 33, copies));
  CHECK(a == SequencePages{{0, 1}});
  blocks.release(a);
  CHECK(a.empty());
  CHECK(blocks.free_pages(0) == 2);
  CHECK(blocks.reserve(b, 32, 64, copies));
  CHECK(b == SequencePages{{2, 3, 0, 1}});
  CHECK(copies.empty());
}

TEST_CASE("a reservation that fails in one group changes nothing in another") {
  BlockManager blocks({{0, 8}, {0, 1}});
  SequencePages a;
  std::vector<PageCopy> copies;
  CHECK_FALSE(blocks.reserve(a, 0, 17, copies));
  CHECK(blocks.free_pages(0) == 8);
  CHECK(blocks.free_pages(1) == 1);
  CHECK(blocks.reserve(a, 0, 16, copies));
}

TEST_CASE("a fork shares pages, and whoever writes into a shared one gets a copy") {
  BlockManager blocks({{0, 6}});
  SequencePages leader, sibling;
  std::vector<PageCopy> copies;
  REQUIRE(blocks.reserve(leader, 0, 20, copies));
  REQUIRE(blocks.fork(leader, 19, sibling));
  CHECK(sibling == leader);
  CHECK(blocks.references(0, leader[0][1]) == 2);
  CHECK(blocks.free_pages(0) == 4);
  REQUIRE(blocks.reserve(sibling, 19, 20, copies));
  REQUIRE(copies.size() == 1);
  CHECK(copies[0].from == leader[0][1]);
  CHECK(copies[0].to == sibling[0][1]);
  CHECK(sibling[0][0] == leader[0][0]);
  copies.clear();
  REQUIRE(blocks.reserve(leader, 20, 21, copies));  // alone on its page again
  CHECK(copies.empty());
  blocks.release(leader);
  CHECK(blocks.free_pages(0) == 4);  // the first page is the sibling's still
  blocks.release(sibling);
  CHECK(blocks.free_pages(0) == 6);
}

TEST_CASE("a fork at a page's border shares whole pages and copies nothing") {
  BlockManager blocks({{0, 6}});
  SequencePages leader, sibling;
  std::vector<PageCopy> copies;
  REQUIRE(blocks.reserve(leader, 0, 33, copies));
  REQUIRE(blocks.fork(leader, 32, sibling));
  CHECK(sibling[0].size() == 2);
  REQUIRE(blocks.reserve(sibling, 32, 33, copies));
  CHECK(copies.empty());
  SequencePages none;
  REQUIRE(blocks.fork(leader, 0, none));
  CHECK(none == SequencePages{{}});
}

TEST_CASE("a copy needs a free page") {
  BlockManager blocks({{0, 2}});
  SequencePages leader, sibling;
  std::vector<PageCopy> copies;
  REQUIRE(blocks.reserve(leader, 0, 20, copies));
  REQUIRE(blocks.fork(leader, 19, sibling));
  CHECK_FALSE(blocks.reserve(sibling, 19, 20, copies));
  CHECK_FALSE(blocks.has_room(sibling, 19, 20, 16, 0));
  CHECK(copies.empty());
  CHECK(sibling == leader);
}

TEST_CASE("pages out of the window come back, but for what a fork of the last token sees") {
  BlockManager blocks({{0, 8}, {20, 8}});
  SequencePages a, b;
  std::vector<PageCopy> copies;
  REQUIRE(blocks.reserve(a, 0, 64, copies));
  blocks.release_unseen(a, 35);  // the query at 34 sees 15 .. 34
  CHECK(a[1][0] >= 0);
  blocks.release_unseen(a, 36);
  CHECK(a[1][0] == -1);
  CHECK(a[0][0] >= 0);
  CHECK(blocks.free_pages(1) == 5);
  blocks.release_unseen(a, 64);  // the query at 63 sees 44 .. 63
  CHECK(a[1] == std::vector<int32_t>{-1, -1, a[1][2], a[1][3]});
  CHECK(a[1][2] >= 0);
  CHECK(blocks.free_pages(1) == 6);
  CHECK_FALSE(blocks.fork(a, 50, b));
  CHECK(blocks.references(0, a[0][0]) == 1);
  REQUIRE(blocks.fork(a, 63, b));
  CHECK(b[1] == a[1]);
  CHECK(b[0] == a[0]);
  blocks.release(a);
  blocks.release(b);
  CHECK(blocks.free_pages(1) == 8);
}

TEST_CASE("the peak of a windowed group bounds what a sequence ever holds") {
  for (const int64_t window : {1, 5, 16, 24, 40}) {
    for (const int64_t chunk : {1, 3, 16, 50}) {
      BlockManager blocks({{window, 100}});
      SequencePages pages;
      std::vector<PageCopy> copies;
      int64_t most = 0;
      for (int64_t cached = 0; cached < 300;) {
        const int64_t next = std::min<int64_t>(300, cached + chunk);
        REQUIRE(blocks.reserve(pages, cached, next, copies));
        most = std::max(most, 100 - blocks.free_pages(0));
        blocks.release_unseen(pages, next);
        cached = next;
      }
      INFO("window " << window << ", chunk " << chunk);
      CHECK(most <= peak_pages(window, 300, chunk));
      CHECK(peak_pages(window, 300, chunk) <= most + 1);
    }
  }
  CHECK(peak_pages(0, 33, 5) == 3);
  CHECK(peak_pages(1000, 33, 5) == 3);
}
