// How a page holds keys and values, a template over the simd struct (simd.h): f32, f16, bf16 and q8_0.
//
// Of one key-value head a page has, one after the other, its elements and, in q8_0, its scales:
//   keys    [D][16] elements, [blocks][16] f16 scales         (of each of 16 tokens)
//   values  [16][D] elements, [blocks][16] f16 scales
// A block is 32 components of one token's head, the last one short where D is no multiple of 32. An element of q8_0 is
// an integer within 127, and it times its scale is exact in f32 (7 and 11 significant bits): whoever reads a page, a
// vector or a whole panel at a time, computes with the same numbers.
#pragma once
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/simd.h"

namespace lathe::cpu {

template <class S>
struct CacheForms {
  using Floats = typename S::Floats;
  static constexpr int kBlock = kCacheBlock;

  struct F32 {
    using Element = float;
    static constexpr bool kScaled = false;
    static LATHE_INLINE Floats load(const float* p) { return S::load(p); }
    static LATHE_INLINE float widen(float v) { return v; }
    static LATHE_INLINE void store(float* p, Floats v) { S::store(p, v); }
  };
  struct F16 {
    using Element = uint16_t;
    static constexpr bool kScaled = false;
    static LATHE_INLINE Floats load(const uint16_t* p) { return S::load_f16(p); }
    static LATHE_INLINE float widen(uint16_t v) { return f16_to_f32(v); }
    static LATHE_INLINE void store(uint16_t* p, Floats v) { S::store_f16(p, v); }
  };
  struct Bf16 {
    using Element = uint16_t;
    static constexpr bool kScaled = false;
    static LATHE_INLINE Floats load(const uint16_t* p) { return S::load_bf16(p); }
    static LATHE_INLINE float widen(uint16_t v) { return bf16_to_f32(v); }
    static LATHE_INLINE void store(uint16_t* p, Floats v) { S::store_bf16(p, v); }
  };
  struct Q8 {
    using Element = int8_t;
    static constexpr bool kScaled = true;
    static LATHE_INLINE Floats load(const int8_t* p) { return S::to_floats(S::load_signed_bytes(p)); }
    static LATHE_INLINE float widen(int8_t v) { return static_cast<float>(v); }
    static LATHE_INLINE void store(int8_t* p, Floats v) {
      float lanes[16];
      S::store(lanes, v);
      for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(lanes[i]);
    }
  };

  // f(form) for the form of a dtype.
  template <class F>
  static LATHE_INLINE void with_form(DType dtype, F f) {
    switch (dtype) {
      case DType::f32: return f(F32{});
      case DType::f16: return f(F16{});
      case DType::bf16: return f(Bf16{});
      default: return f(Q8{});
    }
  }

  // The pages of a segment as they lie in the cache, by their number in the segment.
  template <class F>
  struct Pages {
    using Form = F;
    using Element = typename F::Element;
    static constexpr bool kFar = true;  // worth fetching ahead
    const AttentionSource& source;
    const int32_t* pages;

    LATHE_INLINE const Element* keys(int page) const { return head(source.cache.keys, page); }
    LATHE_INLINE const Element* values(int page) const { return head(source.cache.values, page); }
    LATHE_INLINE int64_t value_stride() const { return source.head_dim; }
    // Of component d, [16] each.
    LATHE_INLINE const uint16_t* key_scales(int page, int64_t d) const { return scales(keys(page), d); }
    LATHE_INLINE const uint16_t* value_scales(int page, int64_t d) const { return scales(values(page), d); }

   private:
    LATHE_INLINE const Element* head(const void* base, int page) const {
      return reinterpret_cast<const Element*>(static_cast<const uint8_t*>(base) +
                                              pages[page] * source.cache.page_stride +
                                              source.kv_head * source.head_stride);
    }
    LATHE_INLINE const uint16_t* scales(const Element* elements, int64_t d) const {
      return reinterpret_cast<const uint16_t*>(elements + source.head_dim * kPageTokens) + d / kBlock * kPageTokens;
    }
  };

  // Some of these pages in f32.
  struct Panel {
    using Form = F32;
    static constexpr bool kFar = false;
    const float* floats;
    int first_page;
    int64_t head_dim, stride;  // the stride between the values of two tokens: head_dim in whole vectors

    LATHE_INLINE const float* keys(int page) const { return floats + (page - first_page) * kPageTokens * head_dim; }
    LATHE_INLINE const float* values(int page) const { return floats + (page - first_page) * kPageTokens * stride; }
    LATHE_INLINE int64_t value_stride() const { return stride; }
  };

  // kCount vectors of components of a page's 16 values, from component d on; kCount > 1 where the head has them all. A
  // block holds two vectors, or the first of one alone.
  template <class View, int kCount>
  struct Values {
    using Form = typename View::Form;
    static_assert(kCount <= 4);
    const typename Form::Element* elements;  // of token 0
    int64_t stride, left;                    // components from here to the end of the head
    float scales[Form::kScaled ? 2 : 1][kPageTokens];

