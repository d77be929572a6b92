/*
 * process_vm_readv and process_vm_writev move anything in one call, but are
 * refused when the program has changed its user or has forbidden dumps.
 * PTRACE_PEEKDATA asks only whether we trace it and may dump it, which the
 * program is then made to allow again. PTRACE_POKEDATA also writes to private
 * memory that is read-only to the program, as debuggers need it.
 */
#include "preload/trace_memory.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "preload/trace_task.h"
#include "shared/util.h"

#define WORD sizeof(long)

static bool peek_word(pid_t tid, unsigned long at, long *word)
{
	errno = 0;
	*word = ptrace(PTRACE_PEEKDATA, tid, at, 0);
	return errno == 0;
}

/* Word by word; words that are only partly ours keep their other part. */
static bool peek(pid_t tid, unsigned long from, char *to, size_t len)
{
	size_t skip = from % WORD, n;
	int saved = errno;
	long word;

	for (from -= skip; len; from += WORD, to += n, len -= n, skip = 0) {
		n = MIN(WORD - skip, len);
		if (!peek_word(tid, from, &word))
			return false;
		memcpy(to, (char *)&word + skip, n);
	}
	errno = saved;
	return true;
}

static bool poke(pid_t tid, unsigned long to, const char *from, size_t len)
{
	size_t skip = to % WORD, n;
	int saved = errno;
	long word = 0;

	for (to -= skip; len; to += WORD, from += n, len -= n, skip = 0) {
		n = MIN(WORD - skip, len);
		if (n < WORD && !peek_word(tid, to, &word))
			return false;
		memcpy((char *)&word + skip, from, n);
		if (ptrace(PTRACE_POKEDATA, tid, to, word) < 0)
			return false;
	}
	errno = saved;
	return true;
}

static void allow_dumps(void)
{
	trace_remote(SYS_prctl, (unsigned long[6]){ PR_SET_DUMPABLE, 1 }, TRACE_AT_ONCE);
}

bool trace_read(unsigned long from, void *to, size_t len)
{
	pid_t tid = trace_current()->tid;
	struct iovec mine = { to, len }, its = { (void *)from, len };
	ssize_t n = process_vm_readv(tid, &mine, 1, &its, 1, 0);

	if (n == (ssize_t)len)
		return true;
	if (n >= 0 || (errno != EPERM && errno != ENOSYS))
		return false;
	if (peek(tid, from, to, len))
		return true;
	allow_dumps();
	return peek(tid, from, to, len);
}

bool trace_write(unsigned long to, const void *from, size_t len)
{
	pid_t tid = trace_current()->tid;
	struct iovec mine = { (void *)from, len }, its = { (void *)to, len };
	ssize_t n = process_vm_writev(tid, &mine, 1, &its, 1, 0);

	if (n == (ssize_t)len)
		return true;
	if (n >= 0 || (errno != EPERM && errno != ENOSYS))
		return false;
	return trace_write_sealed(to, from, len);
}

bool trace_write_sealed(unsigned long to, const void *from, size_t len)
{
	pid_t tid = trace_current()->tid;

	if (poke(tid, to, from, len))
		return true;
	allow_dumps();
	return poke(tid, to, from, len);
}
