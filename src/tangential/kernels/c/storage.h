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
#endif
