//go:build turbo

// Rows are resized as they are decoded, so that a picture is never in memory
// as a whole (a progressive one's coefficients are): what is kept is the rows
// that the next output row is made of, while they are in the cache.
//
// The library calls back when it finds an error or a doubt; both jump to the
// end of aisle_jpeg, past no frame of Go's. Everything is allocated in the
// library's pools, which one call frees.

#include "turbo.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#ifndef LIBJPEG_TURBO_VERSION
#error "libjpeg-turbo is needed: another libjpeg has no RGBX"
#endif

// One binary serves every x86-64: the loader picks the variant by the CPU. They
// add in the same order and fuse nothing, so that each gives the same bits.
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#define VARIANTS __attribute__((target_clones("avx2", "default")))
#else
#define VARIANTS
#endif

// A pixel's R, G, B and padding, at no particular alignment.
typedef float pixel __attribute__((vector_size(16), aligned(4)));

struct failure {
  struct jpeg_error_mgr manager; // first: the library's pointer is one to this
  jmp_buf end;
};

static void fail(j_common_ptr cinfo) { longjmp(((struct failure *)cinfo->err)->end, 1); }

// Level -1 is corrupt data, of which the library would make something.
static void doubt(j_common_ptr cinfo, int level) {
  if (level < 0) fail(cinfo);
}

static void silence(j_common_ptr cinfo) { (void)cinfo; }

enum { block = 32 };

// down sums n rows of len bytes, weighted. A block of sums stays in registers:
// at -O2, for -O3 jams two rows into one pass and leaves it scalar (GCC 12).
VARIANTS
static void down(uint8_t *const *rows, const float *w, int n, float *out, int len) {
  int i = 0;
  for (; i + block <= len; i += block) {
    float sum[block] = {0};
    for (int k = 0; k < n; k++) {
      const uint8_t *row = rows[k] + i;
      for (int j = 0; j < block; j++) sum[j] += w[k] * row[j];
    }
    memcpy(out + i, sum, sizeof sum);
  }
  for (; i < len; i++) {
    float sum = 0;
    for (int k = 0; k < n; k++) sum += w[k] * rows[k][i];
    out[i] = sum;
  }
}

// across resizes a row and writes its numbers.
VARIANTS
static void across(const aisle_job *job, const float *row, const int32_t *lo, const float *w, float *dst) {
  const pixel mul = {job->mul[0], job->mul[1], job->mul[2], 0};
  const pixel add = {job->add[0], job->add[1], job->add[2], 0};
  const pixel luma = {0.299f, 0.587f, 0.114f, 0}; // Rec. 601, as in layout.go
  const int n = job->taps_x;
  for (int x = 0; x < job->columns; x++, w += n, dst += job->dx) {
    const pixel *source = (const pixel *)row + lo[x];
    pixel p = source[0] * w[0];
    for (int k = 1; k < n; k++) p += source[k] * w[k];
    if (job->grey) {
      p *= luma;
      dst[job->colour[0]] = (p[0] + p[1] + p[2]) * job->mul[0] + job->add[0];
      continue;
    }
    p = p * mul + add;
    for (int c = 0; c < 3; c++) dst[job->colour[c]] = p[c];
  }
}

int aisle_jpeg(const aisle_job *job, const uint8_t *data, size_t len,
               const int32_t *lo_x, const float *w_x,
               const int32_t *lo_y, const float *w_y, float *dst) {
  struct jpeg_decompress_struct cinfo;
  struct failure failure;
  memset(&cinfo, 0, sizeof cinfo);
  cinfo.err = jpeg_std_error(&failure.manager);
  failure.manager.error_exit = fail;
  failure.manager.emit_message = doubt;
  failure.manager.output_message = silence;
  if (setjmp(failure.end)) {
    jpeg_destroy_decompress(&cinfo);
    return 1;
  }
  jpeg_create_decompress(&cinfo);
  cinfo.mem->max_memory_to_use = job->memory;
  jpeg_mem_src(&cinfo, data, len);
  jpeg_read_header(&cinfo, TRUE);
  // The weights are for the size that was checked, whatever the library reads.
  if (cinfo.image_width != (JDIMENSION)job->width || cinfo.image_height != (JDIMENSION)job->height) fail((j_common_ptr)&cinfo);
  cinfo.out_color_space = JCS_EXT_RGBX;
  jpeg_start_decompress(&cinfo);

  // Row y of the picture is kept in rows[y % taps_y]; those of one output row
  // are put in order in window.
  const int n = job->taps_y, width = 4 * job->width;
  JSAMPARRAY rows = cinfo.mem->alloc_sarray((j_common_ptr)&cinfo, JPOOL_IMAGE, width, n);
  JSAMPARRAY window = cinfo.mem->alloc_large((j_common_ptr)&cinfo, JPOOL_IMAGE, n * sizeof *window);
  float *row = cinfo.mem->alloc_large((j_common_ptr)&cinfo, JPOOL_IMAGE, width * sizeof *row);
  for (int y = 0; y < job->rows; y++) {
    while (cinfo.output_scanline < (JDIMENSION)(lo_y[y] + n)) jpeg_read_scanlines(&cinfo, &rows[cinfo.output_scanline % n], 1);
    for (int k = 0; k < n; k++) window[k] = rows[(lo_y[y] + k) % n];
    down(window, w_y + (size_t)y * n, n, row, width);
    across(job, row, lo_x, w_x, dst + job->at + y * job->dy);
  }
  // What a crop leaves out is decoded too: a picture is whole or refused.
  while (cinfo.output_scanline < cinfo.output_height) jpeg_read_scanlines(&cinfo, &rows[0], 1);
  jpeg_finish_decompress(&cinfo);
  jpeg_destroy_decompress(&cinfo);
  return 0;
}