    LATHE_INLINE Values(const View& view, int page, int64_t d)
        : elements(view.values(page) + d), stride(view.value_stride()), left(stride - d) {
      if constexpr (Form::kScaled) {
        LATHE_FOR(block, (kCount + 1) / 2) {
          S::store(scales[block], S::load_f16(view.value_scales(page, d + block * kBlock)));
        }
      }
    }
    // Vector c of a token, whose elements are at p; lanes beyond the head are zero.
    LATHE_INLINE Floats load(const typename Form::Element* p, int token, int c) const {
      Floats v;
      if (kCount > 1 || left >= 16) [[likely]] {
        v = Form::load(p + c * 16);
      } else {
        float lanes[16] = {};
        for (int i = 0; i < left; ++i) lanes[i] = Form::widen(p[i]);
        v = S::load(lanes);
      }
      if constexpr (Form::kScaled) v = v * S::set1(scales[c / 2][token]);
      return v;
    }
  };

  // Writes pages [page, page + count) of a segment into a panel.
  template <class F>
  static void widen_keys(float* panel, const Pages<F>& pages, int page, int count) {
    const int64_t head_dim = pages.source.head_dim;
    for (int p = page; p < page + count; ++p) {
      const typename F::Element* keys = pages.keys(p);
      for (int64_t d = 0; d < head_dim; d += kBlock) {
        const int64_t end = d + kBlock < head_dim ? d + kBlock : head_dim;
        Floats scale = S::zero();
        if constexpr (F::kScaled) scale = S::load_f16(pages.key_scales(p, d));
        for (int64_t i = d; i < end; ++i, panel += kPageTokens) {
          Floats k = F::load(keys + i * kPageTokens);
          if constexpr (F::kScaled) k = k * scale;
          S::store(panel, k);
        }
      }
    }
  }
  template <class F>
  static void widen_values(float* panel, const Pages<F>& pages, int page, int count, int64_t stride) {
    const int64_t head_dim = pages.source.head_dim;
    for (int p = page; p < page + count; ++p, panel += kPageTokens * stride)
      for (int64_t d = 0; d < head_dim; d += 16) {
        const Values<Pages<F>, 1> values(pages, p, d);
        for (int token = 0; token < kPageTokens; ++token)
          S::store(panel + token * stride + d, values.load(values.elements + token * head_dim, token, 0));
      }
  }

  // ---- writing ----

  // Up to 32 components into one block: its scale, and what is to be stored of each. The integers are those nearest
  // under the scale as it is stored, rounded to f16; a value that is not finite makes the scale NaN, and with it the
  // block.
  static LATHE_INLINE uint16_t quantise(Floats (&x)[2]) {
    const Floats most = S::maximum(S::abs(x[0]), S::abs(x[1]));
    const float not_finite = S::sum((x[0] + x[1]) * S::zero());  // 0, or NaN
    const uint16_t scale = f32_to_f16(S::largest(most) / 127.0f + not_finite);
    const float stored = f16_to_f32(scale), inverse = stored > 0.0f ? 1.0f / stored : 0.0f;
    for (Floats& v : x) v = S::round(S::minimum(S::maximum(v * S::set1(inverse), S::set1(-127.0f)), S::set1(127.0f)));
    return scale;
  }

  // One token's keys, or values, into its head at `to`: element d at to[d * step], scale of block b at scales[b * 16].
  template <class F>
  static LATHE_INLINE void write_head(typename F::Element* to, int64_t step, uint16_t* scales, const float* from,
                                      int64_t head_dim) {
    for (int64_t block = 0; block < head_dim; block += kBlock) {
      const auto lanes = [&](int64_t d) { return head_dim < d + 16 ? static_cast<int>(head_dim - d) : 16; };
      const int count = block + 16 < head_dim ? 2 : 1;
      Floats x[2] = {S::load_partial(from + block, lanes(block)), S::zero()};
      if (count == 2) x[1] = S::load_partial(from + block + 16, lanes(block + 16));
      if constexpr (F::kScaled) scales[block / kBlock * kPageTokens] = quantise(x);
      for (int i = 0; i < count; ++i) {
        typename F::Element elements[16];
        F::store(elements, x[i]);
        const int64_t d = block + i * 16;
        for (int lane = 0; lane < lanes(d); ++lane) to[(d + lane) * step] = elements[lane];
      }
    }
  }

  // k, v (Hk, D) of one token into its slot.
  static void write_token(const AttentionSource& source, int64_t slot, const float* k, const float* v) {
    with_form(source.cache.dtype, [&](auto form) {
      using F = decltype(form);
      using Element = typename F::Element;
      const int64_t page = slot / kPageTokens, offset = slot % kPageTokens, head_dim = source.head_dim;
      for (int64_t h = 0; h < source.kv_heads; ++h, k += head_dim, v += head_dim) {
        const int64_t at = page * source.cache.page_stride + h * source.head_stride;
        auto* keys = reinterpret_cast<Element*>(static_cast<uint8_t*>(source.cache.keys) + at);
        auto* values = reinterpret_cast<Element*>(static_cast<uint8_t*>(source.cache.values) + at);
        uint16_t *key_scales = nullptr, *value_scales = nullptr;
        if constexpr (F::kScaled) {
          key_scales = reinterpret_cast<uint16_t*>(keys + head_dim * kPageTokens) + offset;
          value_scales = reinterpret_cast<uint16_t*>(values + head_dim * kPageTokens) + offset;
        }
        write_head<F>(keys + offset, kPageTokens, key_scales, k, head_dim);
        write_head<F>(values + offset * head_dim, 1, value_scales, v, head_dim);
      }
    });
  }
};

}  // namespace lathe::cpu
