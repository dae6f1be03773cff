/* SPDX-License-Identifier: BSD-3-Clause */
/* mpi_sum.c - an MPI program that knows nothing of mc: allreduce, a ring, and what it found. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	int rank = -1, size = 0, sum = 0, from = -1;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	if (argc > 2 && strcmp(argv[1], "abort") == 0 && atoi(argv[2]) == rank)
		MPI_Abort(MPI_COMM_WORLD, 9);
	int mine = rank + 1;
	MPI_Allreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	MPI_Sendrecv(&rank, 1, MPI_INT, (rank + 1) % size, 0, &from, 1, MPI_INT, (rank + size - 1) % size, 0,
		     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	printf("rank %d of %d sum %d from %d\n", rank, size, sum, from);
	MPI_Finalize();
	return sum == size * (size + 1) / 2 && from == (rank + size - 1) % size ? 0 : 1;
}
