/*
 * Threads that help the loop's one with work that is only arithmetic. The caller
 * hands out pieces, takes part, and goes on when all are done: nobody else ever
 * sees a thread.
 */
#ifndef MESHWRAP_DAEMON_CRYPTO_WORKERS_H
#define MESHWRAP_DAEMON_CRYPTO_WORKERS_H

#define WORKERS_MAX 16 /* the caller among them */

struct workers;

/*
 * How many threads are of use, the caller among them: those asked for (0: some) as far as
 * there are processors for them. On two, what a helper takes is missing to the program.
 */
unsigned workers_useful(unsigned asked, unsigned cores);

/* count: the caller among them, 2 to WORKERS_MAX. NULL on -ENOMEM or when a thread is refused. */
struct workers *workers_create(unsigned count);
/* NULL is fine. */
void workers_destroy(struct workers *workers);

/*
 * Calls piece for 0 to pieces - 1 (at most 65,535), each once, in no order, lane (below count)
 * telling the threads apart, and returns when all have returned. Not from within a piece.
 */
void workers_run(struct workers *workers, void (*piece)(void *arg, unsigned lane, unsigned i),
		 void *arg, unsigned pieces);

#endif
