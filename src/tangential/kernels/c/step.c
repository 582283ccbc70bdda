/* One step of SGDP and AdamP (arXiv 2006.08217) for a whole list of parameters; what algorithm.py defines, in one pass.

   The paper's test needs sums over a weight before any of it may move, which would make two passes. So:

     apply    moves every weight as the last decision predicts, and leaves four sums per row behind
     gather   adds up the sums of rows that several pieces share
     decide   makes the test of every weight, from the sums
     repair   moves what was predicted wrong to where the decision wants it, without a second copy of the weight:
              with k = wanted / used factor,  wanted w - rate u  =  k (used w - rate u) - rate (1 - k) u

   A repair multiplies the rounding of `used w - rate u` by k, and where a step is long beside its weight nothing bounds
   k. So a row whose factor is not near 1 waits, unmoved, for `repair` (`first_move`). To know the factor first costs a
   second visit to the row, in the cache. Where the plain step is predicted, `apply` makes it only if the last step of
   the weight, or the first row of a piece, was not `calm`: at the first step, and after any sudden change.

   Known blocks need no prediction; rows too long for a cache are summed first, and moved by `repair`.
   The caller brings the threads. A thread takes whole pieces, and what a piece computes depends on nothing that another
   thread does, so that the number of threads does not change a bit. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#include "storage.h"
#include "table.h"

#define UNIT 4096   /* elements of short rows that share one pass */
#define SOME 512    /* rows that are not short and share one pass */
#define SHORT 64    /* rows shorter than this share a pass for their moments */
#define SHORTEST 16 /* rows shorter than this are summed without vectors */
#define TURN 1024   /* rows longer than this leave no room for another in the first cache */
#define LONG 16384  /* rows longer than this are cut into slices; plan.py knows this number too */
#define HEAD 128    /* elements of a long row that are fetched while the one before is moved */
#define LINE 64     /* bytes of a cache line */

#define FETCH(x, write) __builtin_prefetch(x, write, 3)
#define PRAGMA(x) _Pragma(#x)
#define SIMD PRAGMA(omp simd)
#define SIMD_SUM(...) PRAGMA(omp simd reduction(+ : __VA_ARGS__))
/* A loop is compiled once, on its own: gcc vectorises a clone it made for one caller, or does not, as it pleases. */
#if defined(__has_attribute) && __has_attribute(noipa)
#define LOOP static __attribute__((noipa, unused)) void
#else
#define LOOP static __attribute__((noinline, unused)) void
#endif
#define GLUE(x, rule, pair) x##_##rule##_##pair
#define GLUED(x, rule, pair) GLUE(x, rule, pair)
#define NAME(x) GLUED(x, RULE, PAIR)

/* The factor of line 9 on a projected block: decay and projection in one number. A block that has no length, or one
   whose length overflowed, has no radial part. */
static inline float factor(double reduced, double rate, double eps, double ww, double wu) {
  const int has_length = ww > 0 && ww < INFINITY;
  const double length = sqrt(has_length ? ww : 1) + eps;
  return (float)(reduced + (has_length ? rate * (wu / (length * length)) : 0));
}

/* Whether |cos(w, g)| is below the bound, whose square is given. Sums that overflowed say nothing of the angle. */
static inline int64_t below(const state *s, double bound, double ww, double gg, double wg) {
  const double least = s->least * s->least;
  return ww < INFINITY && gg < INFINITY && wg * wg < bound * (ww > least ? ww : least) * (gg > least ? gg : least);
}

/* Whether a factor is far from any that would make its row wait: then the others of its weight are taken for such, too.
   False for NaN. */
static inline int calm(float keep) { return fabsf(keep - 1) <= 0.25f; }

/* The factor that a row is moved by before the decision, or 0 if it waits for it. `used` could not be divided out again
   if it shrank a row to nothing, and `channel`, which may be wanted, is large where the step is longer than the row:
   k is at most 8, and 2 without decay. False for NaN. */
static inline float first_move(float used, float channel) {
  return fabsf(used) >= 0.25f && fabsf(used) <= 2 && fabsf(channel) <= 2 ? used : 0;
}

/* The factor of a row from its sums, and what to move it by, 1 and 0 if it waits: `w <- first w - second u`. */
typedef struct {
  float first, second;
} pair;

