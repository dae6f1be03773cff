/* SPDX-License-Identifier: BSD-3-Clause */
#include "commands.h"
#include "sweep.h"

int bw_main(int argc, char **argv)
{
	return sweep_main(argc, argv, false);
}
