/* SPDX-License-Identifier: BSD-3-Clause */
/* util.c - the parts of util.h that are not inline. */
#include "util.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "log.h"

uint64_t mc_random_u64(void)
{
	uint64_t v = 0;

	while (v == 0) {
		ssize_t n = getrandom(&v, sizeof(v), 0);

		/* Up to 256 bytes come whole once the pool is seeded; before that a signal may interrupt the wait. */
		if (n == (ssize_t)sizeof(v))
			continue;
		if (n < 0 && errno != EINTR) {
			/* No kernel that this library supports lacks the call; a seccomp filter may forbid it. */
			mc_error("getrandom failed (errno %d); allow this system call in the container's seccomp "
				 "profile",
				 errno);
			if (getentropy(&v, sizeof(v)) != 0)
				v = (uint64_t)mc_now_ns() ^ ((uint64_t)getpid() << 40);
		} else {
			v = 0;
		}
	}
	return v;
}

const char *mc_errno_hint(int err)
{
	switch (err) {
	case EMFILE:
	case ENFILE:
		return " (ulimit -n) [open-files, see mcinfo doctor]";
	case EAGAIN:
		return " (ulimit -u, pids.max) [process-limit, see mcinfo doctor]";
	case ENOMEM:
		return " [memory, see mcinfo doctor]";
	default:
		return "";
	}
}