static inline pair held(const state *s, const float *sums, float *found, float *moved) {
  *found = factor(s->reduced, s->n.rate, s->least, sums[0], sums[3]);
  if (!s->previous) return (pair){*found, s->n.rate};
  *moved = first_move(s->predicted == CHANNEL ? *found : s->n.plain, *found);
  return *moved ? (pair){*moved, s->n.rate} : (pair){1, 0};
}

/* The factors of rows, from their sums. */
static inline void factors(const state *s, int64_t rows, const float *restrict sums, float *restrict found) {
  const double reduced = s->reduced, rate = s->n.rate, eps = s->least;
  SIMD
  for (int64_t i = 0; i < rows; i++) found[i] = factor(reduced, rate, eps, sums[4 * i], sums[4 * i + 3]);
}

/* What `decide` needs of rows, from their sums. */
static inline void note(const state *s, int64_t rows, const float *restrict sums, const float *restrict keep,
                        const float *restrict moved, finding *restrict f) {
  finding all = *f;
  for (int64_t i = 0; i < rows; i++, sums += 4) {
    all.below &= below(s, s->row_bound, sums[0], sums[1], sums[2]);
    all.ww += sums[0], all.gg += sums[1], all.wg += sums[2], all.wu += sums[3];
    all.waiting |= moved[i] == 0, all.wild |= !calm(keep[i]);
  }
  *f = all;
}

/* The factor that the decision wants on a row. */
static inline float wanted(const state *s, float channel) {
  return s->decision == CHANNEL ? channel : s->decision == LAYER ? s->layer : s->n.plain;
}

/* Rows in slices: how many a row has, and where the one of this number begins and how long it is. */
static inline int64_t slices(const run *r) { return (r->cols + LONG - 1) / LONG; }

static inline int64_t begin(const run *r, int64_t q) { return q / slices(r) * r->cols + q % slices(r) * LONG; }

static inline int64_t length(const run *r, int64_t q) {
  const int64_t left = r->cols - q % slices(r) * LONG;
  return left < LONG ? left : LONG;
}

#define NUMBERS(k)                                                                                                    \
  const float b1 = k->b1, o1 = k->o1, b2 = k->b2, o2 = k->o2, ahead = k->ahead, eps = k->eps;                         \
  const float rate = k->rate, plain = k->plain;                                                                       \
  (void)b1, (void)o1, (void)b2, (void)o2, (void)ahead, (void)eps, (void)rate, (void)plain

#define RULE adam
#define CHEAP 0 /* whether a direction costs less to work out again than to keep, for long rows */
#define ADVANCE                                                                                                       \
  m[i] = STORE_M(b1 * LOAD_M(m[i]) + o1 * x), v[i] = STORE_M(b2 * LOAD_M(v[i]) + o2 * (x * x));                        \
  const float u = (LOAD_M(m[i]) + ahead * x) / (sqrtf(LOAD_M(v[i])) + eps);
#define DIRECTION(gradient) (LOAD_M(m[i]) + (gradient)) / (sqrtf(LOAD_M(v[i])) + eps)
#include "rule.inc"
#undef RULE
#undef CHEAP
#undef ADVANCE
#undef DIRECTION

#define RULE sgd
#define CHEAP 1
#define ADVANCE                                                                                                       \
  m[i] = STORE_M(b1 * LOAD_M(m[i]) + o1 * x);                                                                         \
  const float u = LOAD_M(m[i]) + ahead * x; (void)v;
#define DIRECTION(gradient) LOAD_M(m[i]) + (gradient)
#include "rule.inc"

typedef struct {
  void (*apply)(const job *, const piece *, finding *);
  void (*repair)(const job *, const piece *);
} passes;

/* by rule, then by storage as plan.py numbers it */
#define PASS(rule, pair) {apply_##rule##_##pair, repair_##rule##_##pair}
#define PASSES_OF(rule)                                                                                               \
  {PASS(rule, f32_f32), PASS(rule, f16_f32), PASS(rule, bf16_f32), PASS(rule, bf16_bf16), PASS(rule, f16r_f32),       \
   PASS(rule, bf16r_f32), PASS(rule, bf16r_bf16)}
static const passes PASSES[2][7] = {PASSES_OF(adam), PASSES_OF(sgd)};

static const passes *passes_of(const job *j, const run *r) {
  return &PASSES[j->groups[r->group].sgd != 0][r->storage];
}

#include "phases.inc"
