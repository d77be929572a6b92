/* Each rank passes 8 MB round the ring, all sum a vector, and rank 0 prints who took part. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES  8000000
#define VALUES 100000

int main(int argc, char **argv)
{
	static double values[VALUES], sums[VALUES];
	int rank, size;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	unsigned char *ring = malloc(BYTES);
	int next = (rank + 1) % size, before = (rank + size - 1) % size;
	for (int i = 0; i < BYTES; i++)
		ring[i] = (unsigned char)(i * 31 + i / 255);
	unsigned char *first = malloc(BYTES);
	memcpy(first, ring, BYTES);
	if (rank == 0)
		MPI_Send(ring, BYTES, MPI_BYTE, next, 0, MPI_COMM_WORLD);
	memset(ring, 0, BYTES);
	MPI_Recv(ring, BYTES, MPI_BYTE, before, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	if (rank != 0)
		MPI_Send(ring, BYTES, MPI_BYTE, next, 0, MPI_COMM_WORLD);
	if (memcmp(ring, first, BYTES) != 0)
		MPI_Abort(MPI_COMM_WORLD, 2);
	for (int i = 0; i < VALUES; i++)
		values[i] = i + rank;
	MPI_Allreduce(values, sums, VALUES, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
	for (int i = 0; i < VALUES; i++)
		if (sums[i] != (double)size * i + size * (size - 1) / 2)
			MPI_Abort(MPI_COMM_WORLD, 3);
	if (rank == 0)
		printf("ring of %d\n", size);
	MPI_Finalize();
	return 0;
}
