/* Tables that the caller hands over, and what one step derives from them. Counts are of elements, never bytes.

   All lengths come from `run` and `piece`, which plan.py derives from the shape of each weight; the caller has
   checked that weight, gradient and moments have that shape, dtype and strides. Nothing read from a tensor is used as
   an index. */
#ifndef TANGENTIAL_TABLE_H
#define TANGENTIAL_TABLE_H
#include <stdint.h>

enum { PLAIN, KNOWN, TESTED };         /* a run: decay alone, blocks known in advance, the paper's test */
enum { NOTHING, CHANNEL, LAYER };      /* decision of the test, a byte per weight */
enum { WEIGHT, GRAD, FIRST, SECOND, COUNT, PREVIOUS, VOTES, LOW, COLUMNS }; /* columns of the table of addresses */

/* The settings of a parameter group. `beta2` of SGDP is its dampening. Where votes are counted,
   the first `voting_steps` steps have one each. */
typedef struct {
  double sgd, lr, decay, delta, eps, ratio, beta1, beta2, nesterov, sign, voting_steps;
} group;

/* A run: rows that are cut alike. Row `r` is `cols` neighbours from `offset + r * cols` on, and again `stride` further
   for each of `slabs`, so that any dense weight can be cut along any dimension. A row is a block, or, where the paper's
   test decides, a channel. */
typedef struct {
  int64_t weight, group, storage, mode, offset, slabs, stride, rows, cols;
  int64_t keeps;  /* where its rows' factors begin among all factors, if it is projected */
  int64_t sums;   /* where its partial sums begin among all partial sums, if its rows are spread over pieces, else -1 */
  int64_t piece, pieces; /* its pieces: the first, and how many */
} run;

/* A piece: what one thread does in one go. Counts elements of a plain run of one slab, slabs of a run of several,
   slices of rows that are spread over pieces, and rows otherwise. */
typedef struct {
  int64_t run, first, count;
} piece;

/* The numbers of a rule and of line 9 at this step, as the loops over elements want them. Few enough for the registers
   of x86-64, and few operations: the bias correction of v is taken into eps and rate, that of m and what Nesterov
   multiplies m by into rate. So u and rate are not the definition's, but their product is. */
typedef struct {
  float b1, o1, b2, o2;   /* m <- b1 m + o1 g;  v <- b2 v + o2 g g */
  float ahead, eps;       /* u = (m + ahead g) / (sqrt(v) + eps), or without the division */
  float rate, plain;      /* w <- keep w - rate u; keep of a weight that is not projected */
} numbers;

/* A run at this step. */
typedef struct {
  numbers n;
  char *p, *low, *g, *m, *v; /* `low` is p where there are no remainders, and never touched */
  uint8_t *previous;              /* the decision of the last step; overwritten with this one's */
  int32_t *votes;                 /* in how many of the first steps each view fired; 0 without sticky blocks */
  int voting;                     /* this step has a vote */
  double reduced, least;          /* decay of a projected weight, and the eps of norms */
  double row_bound, layer_bound;  /* squares of what the cosines have to stay below */
  float layer;                    /* factor under the layer view */
  int nesterov, predicted, decision;
  int cautious; /* rows are summed before they are moved: the last step was not `calm`, or there was none */
  int waits;    /* the weight is left alone by `apply` and moved by `repair` */
  int stale;    /* `repair` has to visit it */
} state;

/* Sums and flags of the rows of one piece, from `apply` to `decide`. */
typedef struct {
  double ww, gg, wg, wu;
  int64_t below; /* every row's cosine is below its bound */
  int64_t waiting; /* some row has not been moved: see `first_move` */
  int64_t wild;    /* some row's step is not small beside the row: see `calm` */
} finding;

typedef int32_t (*parallel)(int64_t, int64_t, int64_t, void (*)(int64_t, int64_t, void *), void *);

/* One step of a whole list of parameters. Task `t` is the pieces from `bounds[t]` to `bounds[t + 1]`. */
typedef struct {
  int64_t weights, runs, pieces, tasks, keeps, sums;
  const int64_t *addresses; /* COLUMNS columns of `weights` addresses */
  const group *groups;
  const run *run;
  const piece *piece;
  const int64_t *bounds;
  void *scratch; /* tangential_scratch() bytes, zeros before the first step and the caller's to keep */
  parallel threads;
  int64_t *calm; /* of each run, whether its last step was; the only thing here that lives longer than a step */
  state *state;
  finding *finding;
  float *keep;  /* factor of each row, under the channel view */
  float *moved; /* the factor that each row has been moved by, 0 if it has not; behind them those of each slice */
  float *sum;   /* 4 sums of each row and piece of spread rows: ww gg wg wu */
  int64_t *todo;
} job;
#endif
