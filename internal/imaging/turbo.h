// A JPEG to a tensor in one call of libjpeg-turbo. See turbo.c.
#ifndef AISLE_TURBO_H
#define AISLE_TURBO_H

#include <stddef.h>
#include <stdint.h>

// aisle_job says what picture is expected and where its numbers go: layout.go.
typedef struct {
  int32_t width, height;    // of the picture, as its header says
  int32_t columns, rows;    // of what is resized, as it is stored
  int32_t taps_x, taps_y;   // weights of each output
  int64_t at, dx, dy;       // the numbers of (x, y) are at + x*dx + y*dy ...
  int64_t colour[3];        // ... and these, for R, G and B
  float mul[3], add[3];     // a number is level*mul + add
  int32_t grey;             // the first is written alone, with the luma
  int64_t memory;           // bytes that libjpeg may take for coefficients
} aisle_job;

// aisle_jpeg decodes data, resizes it by the weights (output i is the sum over
// k of source[lo[i]+k] * w[i*taps+k]) and writes dst. It gives 0, or 1 where
// the library finds the least fault with data or wants more memory; dst is
// then undefined. It keeps nothing.
int aisle_jpeg(const aisle_job *job, const uint8_t *data, size_t len,
               const int32_t *lo_x, const float *w_x,
               const int32_t *lo_y, const float *w_y, float *dst);

#endif
