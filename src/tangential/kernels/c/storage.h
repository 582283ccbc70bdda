/* Reading and writing the storage types; arithmetic is float. No branches, so that loops over them vectorise. */
#ifndef TANGENTIAL_STORAGE_H
#define TANGENTIAL_STORAGE_H
#include <stdint.h>
#include <string.h>

static inline float as_float(uint32_t bits) { float x; memcpy(&x, &bits, sizeof x); return x; }
static inline uint32_t as_bits(float x) { uint32_t bits; memcpy(&bits, &x, sizeof bits); return bits; }

#define SAME(x) (x)

static inline float from_bf16(uint16_t x) { return as_float((uint32_t)x << 16); }

/* to the nearest, ties to even */
static inline uint16_t to_bf16(float x) {
  const uint32_t bits = as_bits(x), rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

static inline float from_f16(uint16_t x) {
  const uint32_t rest = (uint32_t)(x & 0x7fffu) << 13, exponent = rest & 0x0f800000u;
  const uint32_t normal = rest + ((127u - 15u) << 23);
  const uint32_t infinite = normal + ((128u - 16u) << 23);
  /* a subnormal's bits are a fraction of 2^-14: put them behind that exponent, take the exponent's own 1 away */
  const uint32_t subnormal = as_bits(as_float(rest + (113u << 23)) - as_float(113u << 23));
  const uint32_t found = exponent == 0x0f800000u ? infinite : exponent == 0 ? subnormal : normal;
  return as_float(found | (uint32_t)(x & 0x8000u) << 16);
}

/* to the nearest, ties to even */
static inline uint16_t to_f16(float x) {
  const uint32_t bits = as_bits(x), sign = bits & 0x80000000u, size = bits ^ sign;
  const uint32_t special = size > 0x7f800000u ? 0x7e00u : 0x7c00u;
  /* adding 0.5 leaves the rounded subnormal in the lowest bits */
  const uint32_t subnormal = as_bits(as_float(size) + as_float(126u << 23)) - (126u << 23);
  const uint32_t normal = (size - ((127u - 15u) << 23) + 0xfffu + ((size >> 13) & 1u)) >> 13;
  const uint32_t found = size >= (127u + 16u) << 23 ? special : size < 113u << 23 ? subnormal : normal;
  return (uint16_t)(found | sign >> 16);
}

/* A float32 in two halves: the upper 16 bits, rounded, and the rest. Where the rest belongs to another weight, and
   would make a NaN of a zero or an infinity, it is 0. */
static inline float join_bf16(uint16_t upper, int16_t low) {
  const uint32_t size = upper & 0x7fffu, foreign = (size == 0) & (low < 0) | (size == 0x7f80u) & (low > 0);
  return as_float(((uint32_t)upper << 16) + (foreign ? 0 : (uint32_t)(int32_t)low));
}

static inline void part_bf16(float x, uint16_t *upper, int16_t *low) {
  const uint32_t bits = as_bits(x), nan = (bits & 0x7fffffffu) > 0x7f800000u;
  *upper = (uint16_t)(nan ? 0x7fc0u : (bits + 0x8000u) >> 16);
  *low = (int16_t)(nan ? 0 : bits);
}

/* 2^-16 of the distance from a float16 number to the next one away from zero */
static inline float unit_f16(uint16_t x) {
  const uint32_t exponent = x >> 10 & 0x1fu, least = exponent < 1 ? 1 : exponent;
  return as_float(((least > 30 ? 30 : least) - 41u + 127u) << 23);
}

static inline float join_f16(uint16_t x, int16_t low) {
  const float rest = (x & 0x7c00u) == 0x7c00u ? 0 : (float)low;
  return from_f16(x) + rest * unit_f16(x);
}

static inline void part_f16(float x, uint16_t *near, int16_t *low) {
  const uint16_t found = to_f16(x);
  const float rest = (x - from_f16(found)) / unit_f16(found);
  /* to the nearest integer, by adding 1.5 * 2^23; of infinities and NaNs, what is left is 0 */
  const float inside = rest > 32767 ? 32767 : rest < -32768 ? -32768 : rest;
  const float whole = inside + 12582912.0f - 12582912.0f;
  *near = found;
  *low = (int16_t)((found & 0x7c00u) == 0x7c00u ? 0 : (int32_t)whole);
}
#endif
