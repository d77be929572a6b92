/* Small parts of a file come by way of a piece around them, large ones straight from the kernel. */
#include "preload/program_file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "preload/raw.h"
#include "shared/util.h"

#define SMALL 256

bool program_file_open(int fd, struct program_file *file)
{
	int saved = errno;
	struct stat st;

	file->bytes = NULL;
	file->fd = fd;
	file->piece[0].at = file->piece[1].at = 0;
	file->piece[0].len = file->piece[1].len = 0;
	file->next = 0;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0) {
		errno = saved;
		return false;
	}
	file->len = (size_t)st.st_size;
	return true;
}

struct program_file program_file_of_bytes(const void *bytes, size_t len)
{
	return (struct program_file){ .bytes = bytes, .len = len };
}

static size_t read_fd(int fd, size_t at, void *to, size_t len)
{
	size_t done = 0;
	long n;

	while (done < len) {
		n = raw_syscall(SYS_pread64, fd, (char *)to + done, len - done, at + done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

static bool is_in_piece(const struct program_file *file, unsigned i, size_t at, size_t len)
{
	return at >= file->piece[i].at && at - file->piece[i].at <= file->piece[i].len &&
	       len <= file->piece[i].len - (at - file->piece[i].at);
}

static size_t read_small(struct program_file *file, size_t at, void *to, size_t len)
{
	unsigned i = is_in_piece(file, 0, at, len) ? 0 : 1;

	if (!is_in_piece(file, i, at, len)) {
		i = file->next;
		file->next = !i;
		file->piece[i].at = at;
		file->piece[i].len =
			read_fd(file->fd, at, file->piece[i].bytes, PROGRAM_FILE_PIECE);
	}
	len = MIN(len, file->piece[i].len - (at - file->piece[i].at));
	memcpy(to, file->piece[i].bytes + (at - file->piece[i].at), len);
	return len;
}

size_t program_file_read(struct program_file *file, size_t at, void *to, size_t len)
{
	if (at >= file->len)
		return 0;
	len = MIN(len, file->len - at);
	if (!file->bytes)
		return len <= SMALL ? read_small(file, at, to, len)
				    : read_fd(file->fd, at, to, len);
	memcpy(to, (const char *)file->bytes + at, len);
	return len;
}
