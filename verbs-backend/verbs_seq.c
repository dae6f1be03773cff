/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_seq.c - packets of a link are numbered over all its rails; after a rail has failed some come a second time, and
 * over several rails they come out of order. Pure.
 */
#include "verbs_pure.h"

enum vb_win_result mc_vb_win_put(struct vb_win *w, uint64_t seq)
{
	uint64_t bit = seq % VB_WIN_MAX;

	if (seq < w->next)
		return VB_WIN_AGAIN;
	if (seq - w->next >= VB_WIN_MAX)
		return VB_WIN_BAD;
	if (w->have[bit / 64] & UINT64_C(1) << bit % 64)
		return VB_WIN_AGAIN;
	w->have[bit / 64] |= UINT64_C(1) << bit % 64;
	return VB_WIN_NEW;
}

bool mc_vb_win_take(struct vb_win *w, uint64_t *seq_out)
{
	uint64_t bit = w->next % VB_WIN_MAX;

	if (!(w->have[bit / 64] & UINT64_C(1) << bit % 64))
		return false;
	w->have[bit / 64] &= ~(UINT64_C(1) << bit % 64);
	*seq_out = w->next++;
	return true;
}
